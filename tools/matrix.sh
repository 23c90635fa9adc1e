#!/usr/bin/env bash
# An environment for each Python that is here (3.11, 3.12, 3.13), one of 3.12 with LeRobot 0.6.1, and the tests in each, or
# the tests that the arguments name.
#
#   tools/matrix.sh                                    everything
#   PYTHONS=3.12 tools/matrix.sh tests/core tests/data
#
# Environments stay in $MATRIX (.matrix) for the next time. Versions are those of constraints.txt; its numpy has no build
# for 3.13, where pip chooses, and where the simulator stays out (its mink needs that numpy). Which build of PyTorch comes,
# for CPU or CUDA, is what pip's own settings offer for that Python. Beside LeRobot its pins decide (PyTorch below 2.12,
# transformers 5.5), without constraints and without the simulator. What was not found is named in the end.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${MATRIX:-.matrix}
mkdir -p "$folder"
summary=()
failed=0

python_of() {  # the interpreter of a version, also where pyenv holds it without having chosen it
  local found
  for found in "$(command -v "python$1")" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
    [[ -x $found ]] && "$found" -c "import sys; sys.exit(sys.version_info[:2] != (${1/./, }))" 2>/dev/null && echo "$found" && return
  done
  return 1
}

for version in ${PYTHONS:-3.11 3.12 3.13 3.12+lerobot}; do
  if ! python=$(python_of "${version%+lerobot}"); then
    summary+=("$version: no interpreter here")
    continue
  fi
  env=$folder/$version constraints=$folder/constraints-$version.txt extras=sim,tokenizer,dev first=torch
  cp constraints.txt "$constraints"
  if [[ $version == 3.13 ]]; then
    grep -v '^numpy==' constraints.txt > "$constraints"
    extras=tokenizer,dev
  elif [[ $version == *+lerobot ]]; then
    : > "$constraints"
    extras=tokenizer,dev first='lerobot[transformers-dep]==0.6.1'
  fi
  if [[ ! -e $env/.ready || pyproject.toml -nt $env/.ready || constraints.txt -nt $env/.ready ]]; then
    "$python" -m venv "$env" \
      && "$env/bin/python" -m pip install --quiet --constraint "$constraints" "$first" \
      && "$env/bin/python" -m pip install --quiet --constraint "$constraints" "$first" --editable ".[$extras]" \
      && touch "$env/.ready" \
      || { summary+=("$version: the environment failed"); failed=1; continue; }
  fi
  OMP_NUM_THREADS=1 "$env/bin/python" -m pytest -p no:cacheprovider "$@"
  code=$?
  ((code)) && failed=1
  summary+=("$version: pytest exit $code")
done
printf '%s\n' "${summary[@]}"
exit "$failed"
