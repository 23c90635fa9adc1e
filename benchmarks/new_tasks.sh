#!/usr/bin/env bash
# Fine-tuning on tasks the base has not seen: records, trains a base on six tasks, ablates on three others.
#   bash benchmarks/new_tasks.sh FOLDER        about three hours on two CPU cores; what is finished is not done again
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "${1:?name a folder}" && cd "$1"
export OMP_NUM_THREADS=1
new=(CloseDrawer TurnOnSinkFaucet PickPlaceCounterToBowl)
seen=(OpenDrawer TurnOnStove TurnOffStove StartCoffeeMachine TurnOffSinkFaucet PickFood)
record() { [ -d "$1" ] || svms-gr00t sim record --output-dir "$1" --image-size 96 --workers 2 "${@:2}"; }
record new --tasks "${new[@]}" --episodes 54 --seed 4000
record seen --tasks "${seen[@]}" --episodes 300 --seed 3000
[ -d base ] || python "$here/tools/train_tiny_base.py" seen base --steps 3000 --learning-rate 0.001 --seed 0

ablate() { svms-gr00t ablate --recipe tiny --dataset-path new --base base --seeds 5 --output-dir "$@"; }
parts="plain adapter no_aux no_sheaf_loss no_correction uniform_router shuffled_labels full"
few="plain adapter full no_dropout"
long=(--max-steps 180 180 360 --rollouts 5 --tasks "${new[@]}")
best=(--learning-rate 0.002 0.002 0.0004)
ablate A --variants $parts fast wide image_labels plain_together adapter_together full_together
ablate B --svms-rate 5 --variants $parts no_dropout wide image_labels
ablate C_half --learning-rate 0.0005 0.0005 0.0001 --variants plain
ablate C_five --learning-rate 0.005 0.005 0.001 --variants plain
ablate C_twice "${best[@]}" --svms-rate 2.5 --variants $few
ablate C_twice_and_more "${best[@]}" --svms-rate 5 --variants $few
ablate D --svms-rate 5 "${long[@]}" --variants $parts no_dropout
ablate E "${best[@]}" --svms-rate 2.5 "${long[@]}" --variants $few
