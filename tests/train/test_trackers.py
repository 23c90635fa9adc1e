"""Trackers: grouped names, one run on W&B however often it is resumed, files in the run folder, libraries by choice."""

import json
import sqlite3
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from train_cases import fresh, labelled, short

from svms_gr00t.core.errors import DataError, MissingExtra, TrainingError
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.run import run_training
from svms_gr00t.train.loop.hosted import Identity, identity, remember
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.trackers import Tracker, Tracking, grouped
from svms_gr00t.train.loop.trainer import LoopConfig, train_phase
from svms_gr00t.train.phases import SPECIALISE

ABSENT = [name for name in ("wandb", "trackio", "tensorboard") if find_spec(name) is None]
CONFIG = {"seed": 0, "phases": (1, 2), "base": None}


class Recorder:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log(self, numbers: dict[str, float], *, step: int) -> None:
        self.rows.append((step, dict(numbers)))

    def close(self, *, failed: bool = False) -> None: ...


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROJECT", "NAME", "RUN_ID", "DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.delenv("TRACKIO_DIR", raising=False)


def two_sessions(name: str, run: Path) -> None:
    """Steps 0 to 4 and a kill after 4; then on from the checkpoint at 3, up to 5, and an error."""
    tracking = Tracking(names=(name,))
    for steps, stops in ((range(5), False), (range(3, 6), True)):
        try:
            with tracking.follow(run, CONFIG | {"phases": (steps[0],)}) as logs:
                for step in steps:
                    logs[0].log(grouped({"step": 0, "loss": 1.0 / (1 + step), "accuracy.visual": 0.5}), step=step)
                if stops:
                    raise RuntimeError("lost a card")
        except RuntimeError:
            assert stops


def test_names_are_grouped_and_the_rest_is_left_out() -> None:
    row = {"step": 7, "loss": 0.5, "accuracy.visual": 1, "held_out.flow.mean": 0.25, "grad_norm": 2.0, "why": "text"}
    assert grouped(row) == {"train/loss": 0.5, "accuracy/visual": 1.0, "held_out/flow.mean": 0.25, "train/grad_norm": 2}


def test_training_hands_trackers_grouped_numbers_at_the_steps_of_the_whole_run(tmp_path: Path) -> None:
    seen, run = Recorder(), RunDir(tmp_path / "run")
    assert isinstance(seen, Tracker)
    config = LoopConfig(log_every=1, first_step=100)
    rows = train_phase(fresh(), short(SPECIALISE, 2), labelled, run, config=config, trackers=(seen,))
    assert [step for step, _ in seen.rows] == [100, 101]
    assert {"accuracy/visual", "train/loss", "route/visual", "term/flow"} <= seen.rows[0][1].keys()
    assert all(name.count("/") == 1 for _, numbers in seen.rows for name in numbers)
    assert seen.rows[1][1]["accuracy/visual"] == rows[1]["accuracy.visual"]
    stored = json.loads((run.root / "metrics.jsonl").read_text().splitlines()[1])
    assert stored["accuracy.visual"] == rows[1]["accuracy.visual"]


def test_a_run_is_named_after_its_folder_or_as_asked_and_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "kitchen"
    first = identity(run, "wandb")
    assert (first.project, first.name) == ("svms-gr00t", "kitchen")
    assert identity(run, "wandb", project="arm", name="try").model_dump(exclude={"id"}) == {
        "project": "arm",
        "name": "try",
    }
    monkeypatch.setenv("WANDB_PROJECT", "from outside")
    assert identity(run, "trackio").project == "from outside"
    assert identity(run, "wandb", project="arm").project == "arm"
    remember(run, "wandb", first)
    remember(run, "trackio", Identity(project="p", name="n"))
    assert identity(run, "wandb") == first, "WANDB_PROJECT of a later day moves no run"
    assert identity(run, "wandb", name="renamed") == first.model_copy(update={"name": "renamed"})
    assert identity(tmp_path / "other", "wandb").id != first.id


def test_a_run_leaves_no_project_and_a_broken_file_begins_no_new_run(tmp_path: Path) -> None:
    remember(tmp_path, "wandb", Identity(project="arm", name="n", id="abc"))
    with pytest.raises(TrainingError, match="--tracker-project: leg, but need arm, where it began"):
        identity(tmp_path, "wandb", project="leg")
    (tmp_path / "tracking.json").write_text('{"wandb": {"project": "arm"}}')
    with pytest.raises(DataError, match=r"wandb\.name"):
        identity(tmp_path, "wandb")


@pytest.mark.skipif(not ABSENT, reason="every tracker is installed here")
def test_a_library_that_is_absent_stops_the_run_before_it_writes(
    tmp_path: Path, small_kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "path" / ABSENT[0]).mkdir(parents=True)  # what wandb leaves where it ran: a folder, no library
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    config = TrainConfig(dataset_path=(str(small_kitchen),))
    with pytest.raises(MissingExtra, match=rf"--tracker {ABSENT[0]} needs {ABSENT[0]}.*svms-gr00t\[trackers\]"):
        run_training(config, tmp_path / "run", tracking=Tracking(names=(ABSENT[0],)))
    assert not (tmp_path / "run").exists()


def wandb_records(file: Path) -> Iterator[Any]:
    """Records of a .wandb file: 7 bytes of head, then a LevelDB log (blocks of 32 KiB; checksum, length, type)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # all of a record, or its last part
            yield Record.FromString(whole)
            whole = b""


@pytest.mark.skipif(find_spec("wandb") is None, reason="W&B's own files need the trackers extra")
def test_wandb_goes_on_in_the_same_run_and_shows_the_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    two_sessions("wandb", tmp_path / "mine")
    import wandb

    wandb.teardown()  # writes out, as the end of a process does
    names, steps, codes = set(), [], []
    for file in sorted((tmp_path / "mine" / "wandb").glob("*run-*/*.wandb")):
        for record in wandb_records(file):
            match record.WhichOneof("record_type"):
                case "run":
                    names.add((record.run.project, record.run.display_name, record.run.run_id))
                case "history":
                    items = record.history.item
                    row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
                    assert {"accuracy/visual", "train/loss"} <= row.keys()
                    steps.append(row["step"])
                case "exit":
                    codes.append(record.exit.exit_code)
    known = json.loads((tmp_path / "mine" / "tracking.json").read_text())["wandb"]
    assert names == {(known["project"], "mine", known["id"])}
    assert steps == [0, 1, 2, 3, 4, 3, 4, 5], "W&B drops nothing, although steps come twice"
    assert codes == [0, 1]


def test_tensorboard_hides_what_a_killed_run_wrote_after_its_checkpoint(tmp_path: Path) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="event files need the trackers extra"
    )
    two_sessions("tensorboard", tmp_path)
    events = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["train/loss", "accuracy/visual"]
    assert [event.step for event in events.Scalars("accuracy/visual")] == [0, 1, 2, 3, 4, 5]


@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio's own files need the trackers extra")
def test_trackio_goes_on_in_the_same_run(tmp_path: Path) -> None:
    two_sessions("trackio", tmp_path / "mine")
    with sqlite3.connect(tmp_path / "mine" / "trackio" / "svms-gr00t.db") as db:
        rows = db.execute("select run_name, run_id, step, metrics from metrics order by id").fetchall()
    assert {row[0] for row in rows} == {"mine"}
    assert len({row[1] for row in rows}) == 1
    assert [row[2] for row in rows] == [0, 1, 2, 3, 4, 3, 4, 5]
    assert json.loads(rows[0][3])["accuracy/visual"] == 0.5
