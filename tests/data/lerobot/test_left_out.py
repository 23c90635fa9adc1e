"""One episode without its numbers or its video: every command goes on without it, and says so."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lerobot_files import change_json
from toy_dataset import episode, open_writer

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.feature_cache import FeatureCache
from svms_gr00t.data.processor.statistics import compute_statistics
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.passport import data_facts

BAD = 3
PARQUET = f"data/chunk-000/episode_{BAD:06d}.parquet"
CLIP = f"videos/chunk-000/observation.images.front/episode_{BAD:06d}.mp4"


def emptied(path: Path) -> None:
    path.write_bytes(b"")


SPOIL: dict[str, Callable[[Path], None]] = {
    "missing parquet": lambda root: (root / PARQUET).unlink(),
    "missing video": lambda root: (root / CLIP).unlink(),
    "empty parquet": lambda root: emptied(root / PARQUET),
    "folder for a video": lambda root: ((root / CLIP).unlink(), (root / CLIP).mkdir()),
}


@pytest.fixture(params=list(SPOIL))
def broken(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    root = tmp_path / "set"
    with open_writer(root) as writer:
        for index in range(6):
            writer.add_episode(*episode(12, seed=index), "open the drawer, then close the door")
    SPOIL[request.param](root)
    return root


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    return int(stopped.value.code or 0)


def test_training_goes_on_and_its_passport_names_the_episode(broken: Path) -> None:
    experiment = Experiment.prepare(broken)
    assert BAD not in (*experiment.split.train, *experiment.split.validation)
    facts = data_facts(experiment)
    assert list(facts["skipped"]) == [BAD]
    assert facts["fingerprint"].startswith("content:")
    assert {at.episode for at in experiment.first_samples(train=True).places} == set(experiment.split.train)


def test_statistics_are_those_of_the_other_episodes(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = broken.with_name("statistics.json")
    assert run("data", "statistics", broken, "--output", output) == 0
    assert f"episode {BAD} is left out" in capsys.readouterr().out
    others = LeRobotDataset.open(broken).without([BAD])
    expected = compute_statistics(others)["action"]["arm"]["mean"]
    np.testing.assert_allclose(json.loads(output.read_text())["action"]["arm"]["mean"], expected)


@pytest.mark.whole
def test_show_and_labels_go_on(broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "show", broken, "--output", tmp_path / "out", "--count", "6", "--frames", "2") == 0
    assert f"episode {BAD} is left out" in capsys.readouterr().out
    assert len(list((tmp_path / "out").glob("episode_*.png"))) == 5
    assert run("data", "show", broken, "--output", tmp_path / "out", "--episodes", BAD) == 2
    assert f"episode_{BAD:06d}" in capsys.readouterr().err
    assert run("data", "labels", "--dataset-path", broken) == 0
    assert f"episode {BAD} is left out" in capsys.readouterr().out


def test_the_doctor_names_it_and_looks_at_the_rest(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "doctor", broken, "--json") == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {tuple(one["episodes"]) for one in findings if one["severity"] == "error"} == {(BAD,)}


def test_a_feature_cache_is_built_and_verified_without_it(broken: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run("data", "cache", "build", "--dataset-path", broken, "--output", cache) == 0
    assert run("data", "cache", "verify", "--dataset-path", broken, "--cache", cache, "--samples", "1") == 0
    assert not FeatureCache.open(cache).has(0, BAD)
    assert FeatureCache.open(cache).has(0, BAD - 1)


def test_mending_it_makes_other_data(broken: Path) -> None:
    without = LeRobotDataset.open(broken).fingerprint()
    assert LeRobotDataset.open(broken).fingerprint() == without
    for name in (PARQUET, CLIP):
        path = broken / name
        if path.is_dir():
            path.rmdir()
        path.write_bytes((broken / name.replace(f"{BAD:06d}", f"{BAD - 1:06d}")).read_bytes())
    assert LeRobotDataset.open(broken).fingerprint() != without


def test_nothing_left_is_an_error_and_so_is_a_quarter_gone(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (broken / PARQUET.replace("003", "004")).unlink()
    assert run("data", "statistics", broken) == 2
    assert "2 broken of 6 episodes" in capsys.readouterr().err
    with pytest.raises(DataError):
        Experiment.prepare(broken)
    change_json(broken / "meta" / "info.json", data_path="data/nowhere/{episode_index}.parquet")
    assert run("data", "show", broken, "--output", broken.with_name("out")) == 2
