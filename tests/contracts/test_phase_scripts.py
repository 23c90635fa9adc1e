"""The phase scripts find the command: on the PATH, or where `make env` has installed it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SAYS = '#!/usr/bin/env bash\necho {name} "$@"\n'


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with our scripts, and no command anywhere."""
    shutil.copytree(SCRIPTS, tmp_path / "clone" / "scripts")
    return tmp_path / "clone"


def command(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "svms-gr00t").write_text(SAYS.format(name=name))
    (folder / "svms-gr00t").chmod(0o755)
    return folder


def phase_2(clone: Path, path: str = "/usr/bin:/bin", **more: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": path, "DATASET_PATH": "demos", "BASE_MODEL": ""} | more
    script = clone / "scripts" / "train_svms_robocasa_phase2.sh"
    return subprocess.run(
        ["bash", str(script), "--max-steps", "5"], env=given, capture_output=True, text=True, check=False
    )


ASKED = "train --phase 2 --dataset-path demos --preset n1d6 --output-dir runs/svms_robocasa"


def test_what_make_has_installed_is_found_without_activating_it(clone: Path) -> None:
    command(clone / ".venv" / "bin", "installed")
    assert phase_2(clone).stdout == f"installed {ASKED} --max-steps 5\n"


def test_the_activated_command_comes_first(clone: Path, tmp_path: Path) -> None:
    command(clone / ".venv" / "bin", "installed")
    active = command(tmp_path / "active", "active")
    assert phase_2(clone, f"{active}{os.pathsep}/usr/bin:/bin").stdout == f"active {ASKED} --max-steps 5\n"


def test_a_named_project_is_watched(clone: Path) -> None:
    command(clone / ".venv" / "bin", "installed")
    assert phase_2(clone, WANDB_PROJECT="kitchen").stdout == f"installed {ASKED} --tracker wandb --max-steps 5\n"


def test_no_command_anywhere_is_one_sentence(clone: Path) -> None:
    found = phase_2(clone)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("error: svms-gr00t is not on the PATH")
    assert found.stderr.count("\n") == 1
