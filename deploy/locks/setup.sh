#!/usr/bin/env bash
# setup.sh TARGET PYTHON VENV: makes VENV from requirements-TARGET.lock and checks that torch is the
# build that TARGET needs. Packages come from whatever index pip is set up for on this machine.
set -euo pipefail
target=$1 python=$2 venv=$3
lock=requirements-$target.lock

[ -f "$lock" ] || { echo "setup: there is no $lock; TARGET is cpu or gpu." >&2; exit 2; }
command -v "$python" >/dev/null || {
  echo "setup: $python was not found; install Python 3.11, or name it: make setup PYTHON=/path/to/python3.11" >&2
  exit 2
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pin() { grep -E "^$1==" "$lock"; }

# torch first and alone: a wrong build is then found in seconds, before anything else is fetched.
"$venv/bin/pip" install --quiet --no-deps "$(pin torch)" "$(pin uv)"
# The build is read off the installed files: a CUDA torch cannot be imported without its libraries.
build=$("$venv/bin/python" - <<'PY'
import pathlib, re, sysconfig
text = (pathlib.Path(sysconfig.get_paths()["purelib"]) / "torch" / "version.py").read_text()
cuda = re.search(r"^cuda[^=]*= *(.*)$", text, re.M)
print("cpu" if cuda is None or cuda.group(1).strip() == "None" else "gpu")
PY
)
if [ "$build" != "$target" ]; then
  "$venv/bin/pip" uninstall --quiet --yes torch
  if [ "$target" = cpu ]; then
    echo "setup: the index of this machine offers the CUDA build of $(pin torch); point PIP_EXTRA_INDEX_URL at PyTorch's index of CPU builds (pytorch.org, 'Get Started', Compute Platform: CPU) and run make setup again, or use make setup TARGET=gpu on a GPU machine." >&2
  else
    echo "setup: the index of this machine offers a CPU build of $(pin torch); unset PIP_FIND_LINKS and PIP_EXTRA_INDEX_URL so that the CUDA build is found, and run make setup again, or use make setup TARGET=cpu." >&2
  fi
  exit 2
fi
# The lock is complete, and --no-deps keeps out what it leaves out on purpose (see override-*.txt).
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --requirement "$lock"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .

# Every engine and worker is a process of its own. Where Python may not write its bytecode, each would compile its thousands
# of modules anew: a second for Ray, six for lm-eval and transformers. Some packages hold templates, which do not compile.
"$venv/bin/python" -m compileall -qq -j 0 -x '/tests?/' "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')" || true
