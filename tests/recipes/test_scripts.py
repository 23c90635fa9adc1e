"""The shell scripts start the phase they name, with what the environment says."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAMES = {1: "train_svms_robocasa_phase1_poc.sh", 2: "train_svms_robocasa_phase2.sh", 3: "train_svms_robocasa_phase3.sh"}


def said(script: str, *extra: str, **env: str) -> subprocess.CompletedProcess[str]:
    """What the script would start."""
    command = [str(SCRIPTS / script), *extra]
    return subprocess.run(
        command, env=os.environ | {"LAUNCH": "echo"} | env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("phase", NAMES)
def test_a_script_starts_its_phase(phase: int) -> None:
    done = said(NAMES[phase], "--seed", "3", DATASET_PATH="my data", GLOBAL_BATCH_SIZE="12", BASE_MODEL="base")
    assert f"train --phase {phase} --dataset-path my data" in done.stdout
    assert "--base-model-path base --global-batch-size 12 --seed 3" in done.stdout


def test_without_a_dataset_it_says_so() -> None:
    env = {key: value for key, value in os.environ.items() if key != "DATASET_PATH"}
    done = subprocess.run([str(SCRIPTS / NAMES[1])], env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "set DATASET_PATH" in done.stderr
