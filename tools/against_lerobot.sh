#!/usr/bin/env bash
# LeRobot itself reads, trains on, edits, merges and appends to what we write, and we read what it writes; then its own
# commands train, resume and evaluate our policy, and its rollouts drive our kitchen: the tests of plugins/, beside the
# newest LeRobot.
#   bash tools/against_lerobot.sh [FOLDER]
# FOLDER (default: a new one) gets an environment for each LeRobot, about 7 GB (used again when it is there), the sets,
# what LeRobot printed, table.md and plugins.txt. Fails when a check does. About 20 minutes on two cores, building aside.
# PYTHON is ours (default .venv/bin/python); PYTHON311 and PYTHON312 build the two environments, one that is missing is
# left out. LeRobot decodes with torchcodec, which needs FFmpeg's shared libraries (Debian: apt-get install ffmpeg).
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$(mktemp -d)}
mkdir -p "$folder" && folder=$(cd "$folder" && pwd)
ours=${PYTHON:-$here/.venv/bin/python}

against() { # NAME INTERPRETER REQUIREMENT
  local name=$1 python=$2 requirement=$3 env=$folder/env-$1 work=$folder/$1
  command -v "$python" >/dev/null || { echo "no $python: LeRobot $name is left out" >&2; return 0; }
  if [ ! -e "$env/ready" ]; then
    "$python" -m venv --clear "$env"
    "$env/bin/python" -m pip install --quiet --no-cache-dir "$requirement"
    touch "$env/ready"
  fi
  rm -rf "$work" && mkdir "$work"
  "$ours" "$here/tools/lerobot_ours.py" write "$work"
  env -u PYTHONPATH HF_HUB_OFFLINE=1 HF_HOME="$work/hub" HF_LEROBOT_HOME="$work/hub/lerobot" \
    "$env/bin/python" "$here/tools/lerobot_theirs.py" "$work" >"$work/lerobot.log" 2>&1
  "$ours" "$here/tools/lerobot_ours.py" read "$work"
}

plugins() { # NAME; mink asks for a numpy that LeRobot does not take, so the simulator comes without its dependencies
  local pip="$folder/env-$1/bin/python -m pip install --quiet --no-cache-dir"
  [ -e "$folder/env-$1/ready" ] || return 0
  if [ ! -e "$folder/env-$1/plugins" ]; then
    $pip --editable "$here[tokenizer]" --editable "$here/plugins/lerobot_policy_svms_gr00t[n1d7]" \
      --editable "$here/plugins/lerobot_env_svms_kitchen" pytest pytest-timeout hypothesis beartype
    $pip numba qpsolvers quadprog pynput PyOpenGL glfw absl-py 'etils[epath]'
    $pip --no-deps robosuite==1.5.2 mujoco==3.3.1 mink==0.0.5
    touch "$folder/env-$1/plugins"
  fi
  (cd "$here" && env -u PYTHONPATH OMP_NUM_THREADS=1 "$folder/env-$1/bin/python" -m pytest -p no:cacheprovider \
    --no-skips-of sim,tokenizer plugins/lerobot_policy_svms_gr00t/tests plugins/lerobot_env_svms_kitchen/tests) | tee "$folder/plugins.txt"
}

against 0.4.4 "${PYTHON311:-python3.11}" lerobot==0.4.4
against newest "${PYTHON312:-python3.12}" 'lerobot[dataset,training]'
"$ours" "$here/tools/lerobot_ours.py" table "$folder"
plugins newest
