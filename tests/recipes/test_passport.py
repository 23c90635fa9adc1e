"""A run goes on only with the data, the base and the code that it began with; what changed is accepted in words."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import CheckpointError, DataError
from svms_gr00t.core.files.digest import sampled_digest
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.fingerprint import fingerprint
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training import passport
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.gates import run_gates
from svms_gr00t.recipes.training.passport import write_passport
from svms_gr00t.recipes.training.run import run_training
from svms_gr00t.train.loop.run_dir import RunDir, SheafState, Snapshot, State

BASE = shipped("tiny_base")


def change_actions(dataset: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Other actions in the first episode's file; everything else stays."""
    file = sorted((dataset / "data").rglob("*.parquet"))[0]
    table = pq.read_table(file)
    rows = change(np.stack(table["action"].to_numpy()))
    values = pa.array(list(rows.astype(np.float32)), table.schema.field("action").type)
    pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", values), file)


@pytest.fixture
def kitchen(small_kitchen: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_kitchen, tmp_path / "kitchen"))


class Run:
    """A run folder with one checkpoint, and its passport written again and again."""

    def __init__(self, dataset: Path, root: Path, base: Path = BASE) -> None:
        self.dataset, self.root, self.base = dataset, root, base

    def write(self, accept: Collection[passport.Change] = ()) -> dict[str, object]:
        config = TrainConfig(dataset_path=str(self.dataset))
        experiment = Experiment.prepare(self.dataset, base=self.base)
        write_passport(config, self.root, experiment, base=self.base, accept=accept)
        return json.loads((self.root / "passport.json").read_text())

    def train(self) -> None:
        state = State(done=7, phase="specialise", sheaf=SheafState(smoothed=None, started=None))
        RunDir(self.root / "phase_1").save(Snapshot(model={}, optimizer={}, state=state))


@pytest.fixture
def begun(kitchen: Path, tmp_path: Path) -> Run:
    run = Run(kitchen, tmp_path / "run")
    run.write()
    run.train()
    run.write()  # nothing changed, nothing to accept
    return run


@pytest.mark.parametrize("change", [lambda a: a * 10, lambda a: -a], ids=["times 10", "negated"])
def test_other_actions_in_the_same_files_are_refused_or_accepted_in_words(
    begun: Run, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    before = (begun.root / "passport.json").read_bytes()
    change_actions(begun.dataset, change)
    with pytest.raises(CheckpointError, match=r"other data \(content:.* --accept-changes data goes on"):
        begun.write()
    with pytest.raises(CheckpointError, match="other data"):
        begun.write(accept=["code"])
    assert (begun.root / "passport.json").read_bytes() == before, "a refusal wrote something"
    told = begun.write(accept=["data"])["accepted"]
    assert isinstance(told, list)
    assert told[0]["trained"] == {"phase_1": "step_000007"}
    assert "other data" in told[0]["data"][0]
    assert begun.write()["accepted"] == told, "what was accepted is not forgotten, and holds"


def test_before_anything_was_trained_everything_may_change(kitchen: Path, tmp_path: Path) -> None:
    run = Run(kitchen, tmp_path / "run")
    run.write()
    change_actions(kitchen, lambda a: -a)
    assert not run.write().get("accepted")


def test_other_held_out_episodes_are_refused(begun: Run) -> None:
    file = begun.root / "passport.json"
    told = json.loads(file.read_text())
    assert told["data"]["held_out"]
    told["data"]["held_out"] = [0, 999]
    file.write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=r"other held-out episodes \(\[0, 999\] instead of"):
        begun.write()


def test_other_code_is_refused(begun: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passport, "source_digest", lambda: "another")
    with pytest.raises(CheckpointError, match=r"code .* instead of .*--accept-changes code goes on"):
        begun.write(accept=["data"])
    change_actions(begun.dataset, lambda a: -a)
    with pytest.raises(CheckpointError, match=r"code .*--accept-changes data,code goes on"):
        begun.write(accept=["data"])
    (told,) = begun.write(accept=["data", "code"])["accepted"]  # type: ignore[misc]
    assert {"data", "code"} <= told.keys()
    file = begun.root / "passport.json"
    file.write_text(file.read_text().replace('"torch": "2', '"torch": "1'))
    with pytest.raises(CheckpointError, match=r"torch 1\..* instead of 2\."):
        begun.write()


def test_a_passport_written_before_knows_the_commit_alone(begun: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    file = begun.root / "passport.json"
    told = json.loads(file.read_text())
    for name in ("source", "base"):
        del told[name]
    file.write_text(json.dumps(told | {"commit": "abc"}))
    monkeypatch.setattr(passport, "commit", lambda: "def")
    with pytest.raises(CheckpointError, match="code abc instead of def"):
        begun.write()


def test_another_base_in_the_same_place_is_refused(kitchen: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(BASE, tmp_path / "base"))
    run = Run(kitchen, tmp_path / "run", base)
    run.write()
    run.train()
    weights = base / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-3] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(CheckpointError, match="another base checkpoint"):
        run.write(accept=["data", "code"])


@pytest.mark.parametrize("damage", [b"", b'{"data": {"fing', b'{"data": "\xff"}', None])
def test_a_lost_passport_is_a_sentence(begun: Run, damage: bytes | None) -> None:
    file = begun.root / "passport.json"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    with pytest.raises(CheckpointError, match=r"passport\.json: found no readable file.*--accept-changes data,code"):
        begun.write(accept=["data"])
    begun.write(accept=["data", "code"])
    begun.write()


def test_beyond_two_gigabytes_numbers_still_count_and_pictures_are_sampled(kitchen: Path) -> None:
    def found() -> str:
        dataset = LeRobotDataset.open(kitchen)
        tables, clips = set(dataset.metadata.data.values()), {clip.path for clip in dataset.metadata.clips.values()}
        return fingerprint(kitchen, tables, clips, [], whole=0)

    seen = [found()]
    assert seen[0].startswith("sampled:")
    for change in (lambda a: a * 10, lambda a: -a):
        change_actions(kitchen, change)
        seen.append(found())
    clip = sorted(kitchen.rglob("*.mp4"))[0]
    raw = bytearray(clip.read_bytes())
    raw[-1] ^= 1
    clip.write_bytes(raw)
    seen.append(found())
    assert len(set(seen)) == 4


def test_samples_reach_both_ends_and_pass_over_most_of_a_large_file(tmp_path: Path) -> None:
    file = tmp_path / "large"
    raw = bytearray(8 << 20)
    file.write_bytes(raw)
    before = sampled_digest(file)
    for at, seen in ((0, True), (len(raw) - 1, True), (100_000, False)):
        raw[at] = 1
        file.write_bytes(raw)
        assert (sampled_digest(file) != before) is seen
        raw[at] = 0


@pytest.mark.whole
def test_the_whole_way_from_the_command_line(kitchen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*more: str) -> object:
        flags = ["--base-model-path", str(BASE), "--max-steps", "2", "--global-batch-size", "4", "--phase", "1"]
        with pytest.raises(SystemExit) as done:
            main(["train", "--dataset-path", str(kitchen), "--output-dir", str(tmp_path / "run"), *flags, *more])
        return done.value.code

    assert run() == 0
    change_actions(kitchen, lambda a: -a)
    assert run() == 2
    said = capsys.readouterr().err
    assert "other data" in said
    assert "Traceback" not in said
    assert run("--accept-changes", "data,kode") == 2
    assert "data or code" in capsys.readouterr().err
    assert run("--accept-changes", "data,code") == 0
    (told,) = json.loads((tmp_path / "run" / "passport.json").read_text())["accepted"]
    assert "data" in told
    assert "code" not in told

    for name in ("rank.json", "gate.json"):  # cut off by a full disk, or by another program
        file = tmp_path / "run" / "phase_1" / name
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        if name == "gate.json":
            with pytest.raises(CheckpointError, match=r"gate\.json: found a damaged file"):
                run_gates(tmp_path / "run")
        assert run() == 0
        assert file.read_bytes() == whole


HOLDER = """
import sys
from svms_gr00t.core.files.lock import only_one
with only_one(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_in_the_folder_is_refused(kitchen: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(DataError, match="another process at work"):
            run_training(TrainConfig(dataset_path=str(kitchen)), tmp_path / "run")
        holder.kill()
    assert not (tmp_path / "run" / "config.yaml").exists()
