"""A run is judged on the episodes that it held out, whatever the seed; where nobody can know, it says so."""

import shutil
from pathlib import Path

import pytest

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.mixture import Part, open_mixture
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.held_out import held_out, run_of
from svms_gr00t.recipes.training.passport import write_passport

BASE = shipped("tiny_base")
TRAINED_SEED, SHARE = 3, 0.3


def spoil(data: Path, episode: int) -> bytes:
    """Cut a clip short; what it held."""
    clip = next(data.rglob(f"episode_{episode:06d}.mp4"))
    whole = clip.read_bytes()
    clip.write_bytes(whole[:200])
    return whole


@pytest.fixture
def data(small_kitchen: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_kitchen, tmp_path / "data"))


def trained(data: Path, run: Path) -> Experiment:
    """A run folder with the passport of its data, without the training."""
    config = TrainConfig(dataset_path=(str(data),), seed=TRAINED_SEED, validation=SHARE)
    experiment = Experiment.prepare(data, base=BASE, seed=TRAINED_SEED, validation=SHARE)
    write_passport(config, run, experiment, base=None)
    return experiment


def test_the_run_decides_and_the_seed_does_not(data: Path, tmp_path: Path) -> None:
    split = trained(data, tmp_path / "run").split
    for checkpoint in ("run", "run/policy", "run/phase_3/step_000100"):
        (tmp_path / checkpoint).mkdir(parents=True, exist_ok=True)
        for seed in range(4):
            found = held_out(tmp_path / checkpoint, data, seed=seed, validation=0.5)
            assert (found.known, found.split) == (True, split)
    moved = Path(shutil.copytree(data, tmp_path / "moved"))
    assert held_out(tmp_path / "run", moved).split == split, "the same data in another folder"
    guesses = {held_out(tmp_path, data, seed=seed, validation=SHARE).split for seed in range(4)}
    assert guesses != {split}, "and a seed alone would often miss them"


def test_on_other_data_or_without_a_passport_nobody_can_know(data: Path, tmp_path: Path) -> None:
    trained(data, tmp_path / "run")
    other = Path(shutil.copytree(data, tmp_path / "other"))
    table = next(other.rglob("episode_000000.parquet"))
    shutil.copy(next(other.rglob("episode_000001.parquet")), table)
    elsewhere = held_out(tmp_path / "run", other, seed=1)
    assert not elsewhere.known
    assert "cannot be known (run was trained on other data)" in elsewhere.says
    assert "--seed 1 and --validation 0.15" in elsewhere.says
    bare = held_out(tmp_path / "checkpoint", data)
    assert not bare.known
    assert "no passport.json" in bare.says
    assert run_of(tmp_path / "checkpoint") is None


def test_a_broken_episode_stays_out_and_mending_it_moves_nothing(data: Path, tmp_path: Path) -> None:
    whole = Experiment.prepare(data, base=BASE, seed=TRAINED_SEED, validation=SHARE).split
    for number, episode in enumerate((whole.train[0], whole.validation[0])):
        kept = spoil(data, episode)
        run = tmp_path / f"run_{number}"
        split = trained(data, run).split
        assert set(split.train) == set(whole.train) - {episode}
        assert set(split.validation) == set(whole.validation) - {episode}
        broken = held_out(run, data)
        assert (broken.split, [one.episode for one in broken.skipped]) == (split, [episode])
        next(data.rglob(f"episode_{episode:06d}.mp4")).write_bytes(kept)
        mended = held_out(run, data)
        assert mended.split == split, "what training left out is not judged on, nor a baseline fitted on it"
        assert mended.known
        assert "has changed since" in mended.says
        assert not mended.skipped


def test_an_episode_that_broke_since_is_left_out_and_all_of_them_are_too_many(data: Path, tmp_path: Path) -> None:
    split = trained(data, tmp_path / "run").split
    first, *others = split.validation
    spoil(data, first)
    found = held_out(tmp_path / "run", data)
    assert found.split.validation == tuple(others)
    assert [one.episode for one in found.skipped] == [first]
    for table in data.rglob(f"episode_{split.train[0]:06d}.parquet"):
        table.unlink()
    assert held_out(tmp_path / "run", data).split.train == split.train[1:], "a file that is gone hides no passport"


def test_nothing_left_to_judge_on_is_refused(data: Path, tmp_path: Path) -> None:
    config = TrainConfig(dataset_path=(str(data),), seed=0, validation=0.1)
    experiment = Experiment.prepare(data, base=BASE, seed=0, validation=0.1)
    write_passport(config, tmp_path / "run", experiment, base=None)
    (only,) = experiment.split.validation
    spoil(data, only)
    with pytest.raises(DataError, match="none of"):
        held_out(tmp_path / "run", data)


def test_a_part_of_a_mixture_has_its_own(data: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(data, tmp_path / "other"))
    shutil.copy(next(other.rglob("episode_000001.parquet")), next(other.rglob("episode_000000.parquet")))
    spoil(other, 2)
    experiment = Experiment.prepare([Part(path=data), Part(path=other)], base=BASE, seed=1, validation=SHARE)
    config = TrainConfig(dataset_path=(str(data), str(other)), seed=1, validation=SHARE)
    write_passport(config, tmp_path / "run", experiment, base=None)
    for source in experiment.sources:
        assert held_out(tmp_path / "run", source.dataset.root).split == source.split
    assert experiment.sources[0].split != experiment.sources[1].split


def test_a_subset_is_drawn_from_all_episodes_so_that_mending_one_moves_none(data: Path) -> None:
    def subset() -> set[int]:
        return {e.index for e in open_mixture([Part(path=data, filter_key="4_demos")], seed=2).datasets[0].episodes}

    whole = subset()
    assert len(whole) == 4
    for episode in range(9):
        kept = spoil(data, episode)
        assert subset() == whole - {episode}
        next(data.rglob(f"episode_{episode:06d}.mp4")).write_bytes(kept)


def test_the_commands_judge_on_the_runs_own_episodes(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run, output = tmp_path / "run", tmp_path / "result.json"
    experiment = trained(data, run)
    experiment.policy(experiment.model(use_sheaf_streams=True, base=BASE)).save_pretrained(run / "policy")
    asked = ["--checkpoint", str(run), "--dataset-path", str(data), "--stride", "60"]
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "open-loop", *asked, "--seed", "8", "--output", str(output)])
    assert stopped.value.code == 0
    assert tuple(OpenLoopResult.load(output).scores.episodes) == experiment.split.validation
    assert "as run has them in its passport" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "calibrate", *asked, "--every-episode"])
    assert stopped.value.code == 2
    assert "--every-episode" in capsys.readouterr().err
    assert len(LeRobotDataset.open(data).episodes) == 9
