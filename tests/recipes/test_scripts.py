"""The shell scripts start the phase they name, with what the environment says; `make lock` writes hashes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
LOCK = SCRIPTS.parent / "tools" / "lock.py"
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


def test_a_pip_report_becomes_requirements_that_pip_takes_by_their_hashes(tmp_path: Path) -> None:
    def item(name: str, **source: object) -> dict[str, object]:
        return {"metadata": {"name": name, "version": "1.0"}, "download_info": {"url": "u", **source}}

    def lock(*items: dict[str, object]) -> subprocess.CompletedProcess[str]:
        report = json.dumps({"install": items})
        return subprocess.run([sys.executable, LOCK], input=report, capture_output=True, text=True, check=False)

    hashed = {"archive_info": {"hashes": {"sha256": "ab" * 32}}}
    done = lock(item("zeta", **hashed), item("Alpha", **hashed), item("svms-gr00t", dir_info={"editable": True}))
    assert done.stdout.splitlines()[1:] == [f"{name}==1.0 --hash=sha256:{'ab' * 32}" for name in ("Alpha", "zeta")]
    bare = lock(item("zeta", archive_info={}))
    assert bare.returncode == 1
    assert "no SHA-256 of zeta==1.0" in bare.stderr
    assert not bare.stdout
