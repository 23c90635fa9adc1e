"""Checkpoints survive kill -9 in the middle, flipped bytes and truncation; and the best is the best."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from train_cases import fresh, labelled, short

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.train.loop.run_dir import RunDir, Snapshot
from svms_gr00t.train.loop.trainer import LoopConfig, train_phase
from svms_gr00t.train.phases import SPECIALISE


def snapshot(done: int, size: int = 64) -> Snapshot:
    weights = {"w": torch.full((size, size), float(done))}
    return Snapshot(model=weights, optimizer={"step.w": torch.tensor(float(done))}, state={"done": done})


def test_the_newest_stay_and_the_newest_is_loaded(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run").create()
    for done in (100, 200, 1200):
        run.save(snapshot(done), keep_last=2)
    assert [folder.name for folder in run.checkpoints()] == ["step_000200", "step_001200"]
    loaded = run.load()
    assert loaded is not None
    assert loaded.state == {"done": 1200}
    assert torch.equal(loaded.model["w"], snapshot(1200).model["w"])


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete"])
def test_a_broken_checkpoint_gives_way_to_the_one_before_it(tmp_path: Path, harm: str) -> None:
    run = RunDir(tmp_path / "run").create()
    for done in (1, 2):
        run.save(snapshot(done), keep_last=2)
    file = run.checkpoints()[-1] / "model.safetensors"
    content = bytearray(file.read_bytes())
    if harm == "flip":
        content[-5] ^= 1  # a changed weight: a valid file, with other numbers
        file.write_bytes(content)
    elif harm == "truncate":
        file.write_bytes(content[:-100])
    else:
        file.unlink()
    loaded = run.load()
    assert loaded is not None
    assert loaded.state["done"] == 1
    (run.checkpoints()[0] / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="Delete that folder"):
        run.load()


SAVER = """
import sys, torch
from pathlib import Path
from svms_gr00t.train.loop.run_dir import RunDir, Snapshot
run = RunDir(Path(sys.argv[1])).create()
for done in range(1, 10_000):
    weights = {"w": torch.full((1500, 1500), float(done))}
    run.save(Snapshot(model=weights, optimizer={"step.w": torch.tensor(float(done))}, state={"done": done}))
    print(done, flush=True)
"""


def test_killed_at_any_moment_a_whole_checkpoint_remains(tmp_path: Path) -> None:
    for attempt in range(3):
        root = tmp_path / str(attempt)
        process = subprocess.Popen([sys.executable, "-c", SAVER, str(root)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        while int(process.stdout.readline()) < 3:
            pass
        time.sleep(0.013 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        said = [int(line) for line in process.stdout.read().splitlines()]
        process.wait()
        loaded = RunDir(root).load()
        assert loaded is not None
        done = loaded.state["done"]
        assert done >= max([3, *said]), "at most the save that was cut off is lost"
        assert torch.equal(loaded.model["w"], torch.full((1500, 1500), float(done)))


def test_validation_is_told_and_writes_no_weights(tmp_path: Path) -> None:
    losses = iter([3.0, 1.0, 2.0, 4.0])

    def validate(model: torch.nn.Module) -> dict[str, float]:
        assert not model.training
        return {"flow": next(losses)}

    run = RunDir(tmp_path / "run")
    config = LoopConfig(validate_every=1, log_every=1)
    rows = train_phase(fresh(), short(SPECIALISE), labelled, run, config=config, validate=validate)
    assert [row["held_out.flow"] for row in rows] == [3.0, 1.0, 2.0, 4.0]
    # What nothing reads is not kept: the policy is the last step's, whichever validation was lowest.
    assert sorted(path.name for path in run.root.iterdir()) == ["checkpoints", "metrics.jsonl"]


def test_validation_changes_nothing_in_training(tmp_path: Path) -> None:
    def validate(model: torch.nn.Module) -> dict[str, float]:
        return {"flow": float(torch.rand(()))}  # draws from the global generator, as sampling does

    with_it, without = fresh(), fresh()
    every = LoopConfig(validate_every=1)
    train_phase(with_it, short(SPECIALISE), labelled, RunDir(tmp_path / "a"), config=every, validate=validate)
    train_phase(without, short(SPECIALISE), labelled, RunDir(tmp_path / "b"))
    theirs = without.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in with_it.state_dict().items())


def test_the_moving_average_is_the_textbook_one_and_survives_a_resume(tmp_path: Path) -> None:
    name, decay, path = "svms.merge.weight", 0.9, []

    def watched(number: int) -> object:
        path.append(model.get_parameter(name).detach().clone())
        return labelled(number)

    model = fresh()
    train_phase(model, short(SPECIALISE, 5), watched, RunDir(tmp_path / "a"))
    raw = [*path[1:], model.get_parameter(name).detach().clone()]
    expected = path[0]
    for value in raw:
        expected = decay * expected + (1 - decay) * value

    config = LoopConfig(ema=decay, checkpoint_every=2)
    averaged = fresh()

    def killed(number: int) -> object:
        if number == 3:
            raise MemoryError
        return labelled(number)

    with pytest.raises(MemoryError):
        train_phase(averaged, short(SPECIALISE, 5), killed, RunDir(tmp_path / "b"), config=config)
    averaged = fresh()
    train_phase(averaged, short(SPECIALISE, 5), labelled, RunDir(tmp_path / "b"), config=config)
    torch.testing.assert_close(averaged.get_parameter(name).detach(), expected, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(expected, raw[-1], rtol=1e-3), "else the average would prove nothing"
