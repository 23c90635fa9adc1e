"""`svms-gr00t train` with memory: the past comes from a cache that grows, and nothing of that shows in the result."""

import shutil
from pathlib import Path

import pytest
from train_cases import same, weights

from svms_gr00t.cli.main import parse
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.groot.backbone import EagleBackbone
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.run import run_training

OFFSETS = (-16, -8)


def short(dataset: Path, **changes: object) -> TrainConfig:
    values = {
        "base_model_path": str(shipped("tiny_base")),
        "max_steps": (2,),
        "global_batch_size": (4,),
        "feature_copies": 1,
        "svms": {"memory_offsets": OFFSETS},
    } | changes
    return TrainConfig(dataset_path=str(dataset), **values)


@pytest.fixture(scope="module")
def whole(small_kitchen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all three phases that nothing interrupted."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    run_training(short(small_kitchen), folder)
    return folder


@pytest.mark.whole
def test_a_run_that_stopped_between_and_lost_its_cache_is_the_uninterrupted_one(
    small_kitchen: Path, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run_training(short(small_kitchen, phases=(1,)), folder)
    shutil.rmtree(folder / "features")
    run_training(short(small_kitchen, phases=(2,)), folder)
    run_training(short(small_kitchen, phases=(3,)), folder)
    assert same(weights(folder), weights(whole))


def test_each_phase_reads_what_is_frozen_below_it_and_memory_learned(whole: Path) -> None:
    assert sorted(folder.name for folder in (whole / "features").iterdir()) == [
        "dataset_0_layer_2",
        "dataset_0_layer_3",
    ]
    policy = Policy.from_pretrained(whole / "policy")
    assert policy.model.config.memory_offsets == OFFSETS
    assert not policy.model.svms.is_fresh
    assert policy.model.svms.memory.read_out.weight.any()
    assert policy.model.svms.memory.state_out.weight.any()


def test_off_reads_pictures_and_every_past_one_passes_the_backbone(
    small_kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    forward = EagleBackbone.forward

    def counted(self, images, input_ids, *rest):
        rows.append(len(input_ids))
        return forward(self, images, input_ids, *rest)

    monkeypatch.setattr(EagleBackbone, "forward", counted)
    config = short(small_kitchen, feature_cache="off", phases=(1,), max_steps=(1,), global_batch_size=(2,))
    run_training(config, tmp_path / "run")
    assert not (tmp_path / "run" / "features").exists()
    assert sum(rows) > 2 * (1 + len(OFFSETS))


def test_the_flags_are_lerobots() -> None:
    command = parse(["train", "--dataset-path", "d", "--memory-frames", "3", "--memory-stride", "4"])
    assert command.settings().svms == {"memory_offsets": (-12, -8, -4), "memory_only": False}
    alone = parse(["train", "--dataset-path", "d", "--memory-frames", "1", "--memory-only"])
    assert alone.settings().svms == {"memory_offsets": (-8,), "memory_only": True}
    assert parse(["train", "--dataset-path", "d"]).settings().svms == {}, "a base's memory is its own"


@pytest.mark.whole
def test_the_memory_alone_trains_without_streams_and_their_gates(small_kitchen: Path, tmp_path: Path) -> None:
    config = short(small_kitchen, phases=(1, 2), svms={"memory_offsets": (-8,), "memory_only": True})
    trained = run_training(config, tmp_path / "run")
    assert trained.gates == ()
    assert "term.recall" in trained.rows["couple"][-1]
    assert "term.sheaf" not in trained.rows["couple"][-1]
    assert TrainConfig.load(tmp_path / "run" / "config.yaml").svms_fields()["memory_offsets"] == (-8,)


def test_a_cache_in_the_way_is_one_sentence(small_kitchen: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no feature cache"):
        run_training(short(small_kitchen, tune_vision_projector=True), tmp_path / "run")
