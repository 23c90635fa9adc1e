"""A robot told by feature names and whole columns' statistics becomes the policy that a dataset would have made."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from svms_gr00t import Policy, Robot, set_up
from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.processor.observation import Observation, by_key
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.experiment import Experiment

KITCHEN, BASE, TAG = shipped("kitchen"), shipped("tiny_base"), "robocasa_panda_omron"
MODALITY = Modality.load(KITCHEN / "meta" / "modality.json")
FEATURES = json.loads((KITCHEN / "meta" / "info.json").read_text(encoding="utf-8"))["features"]
SMALL = {
    "observation.state": {"dtype": "float32", "shape": (4,), "names": ["x", "y", "z", "gripper.pos"]},
    "action": {"dtype": "float32", "shape": (4,), "names": ["gripper.pos", "x", "y", "z"]},
    "observation.images.front": {"dtype": "video", "shape": (48, 64, 3), "names": ["height", "width", "channels"]},
    "timestamp": {"dtype": "float32", "shape": (1,), "names": None},
}


def columns(state: int = 4, action: int = 4) -> dict[str, dict[str, torch.Tensor]]:
    """Statistics of whole columns as tensors; every element has its own."""
    starts = {"min": 0, "mean": 1, "max": 2, "std": 3, "q01": 0, "q99": 2}
    widths = {"observation.state": state, "action": action}
    return {name: {kind: torch.arange(d) + float(k) for kind, k in starts.items()} for name, d in widths.items()}


def test_names_of_elements_cut_columns_into_keys_with_their_own_statistics() -> None:
    robot = Robot.from_columns(SMALL, columns())
    places = {key: (part.start, part.end) for key, part in robot.modality.action.items()}
    assert places == {"gripper": (0, 1), "position": (1, 4)}
    assert robot.statistics["action"]["position"]["max"] == [3.0, 4.0, 5.0]
    assert robot.statistics["state"]["gripper"]["min"] == [3.0]
    assert list(robot.modality.video) == ["front"]


def test_the_kitchen_told_by_its_columns_is_the_kitchen_read_from_disk(small_kitchen: Path) -> None:
    """Both ways to the same base give the same processor, configuration and weights."""
    robot = Robot.from_columns(FEATURES, columns(16, 12), tag=TAG, modality=MODALITY)
    told = set_up(robot, BASE, svms={"lambda_aux": 0.7})
    read = Experiment.prepare(small_kitchen, base=BASE, svms={"lambda_aux": 0.7}, seed=3)
    assert told.processor.config == read.processor.config
    assert told.processor.statistics == read.processor.statistics
    assert told.config == read.config
    one = told.model(seed=3).state_dict()
    for name, value in read.model(use_sheaf_streams=True, base=BASE).state_dict().items():
        assert torch.equal(value, one[name]), name


def test_a_new_robot_joins_those_of_the_base_and_its_policy_is_one_folder(tmp_path: Path) -> None:
    ready = set_up(Robot.from_columns(SMALL, columns()), BASE, svms={"memory_offsets": (-4, -2)})
    assert ready.config.d_stream == 64, "a plain base of the tiny size gets the tiny streams"
    folder = ready.policy(ready.model()).save_pretrained(tmp_path / "policy")
    again = Policy.from_pretrained(folder)
    assert again.processor.config.embodiment_tag == "new_embodiment"
    assert again.processor.tokenizer.to_text() == ready.processor.tokenizer.to_text()
    assert again.memory_offsets == (-4, -2)
    assert set_up(Robot.from_columns(SMALL, columns())).config.vision_config == ready.config.vision_config, "no base"


def test_a_robot_without_the_base_s_keys_and_statistics_of_other_columns_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"need base_position.*which the base has for robocasa"):
        set_up(Robot.from_columns(SMALL, columns(), tag=TAG), BASE)
    with pytest.raises(DataError, match="no camera"):
        Robot.from_columns({name: f for name, f in SMALL.items() if "images" not in name}, columns())
    with pytest.raises(DataError, match=r"shape \(3,\), but need \(4 or more,\)"):
        Robot.from_columns(SMALL, columns(4, 3))
    with pytest.raises(DataError, match="the column action"):
        Robot.from_columns(SMALL, {"observation.state": columns()["observation.state"]})


def test_a_batch_of_columns_encodes_to_the_samples_of_its_robots() -> None:
    """Tensors, float pictures with colours first: to the bit what single observations of bytes give."""
    modality = MODALITY
    processor = set_up(Robot.from_columns(FEATURES, columns(16, 12), tag=TAG, modality=modality), BASE).processor
    rng, texts = np.random.default_rng(0), ("open the drawer", "press the button twice")
    frames = {modality.column("video", key): rng.integers(0, 256, (2, 96, 128, 3), np.uint8) for key in modality.video}
    batch = {name: torch.from_numpy(f).permute(0, 3, 1, 2).float() / 255 for name, f in frames.items()}
    batch["observation.state"] = torch.from_numpy(rng.normal(size=(2, 16)).astype(np.float32))
    batch["action"] = torch.from_numpy(rng.uniform(-1, 1, size=(2, 16, 12)).astype(np.float32))
    seen = Observation.from_columns(batch, modality, texts)
    actions, pad = by_key(batch, modality, "action"), np.arange(16) >= np.array([[16], [5]])
    found = processor.encode_each(seen, actions, pad)
    state, chunk = batch["observation.state"].numpy(), batch["action"].numpy()
    for i, text in enumerate(texts):
        one = Observation.single(
            video={key: frames[modality.column("video", key)][i] for key in modality.video},
            state={key: state[i, part.start : part.end] for key, part in modality.state.items()},
            language=text,
        )
        acted = {key: chunk[i, :, part.start : part.end] for key, part in modality.action.items()}
        want = processor.encode(one, acted, pad[i])
        for name in ("state", "action", "action_mask", "input_ids"):
            assert torch.equal(getattr(found[i], name), getattr(want, name)), name
        assert torch.equal(found[i].images.pixels, want.images.pixels)
    assert not torch.equal(found[0].action_mask, found[1].action_mask)
    with pytest.raises(DataError, match=r"10 or more numbers, for state.end_effector"):
        Observation.from_columns(batch | {"observation.state": torch.zeros(2, 9)}, modality, texts)
