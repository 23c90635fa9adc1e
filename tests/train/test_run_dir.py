"""Checkpoints survive kill -9 in the middle, flipped bytes and truncation; and the best is the best."""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from train_cases import fresh, labelled, short

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.train.loop.run_dir import RunDir, SheafState, Snapshot, State
from svms_gr00t.train.loop.trainer import LoopConfig, train_phase
from svms_gr00t.train.phases import SPECIALISE


def snapshot(done: int, size: int = 64) -> Snapshot:
    weights = {"w": torch.full((size, size), float(done))}
    state = State(done=done, phase="specialise", sheaf=SheafState(smoothed=0.7314, started=None))
    return Snapshot(model=weights, optimizer={"step.w": torch.tensor(float(done))}, state=state)


def test_the_newest_stay_and_the_newest_is_loaded(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run").create()
    for done in (100, 999_999, 1_000_000):
        run.save(snapshot(done), keep_last=2)
    assert [folder.name for folder in run.checkpoints()] == ["step_999999", "step_1000000"]
    loaded = run.load()
    assert loaded is not None
    assert loaded.state == snapshot(1_000_000).state
    assert torch.equal(loaded.model["w"], snapshot(1_000_000).model["w"])


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
    assert loaded.state.done == 1
    (run.checkpoints()[0] / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="Delete that folder"):
        run.load()


@pytest.fixture
def quiet() -> Iterator[None]:
    """Thousands of warnings of broken checkpoints would take most of the time."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def bent(content: bytes, bit: int) -> bytes:
    """`content` with one bit flipped."""
    found = bytearray(content)
    found[bit // 8] ^= 1 << bit % 8
    return bytes(found)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", ["SHA256SUMS", "optimizer.safetensors"])
def test_no_flipped_bit_is_accepted(tmp_path: Path, name: str) -> None:
    """Every bit, or about 500 spread over the file."""
    run = RunDir(tmp_path / "run").create()
    run.save(snapshot(3, size=4))
    file = run.checkpoints()[0] / name
    content = file.read_bytes()
    bits = 8 * len(content)
    accepted = []
    for bit in range(0, bits, max(1, bits // 500)):
        file.write_bytes(bent(content, bit))
        try:
            run.load()
            accepted.append(bit)
        except CheckpointError:
            pass
    assert not accepted
    file.write_bytes(content)
    assert run.load() is not None, "else nothing would be accepted at all"


@pytest.mark.whole
@pytest.mark.usefixtures("quiet")
def test_2496_flipped_bits_of_state_json_and_none_accepted(tmp_path: Path) -> None:
    """Before its digest was kept, 412 of 2,496 were accepted."""
    run = RunDir(tmp_path / "run").create()
    kept = snapshot(7, size=2)
    run.save(replace(kept, state=kept.state.model_copy(update={"phase": "x" * 260})))
    file = run.checkpoints()[0] / "state.json"
    content, refused = file.read_bytes(), 0
    assert len(content) >= 2496 // 8
    for bit in range(2496):
        file.write_bytes(bent(content, bit))
        with pytest.raises(CheckpointError, match=r"state\.json: found other bytes"):
            run.load()
        refused += 1
    assert refused == 2496


def before(run: RunDir, done: int) -> Path:
    """The checkpoint as it was written before its folder had SHA256SUMS."""
    run.save(snapshot(done, size=4))
    folder = run.checkpoints()[-1]
    names = ("model.safetensors", "optimizer.safetensors")
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    state = {"done": done, "phase": "couple", "sheaf": {"smoothed": 0.5, "started": None}, "best": 1.0}
    (folder / "state.json").write_text(json.dumps(state | {"sha256": digests}))
    (folder / "SHA256SUMS").unlink()
    return folder


def test_a_checkpoint_written_before_is_read_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunDir(tmp_path / "run").create()
    folder = before(run, 5)
    loaded = run.load()
    assert loaded is not None
    assert (loaded.state.done, loaded.state.phase) == (5, "couple")
    assert "written before SHA256SUMS existed: nothing covers its state.json" in caplog.text
    (folder / "model.safetensors").write_bytes(bent((folder / "model.safetensors").read_bytes(), 800))
    with pytest.raises(CheckpointError, match="other bytes"):
        run.load()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ('"sha256"', "no SHA256SUMS"),  # a misspelt key
        ('"done"', "Field required"),
        ('"sheaf"', "Field required"),
        ('"smoothed": 0.5', "finite number|valid number"),
        ('"done": 5', "step 4"),
        ("{", "broken checkpoint"),
        ("optimizer.safetensors", "no SHA256SUMS"),
    ],
)
def test_a_damaged_state_written_before_is_a_sentence(tmp_path: Path, wrong: str, says: str) -> None:
    run = RunDir(tmp_path / "run").create()
    file = before(run, 5) / "state.json"
    swaps = {'"smoothed": 0.5': '"smoothed": NaN', '"done": 5': '"done": 4', "{": "\xff{"}
    swap = swaps.get(wrong, wrong[:-2] + "#" + wrong[-1])
    text = file.read_text()
    assert wrong in text
    file.write_bytes(text.replace(wrong, swap, 1).encode("latin-1"))
    with pytest.raises(CheckpointError, match=says):
        run.load()


def test_a_missing_digest_is_a_broken_checkpoint(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run").create()
    for done in (1, 2):
        run.save(snapshot(done), keep_last=2)
    (run.checkpoints()[-1] / "SHA256SUMS").unlink()
    loaded = run.load()
    assert loaded is not None
    assert loaded.state.done == 1
    run.save(snapshot(2), keep_last=2)
    run.save(snapshot(3), keep_last=2)
    extra = run.checkpoints()[-1] / "stray.json"
    extra.write_text("{}")  # not the run's own: it decides nothing
    assert [folder.name for folder in run.checkpoints()] == ["step_000002", "step_000003"]


def test_what_a_killed_save_left_goes_with_the_next(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run").create()
    litter = tmp_path / "run" / "checkpoints" / ".step_000001.partial"
    litter.mkdir(parents=True)
    (litter / "model.safetensors").write_bytes(b"half")
    run.save(snapshot(2))
    assert [path.name for path in litter.parent.iterdir()] == ["step_000002"]


def test_a_damaged_line_of_metrics_loses_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunDir(tmp_path / "run").create()
    for step in range(5):
        run.append({"step": step, "loss": 1.0})
    file = tmp_path / "run" / "metrics.jsonl"
    lines = file.read_bytes().split(b"\n")
    lines[0], lines[2] = b'{"step": 0, "lo\xff', b'{"stop": 2}'
    file.write_bytes(b"\n".join(lines) + b'{"step": 5, "lo')  # and a crash in the middle of the last
    assert [row["step"] for row in run.rows()] == [1, 3, 4]
    assert "line 1 is damaged" in caplog.text
    assert "line 3 is damaged" in caplog.text
    assert "line 6" not in caplog.text
    assert [row["step"] for row in run.rows(below=4)] == [1, 3]
    assert [row["step"] for row in run.rows()] == [1, 3]


SAVER = """
import sys, torch
from pathlib import Path
from svms_gr00t.train.loop.run_dir import RunDir, SheafState, Snapshot, State
sheaf = SheafState(smoothed=None, started=None)
run = RunDir(Path(sys.argv[1])).create()
for done in range(1, 10_000):
    weights = {"w": torch.full((1500, 1500), float(done))}
    state = State(done=done, phase="specialise", sheaf=sheaf)
    run.save(Snapshot(model=weights, optimizer={"step.w": torch.tensor(float(done))}, state=state))
    print(done, flush=True)
"""


@pytest.mark.whole
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
        done = loaded.state.done
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

    with_it, without, drawn = fresh(), fresh(), []
    every = LoopConfig(validate_every=1)
    torch.manual_seed(0)
    train_phase(with_it, short(SPECIALISE), labelled, RunDir(tmp_path / "a"), config=every, validate=validate)
    drawn.append(float(torch.rand(())))
    torch.manual_seed(0)
    train_phase(without, short(SPECIALISE), labelled, RunDir(tmp_path / "b"))
    drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[1], "what a validation draws is drawn from a copy"
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
