#!/usr/bin/env bash
# lock.sh: generates requirements-cpu.lock and requirements-gpu.lock from pyproject.toml (`make lock`).
set -euo pipefail
for target in cpu gpu; do
  overrides=(--override deploy/locks/override-any.txt)
  [ "$target" = cpu ] && overrides+=(--override deploy/locks/override-cpu.txt)
  .venv/bin/uv pip compile pyproject.toml --extra "$target" --extra dev --extra demo \
    --python-version 3.11 --python-platform x86_64-manylinux_2_28 "${overrides[@]}" \
    --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
    --quiet --output-file "requirements-$target.lock"
done
