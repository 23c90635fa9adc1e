#!/usr/bin/env bash
# Phase 1, specialise: SVMS alone.
# Takes DATASET_PATH, and optionally BASE_MODEL, OUTPUT_DIR, GLOBAL_BATCH_SIZE and PRESET; flags go to svms-gr00t train.
# Many GPUs: LAUNCH="accelerate launch --num_processes 8 -m svms_gr00t" and this script.
set -euo pipefail
exec "$(dirname "$0")/train_phase.sh" 1 "$@"
