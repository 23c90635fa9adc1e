"""What an experiment takes from a base checkpoint, and what from the data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omron_dataset import write_omron

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.data.processor.statistics import compute_statistics
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.experiment import Experiment

BASE = shipped("tiny_base")


def test_a_known_robot_keeps_the_statistics_its_weights_were_trained_with(small_kitchen: Path) -> None:
    found = Experiment.prepare(small_kitchen, base=BASE)
    assert found.processor.statistics == Processor.load(BASE).statistics
    own = compute_statistics(found.dataset, found.split.train)
    assert found.processor.statistics["robocasa_panda_omron"]["state"] != own["state"], "else this says nothing"


def test_a_new_robot_brings_its_own_and_joins_the_ones_known(small_kitchen: Path, tmp_path: Path) -> None:
    found = Experiment.prepare(small_kitchen, base=BASE, embodiment_tag="new_embodiment")
    own = compute_statistics(found.dataset, found.split.train)
    kept = found.processor.statistics
    assert set(kept) == {"robocasa_panda_omron", "new_embodiment"}
    np.testing.assert_array_equal(
        kept["new_embodiment"]["action"]["end_effector_position"]["max"], own["action"]["end_effector_position"]["max"]
    )
    model = found.model(use_sheaf_streams=True, base=BASE)
    folder = found.policy(model).save_pretrained(tmp_path / "policy")
    for tag, row in (("new_embodiment", 2), ("robocasa_panda_omron", 0)):
        assert Policy.from_pretrained(folder, embodiment_tag=tag).processor.config.embodiment_id == row


def test_a_base_brings_its_dimensions_and_a_run_its_schedules(small_kitchen: Path, tmp_path: Path) -> None:
    found = Experiment.prepare(small_kitchen, base=BASE, svms={"lambda_aux": 0.7})
    stored = json.loads((BASE / "config.json").read_text())
    assert found.config.lambda_aux == 0.7
    assert found.config.use_sheaf_streams
    assert {k: v for k, v in found.config.to_dict().items() if k in stored} == stored


def test_both_variants_of_a_seed_start_from_the_same_weights(small_kitchen: Path) -> None:
    found = Experiment.prepare(small_kitchen, seed=3)
    plain, svms = (found.model(use_sheaf_streams=flag).state_dict() for flag in (False, True))
    assert all(torch.equal(value, svms[name]) for name, value in plain.items())
    other = Experiment.prepare(small_kitchen, seed=4).model(use_sheaf_streams=False).state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in plain.items())


def test_a_tag_without_a_row_is_refused(small_kitchen: Path) -> None:
    with pytest.raises(DataError, match="new_embodiment is free"):
        Experiment.prepare(small_kitchen, base=BASE, embodiment_tag="unitree_g1")


def test_a_broken_episode_is_left_out_by_name_and_the_others_train(
    small_kitchen: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    shutil.copytree(small_kitchen, data)
    clip = next(data.rglob("episode_000004.mp4"))
    clip.write_bytes(clip.read_bytes()[:200])
    found = Experiment.prepare(data, base=BASE)
    assert [one.episode for one in found.sources[0].skipped] == [4]
    assert 4 not in (*found.split.train, *found.split.validation)
    assert len((*found.split.train, *found.split.validation)) == 8
    assert "episode 4 is left out" in caplog.text
    assert len(found.first_samples(train=True)) > 0
    whole = Experiment.prepare(small_kitchen, base=BASE)
    assert not whole.sources[0].skipped
    for index in range(4):  # with a third of the episodes broken it is no accident
        clip = next(data.rglob(f"episode_{index:06d}.mp4"))
        clip.write_bytes(b"")
    with pytest.raises(DataError, match="data doctor"):
        Experiment.prepare(data, base=BASE)


def test_training_names_what_percentiles_lose_and_the_switch_keeps_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def rarely(_index: int, columns: dict[str, np.ndarray], _videos: dict[str, np.ndarray]) -> None:
        columns["action"][:, 0:4] = 0  # the base, whose third number moves in one step of thirty
        columns["action"][7, 2] = 0.5

    root = write_omron(tmp_path / "set", episodes=4, change=rarely)
    base = tmp_path / "base"
    shutil.copytree(BASE, base)
    path = base / "processor_config.json"
    stored = json.loads(path.read_text())
    stored["processor_kwargs"]["use_percentiles"] = True
    path.write_text(json.dumps(stored))
    options = {"base": base, "embodiment_tag": "new_embodiment", "validation": 0.25}

    with caplog.at_level("WARNING"):
        plain = Experiment.prepare(root, **options)
    assert "action.base_motion: motion of element 2 in 3.33%" not in caplog.text  # 1 in 30 is not rare
    assert plain.processor.config.use_percentiles

    longer = write_omron(tmp_path / "long", episodes=4, change=lambda i, c, v: (rarely(i, c, v), stretched(c, v)))
    caplog.clear()
    with caplog.at_level("WARNING"):
        lost = Experiment.prepare(longer, **options)
    assert "action.base_motion: motion of element 2 in 0.33%" in caplog.text
    assert "--min-max-embedding-keys action.base_motion" in caplog.text
    command = np.ones((1, 16, 44))
    assert not lost.processor.decode(command)["base_motion"][..., 2].any()
    caplog.clear()
    with caplog.at_level("WARNING"):
        kept = Experiment.prepare(longer, min_max_embedding_keys=["action.base_motion"], **options)
    assert "base_motion" not in caplog.text
    assert kept.processor.decode(command)["base_motion"][..., 2].max() == pytest.approx(0.5)


def stretched(columns: dict[str, np.ndarray], videos: dict[str, np.ndarray]) -> None:
    """Ten times as long, the motion once."""
    for table in (columns, videos):
        for name, rows in table.items():
            still = rows.copy()
            if name == "action":
                still[:, 0:4] = 0
            table[name] = np.concatenate([rows, *[still] * 9])
