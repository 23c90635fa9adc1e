"""`svms-gr00t train` on several datasets: one alone is as before, two share draws, statistics, splits and evidence."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from svms_gr00t.cli.main import parse
from svms_gr00t.cli.train import Train
from svms_gr00t.core.errors import ConfigError, DataError, SvmsError
from svms_gr00t.data.loading.mixture import Part
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.evidence import read_streams
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.run import run_training

BASE = shipped("tiny_base")
TAG = "robocasa_panda_omron"


def short(*datasets: str, **changes: object) -> TrainConfig:
    values = {"base_model_path": str(BASE), "max_steps": (2,), "global_batch_size": (4,)} | changes
    return TrainConfig(dataset_path=datasets, **values)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "policy" / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    ours, theirs = weights(a), weights(b)
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.fixture(scope="module")
def other(small_kitchen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second dataset: the same demonstrations, told otherwise."""
    root = tmp_path_factory.mktemp("data") / "told otherwise"
    shutil.copytree(small_kitchen, root)
    for file in ("tasks.jsonl", "episodes.jsonl"):
        text = (root / "meta" / file).read_text(encoding="utf-8")
        (root / "meta" / file).write_text(text.replace("drawer", "box"), encoding="utf-8")
    return root


@pytest.mark.whole
def test_one_dataset_of_whatever_weight_trains_as_before(small_kitchen: Path, tmp_path: Path) -> None:
    run_training(short(str(small_kitchen)), tmp_path / "plain")
    run_training(short(f"{small_kitchen}*3"), tmp_path / "weighed")
    assert same(tmp_path / "plain", tmp_path / "weighed")


@pytest.mark.whole
def test_phases_one_by_one_are_both_in_turn(small_kitchen: Path, other: Path, tmp_path: Path) -> None:
    datasets = f"{small_kitchen}*1", f"{other}*3"
    whole = run_training(short(*datasets, phases=(1, 2)), tmp_path / "whole")
    for phase in (1, 2):
        run_training(short(*datasets, phases=(phase,)), tmp_path / "parts")
    assert same(tmp_path / "whole", tmp_path / "parts")
    run_training(short(str(small_kitchen), phases=(1,)), tmp_path / "alone")
    assert not same(tmp_path / "whole", tmp_path / "alone")
    assert {gate.phase for gate in whole.gates} == {"specialise", "couple"}
    settled = short(*datasets, phases=(1, 2), preset="tiny", save_steps=100)
    assert TrainConfig.load(tmp_path / "whole" / "config.yaml") == settled
    told = json.loads((tmp_path / "whole" / "passport.json").read_text(encoding="utf-8"))["data"]
    assert [part["weight"] for part in told["parts"]] == [0.25, 0.75]
    assert told["parts"][0]["fingerprint"] != told["parts"][1]["fingerprint"]
    assert told["episodes"] == 18


def test_statistics_are_those_of_all_training_episodes(small_kitchen: Path) -> None:
    """Half of the demonstrations twice over: the range of one part alone is another."""
    one = Experiment.prepare(small_kitchen)
    parts = [Part(path=small_kitchen, filter_key="4_demos", weight=1.0), Part(path=small_kitchen, weight=2.0)]
    mixed = Experiment.prepare(parts)
    rows = [
        source.dataset.lowdim(episode)["state.end_effector_position_relative"]
        for source in mixed.sources
        for episode in source.split.train
    ]
    found = mixed.processor.statistics[TAG]["state"]["end_effector_position_relative"]
    joined = np.concatenate(rows)
    np.testing.assert_allclose(found["mean"], joined.mean(0), atol=1e-6)
    np.testing.assert_allclose(found["max"], joined.max(0), atol=1e-6)
    alone = one.processor.statistics[TAG]["state"]["end_effector_position_relative"]
    assert not np.allclose(found["mean"], alone["mean"], atol=1e-6)


def test_held_out_samples_are_of_every_dataset_and_told_apart(small_kitchen: Path, other: Path) -> None:
    mixed = Experiment.prepare([Part(path=small_kitchen), Part(path=other)], base=BASE, validation=0.5)
    held_out = mixed.samples(train=False, stride=20)
    first = len(mixed.first_samples(train=False, stride=20))
    mine, theirs = ({held_out.origin(i) for i in part} for part in (range(first), range(first, len(held_out))))
    assert len(mine) == len(theirs) == 4
    assert not {episode for episode, _ in mine} & {episode for episode, _ in theirs}
    assert {text.replace("drawer", "box") for _, text in mine} == {text for _, text in theirs}
    assert any("box" in text for _, text in theirs)
    report, _ = read_streams(mixed.model(use_sheaf_streams=True, base=BASE), held_out)
    assert 0 < report.rho["visual-temporal"].mean < 2


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (("{a}", "{a}"), "twice"),
        (("{a}*2", "{b}"), "1 weights for 2 datasets"),
        (("{a}*0", "{b}*1"), "above 0"),
        (("{a}", "{b}/nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_mixed_is_refused_before_anything_is_written(
    small_kitchen: Path, other: Path, tmp_path: Path, told: tuple[str, ...], why: str
) -> None:
    datasets = [text.format(a=small_kitchen, b=other) for text in told]
    with pytest.raises(SvmsError, match=why):
        run_training(short(*datasets), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_soups_and_caches_say_what_they_want(small_kitchen: Path, other: Path) -> None:
    with pytest.raises(ConfigError, match="Name soup or datasets"):
        short(str(small_kitchen), str(other), soup="target_atomic_seen")
    with pytest.raises(ConfigError, match="one of"):
        short(str(small_kitchen), soup="minestrone").parts()
    with pytest.raises(DataError, match="Download them"):
        short(str(small_kitchen), soup="target_atomic_seen").parts()
    command = parse(["train", "--dataset-path", "A*0.7", "B*0.3", "--mixture-alpha", "1"])
    assert isinstance(command, Train)
    assert [part.weight for part in command.settings().parts()] == [0.7, 0.3]
