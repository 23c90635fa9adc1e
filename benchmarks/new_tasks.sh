#!/usr/bin/env bash
# Fine-tuning on tasks the base has not seen: records, trains a base on six tasks, ablates on three others.
#   bash benchmarks/new_tasks.sh FOLDER        about two hours on two CPU cores; what is finished is not done again
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
ablate short --variants $parts fast wide image_labels plain_together adapter_together full_together
ablate fast --svms-rate 5 --variants $parts no_dropout wide image_labels
ablate long --svms-rate 5 --max-steps 180 180 360 --rollouts 5 --tasks "${new[@]}" --variants $parts no_dropout
for factor in 0.5 2 5; do
  rates=$(python -c "print(*(f'{$factor * rate:g}' for rate in (1e-3, 1e-3, 2e-4)))")
  ablate "plain_x$factor" --learning-rate $rates --variants plain
done
