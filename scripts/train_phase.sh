#!/usr/bin/env bash
# One phase of SVMS training from environment variables; the three train_svms_robocasa_phase*.sh call it.
set -euo pipefail
phase=$1
shift
: "${DATASET_PATH:?set DATASET_PATH to a LeRobot dataset with meta/modality.json}"
arguments=(
  train --phase "$phase"
  --dataset-path "$DATASET_PATH"
  --preset "${PRESET:-n1d6}"
  --output-dir "${OUTPUT_DIR:-runs/svms_robocasa}"
)
base=${BASE_MODEL-nvidia/GR00T-N1.6-3B}
[[ -n $base ]] && arguments+=(--base-model-path "$base")
[[ -n ${GLOBAL_BATCH_SIZE:-} ]] && arguments+=(--global-batch-size "$GLOBAL_BATCH_SIZE")
own=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin
if ! command -v svms-gr00t >/dev/null && [[ -x $own/svms-gr00t ]]; then
  PATH=$own:$PATH # what `make env` has installed, without activating it
fi
if [[ -z ${LAUNCH:-} ]] && ! command -v svms-gr00t >/dev/null; then
  echo "error: svms-gr00t is not on the PATH, and not in $own; run \`make env\`, or activate its environment" >&2
  exit 2
fi
# Runs are watched where a project is named.
[[ -n ${WANDB_PROJECT:-} ]] && arguments+=(--tracker wandb)
# LAUNCH is split into words on purpose: it is a command with its arguments.
# shellcheck disable=SC2086
exec ${LAUNCH:-svms-gr00t} "${arguments[@]}" "$@"
