#!/usr/bin/env bash
# setup.sh TARGET PYTHON VENV: creates VENV from requirements-TARGET.lock and checks that torch is the
# build for TARGET. Packages come from pip's configured index. TORCH_BACKEND (cpu, cu130 ...)
# selects one of PyTorch's builds through uv; without it torch comes from the same index as the other packages, and
# the CPU build from PyTorch's index if that index has none or no index is configured.
set -euo pipefail
target=$1 python=$2 venv=$3
lock=requirements-$target.lock

[ -f "$lock" ] || { echo "setup: there is no $lock; TARGET is cpu or gpu." >&2; exit 2; }
command -v "$python" >/dev/null || {
  echo "setup: $python was not found; install Python 3.11, or name it: make setup PYTHON=/path/to/python3.11" >&2
  exit 2
}
if [ "$target" = gpu ]; then
  # Triton compiles C against Python's headers when an engine starts with a new kernel.
  command -v "${CC:-gcc}" >/dev/null || command -v clang >/dev/null || {
    echo "setup: no C compiler was found, and Triton needs one when an engine starts; install gcc (Debian, Ubuntu: apt-get install gcc), or name one in CC." >&2
    exit 2
  }
  headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
  [ -f "$headers/Python.h" ] || {
    echo "setup: $headers/Python.h is missing, and Triton needs it when an engine starts; install Python's headers (Debian, Ubuntu: apt-get install python3.11-dev), or name a Python that has them: make setup TARGET=gpu PYTHON=/path/to/python3.11" >&2
    exit 2
  }
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1) || driver=
  case $driver in
    [0-9]*) [ "${driver%%.*}" -ge 580 ] || echo "setup: NVIDIA driver $driver is too old: the set-up goes on, but engines need driver 580 or newer (CUDA 13)." >&2 ;;
    *) echo "setup: no NVIDIA driver answers on this machine: the set-up goes on, but engines need driver 580 or newer (CUDA 13)." >&2 ;;
  esac
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pin() { grep -E "^$1==" "$lock"; }

"$venv/bin/pip" install --quiet --no-deps "$(pin uv)"
backend=${TORCH_BACKEND-}
# Not as a pipe: grep closes it at the first match, and pip and with it the pipe would fail.
settings=$("$venv/bin/pip" config list)
if [ "$target" = cpu ] && [ -z "${TORCH_BACKEND+set}" ] && ! grep -qE '(index-url|find-links)=' <<<"$settings"; then
  # The public index only offers a CUDA build of torch.
  backend=cpu
fi
install_torch() {
  if [ -n "$backend" ]; then
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --torch-backend "$backend" "$(pin torch)"
  else
    "$venv/bin/pip" install --quiet --no-deps "$(pin torch)"
  fi
}
# Read the build from the installed files: a CUDA torch cannot be imported without its libraries.
installed_build() {
  "$venv/bin/python" - <<'PY'
import pathlib, re, sysconfig
text = (pathlib.Path(sysconfig.get_paths()["purelib"]) / "torch" / "version.py").read_text()
cuda = re.search(r"^cuda[^=]*= *(.*)$", text, re.M)
print("cpu" if cuda is None or cuda.group(1).strip() == "None" else "gpu")
PY
}
# Install torch first and alone, to detect a wrong build before any other download.
build=none
install_torch && build=$(installed_build)
if [ "$target" = cpu ] && [ "$build" = gpu ] && [ -z "$backend" ]; then
  echo "setup: the index of this machine offers the CUDA build of $(pin torch); taking PyTorch's own CPU build." >&2
  "$venv/bin/pip" uninstall --quiet --yes torch
  build=none backend=cpu
  install_torch && build=$(installed_build)
fi
if [ "$build" != "$target" ]; then
  [ "$build" = none ] || "$venv/bin/pip" uninstall --quiet --yes torch
  if [ "$target" = cpu ]; then
    echo "setup: no CPU build of $(pin torch) could be had, neither from the index of this machine nor from PyTorch's index of CPU builds; point PIP_EXTRA_INDEX_URL at one that has it (PyTorch's: pytorch.org, 'Get Started', Compute Platform: CPU) and run make setup again, or use make setup TARGET=gpu on a GPU machine." >&2
  elif [ "$build" = none ]; then
    echo "setup: $(pin torch) could not be installed; the lines above say why." >&2
  else
    echo "setup: the index of this machine offers a CPU build of $(pin torch); unset PIP_FIND_LINKS and PIP_EXTRA_INDEX_URL so that the CUDA build is found, and run make setup again, or use make setup TARGET=cpu." >&2
  fi
  exit 2
fi
# The lock is complete; --no-deps prevents the installation of excluded packages (see override-*.txt).
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --requirement "$lock"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .

# Engines and workers are separate processes. If Python cannot write bytecode, each compiles thousands of modules:
# a second for Ray, six for lm-eval and transformers. Some packages contain templates, which do not compile.
"$venv/bin/python" -m compileall -qq -j 0 -x '/tests?/' "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')" || true
