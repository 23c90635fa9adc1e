"""The released size on a CPU that stands for the card: memory as planned, saving included; resumed is equal."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.train.loop.host import available_memory
from svms_gr00t.train.memory.planner import GIB, Setup, plan
from svms_gr00t.train.phases import PHASES

WORKER = Path(__file__).with_name("released_worker.py")
MEMORY, DISK = 14, 16
"""GiB of the host that this takes at most, and of the disk."""


def run(*command: object) -> dict:
    # Small freed blocks go back to the system at once, so that what is resident is what is alive.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, str(WORKER), *map(str, command)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout or "{}")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_phases_at_the_released_size_take_what_is_planned_and_resume_equal(tmp_path: Path) -> None:
    if (free := available_memory() / GIB) < MEMORY:
        pytest.skip(f"{free:.1f} GiB of memory left, and this takes {MEMORY}")
    if (room := psutil.disk_usage(str(tmp_path)).free / GIB) < DISK:
        pytest.skip(f"{room:.1f} GiB of disk left, and this takes {DISK}")
    if not Path("/proc/self/clear_refs").is_file():
        pytest.skip("peaks of resident memory are read from /proc")
    run("make", tmp_path / "base")
    whole = run("train", tmp_path / "base", tmp_path / "run")
    last = tmp_path / "run" / "phase_2" / "checkpoints" / "step_000002"
    sums = (last / "SHA256SUMS").read_text()
    size = sum(file.stat().st_size for file in last.iterdir()) / GIB
    shutil.rmtree(last)
    resumed = run("resume", tmp_path / "base", tmp_path / "run")
    assert (last / "SHA256SUMS").read_text() == sums, "weights, moments and schedules of step 2, to the bit"
    planned = {
        name: plan(Gr00tN1d6Config(use_sheaf_streams=True), PHASES[name], Setup(batch_size=1, views=1))
        for name in whole["peaks"]
    }
    assert planned["couple"].checkpoint_gib == pytest.approx(size, rel=0.01)
    for name, peak in whole["peaks"].items():
        assert 0.92 * peak / GIB < planned[name].peak_gib < 1.08 * peak / GIB, name
    assert resumed["peaks"]["couple"] / GIB < 1.08 * planned["couple"].peak_gib
