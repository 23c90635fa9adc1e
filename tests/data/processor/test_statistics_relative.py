"""Relative statistics are those of exactly the differences that training normalises, at every horizon step."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from statistics_oracle import check

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.processor.embodiment import ActionConfig, EmbodimentConfig, ModalityConfig
from svms_gr00t.data.processor.lowdim import LowDimCodec
from svms_gr00t.data.processor.relative import relative_rows, with_relative
from svms_gr00t.data.processor.rotations import join_pose
from svms_gr00t.data.processor.statistics import RunningStatistics, compute_statistics

HORIZON = 5


def robot(hand: ActionConfig) -> EmbodimentConfig:
    """Joints relative to the state of the same name, a hand pose relative to the state `tip`, a plain gripper."""
    return EmbodimentConfig(
        video=ModalityConfig(modality_keys=("front",)),
        state=ModalityConfig(modality_keys=("arm", "tip", "gripper")),
        action=ModalityConfig(
            delta_indices=tuple(range(HORIZON)),
            modality_keys=("arm", "hand", "gripper"),
            action_configs=(ActionConfig(rep="relative"), hand, ActionConfig()),
        ),
        language=ModalityConfig(modality_keys=("annotation.human.action.task_description",)),
    )


def poses(rng: np.random.Generator, length: int, form: Any) -> np.ndarray:
    turns = Rotation.from_rotvec(rng.normal(size=(length, 3))).as_matrix()
    return join_pose(rng.normal(size=(length, 3)), turns, form).astype(np.float32)


def rows(rng: np.random.Generator, length: int, form: Any = "xyz+rot6d") -> dict[str, np.ndarray]:
    plain = {
        "state.arm": rng.normal(size=(length, 2)),
        "state.gripper": rng.normal(size=(length, 1)),
        "action.arm": rng.normal(size=(length, 2)),
        "action.gripper": rng.normal(size=(length, 1)),
    }
    posed = {"state.tip": poses(rng, length, form), "action.hand": poses(rng, length, form)}
    return {name: value.astype(np.float32) for name, value in plain.items()} | posed


def matrix(pose: np.ndarray, form: str) -> np.ndarray:
    """4 x 4 matrix of one pose, independent of the package's rotations."""
    out = np.eye(4)
    out[:3, 3] = pose[:3]
    if form == "xyz+rotvec":
        out[:3, :3] = Rotation.from_rotvec(pose[3:].astype(np.float64)).as_matrix()
    else:
        a, b = pose[3:6].astype(np.float64), pose[6:9].astype(np.float64)
        a = a / np.linalg.norm(a)
        b = b - (a @ b) * a
        b = b / np.linalg.norm(b)
        out[:3, :3] = [a, b, np.cross(a, b)]
    return out


def slow(episodes: list[dict[str, np.ndarray]], step: int, form: str) -> tuple[np.ndarray, np.ndarray]:
    """Oracle: one chunk and one horizon step at a time, from 4 x 4 matrices."""
    arm, hand = [], []
    for episode in episodes:
        for t in range(len(episode["state.arm"]) - step):
            arm.append(episode["action.arm"][t + step].astype(np.float64) - episode["state.arm"][t])
            now, later = (matrix(episode[name][at], form) for name, at in (("state.tip", t), ("action.hand", t + step)))
            move = np.linalg.inv(now) @ later
            turn = move[:2, :3].reshape(6) if form == "xyz+rot6d" else Rotation.from_matrix(move[:3, :3]).as_rotvec()
            hand.append(np.concatenate([move[:3, 3], turn]))
    return np.array(arm), np.array(hand)


@pytest.mark.parametrize("form", ["xyz+rot6d", "xyz+rotvec"])
@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(HORIZON, 14), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_each_horizon_step_equals_the_definition(form: Any, lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    episodes = [rows(rng, length, form) for length in lengths]
    running = RunningStatistics(robot(ActionConfig(rep="relative", type="eef", format=form, state_key="tip")))
    for episode in episodes:
        running.update(episode)
    relative = running.result()["relative_action"]
    assert list(relative) == ["arm", "hand"]
    for step in range(HORIZON):
        for key, expected in zip(("arm", "hand"), slow(episodes, step, form), strict=True):
            got = {name: values[step] for name, values in relative[key].items()}
            for name, value in got.items():
                want = getattr(expected, name)(axis=0) if name in ("min", "max", "mean", "std") else None
                if want is not None:
                    np.testing.assert_allclose(value, want, rtol=1e-5, atol=2e-6)
            check_quantiles(got, expected)


def check_quantiles(got: dict[str, Any], rows: np.ndarray) -> None:
    for name, q in (("q01", 0.01), ("q99", 0.99)):
        np.testing.assert_allclose(got[name], np.quantile(rows, q, axis=0), rtol=1e-5, atol=2e-6)


def test_far_steps_have_wider_ranges_and_padding_does_not_count() -> None:
    t = np.arange(40, dtype=np.float32)[:, None]
    ramp = {"state.arm": np.tile(t, (1, 2)), "action.arm": np.tile(t, (1, 2))}
    rest = rows(np.random.default_rng(0), 40)
    running = RunningStatistics(robot(ActionConfig()))
    running.update(rest | ramp)
    arm = running.result()["relative_action"]["arm"]
    assert arm["min"] == arm["max"] == [[float(step)] * 2 for step in range(HORIZON)]
    # Mutant: chunks that repeat the last action at the end of an episode pull the far steps' minimum to 0.
    padded = np.array([ramp["action.arm"][min(s + 4, 39), 0] - s for s in range(40)])
    assert padded.min() != arm["min"][4][0]


def test_statistics_normalise_what_training_feeds(small_kitchen) -> None:
    """Every valid chunk of a real dataset lies in [-1, 1] without clipping, and touches both ends; and comes back."""
    dataset = LeRobotDataset.open(small_kitchen)
    rng = np.random.default_rng(1)
    episodes = [rows(rng, length) for length in (11, 17)]
    embodiment = robot(ActionConfig(rep="relative", type="eef", format="xyz+rot6d", state_key="tip"))
    running = RunningStatistics(embodiment)
    for episode in episodes:
        running.update(episode)
    sizes = {"max_state_dim": 12, "max_action_dim": 12, "max_action_horizon": HORIZON}
    codec = LowDimCodec(embodiment, running.result(), clip_outliers=False, **sizes)
    encoded = []
    for episode in episodes:
        for t in range(len(episode["state.arm"]) - HORIZON + 1):
            state = {key: episode[f"state.{key}"][t : t + 1] for key in ("arm", "tip", "gripper")}
            chunk = {key: episode[f"action.{key}"][t : t + HORIZON] for key in ("arm", "hand", "gripper")}
            encoded.append(codec.encode_action(chunk, state))
            back = codec.decode_action(encoded[-1], state)
            for key, values in chunk.items():
                np.testing.assert_allclose(back[key], values, atol=2e-5)
    values = np.stack(encoded)[..., :12]
    assert np.abs(values).max() <= 1 + 1e-6
    assert compute_statistics(dataset, [0]).keys() == {"state", "action"}


def test_absolute_statistics_do_not_change_beside_relative_ones() -> None:
    episode = rows(np.random.default_rng(3), 9)
    both, plain = RunningStatistics(robot(ActionConfig())), RunningStatistics()
    for running in (both, plain):
        running.update(episode)
    assert {k: v for k, v in both.result().items() if k != "relative_action"} == plain.result()
    check(plain.result()["action"]["arm"], episode["action.arm"])


def test_what_cannot_be_summarised_is_one_sentence() -> None:
    running = RunningStatistics(robot(ActionConfig()))
    running.update(rows(np.random.default_rng(0), HORIZON - 1))
    with pytest.raises(DataError, match="shorter than the horizon"):
        running.result()
    wrong = robot(ActionConfig(rep="relative", type="eef", format="xyz+rot6d", state_key="arm"))
    with pytest.raises(DataError, match="9 action and 2 state numbers"):
        RunningStatistics(wrong).update(rows(np.random.default_rng(0), 8))


def test_relative_keys_by_name() -> None:
    plain = robot(ActionConfig())
    found = with_relative(plain, ["hand=tip:xyz+rot6d", "gripper"])
    meanings = [found.action.action(key) for key in found.action.modality_keys]
    assert meanings[1] == ActionConfig(rep="relative", type="eef", format="xyz+rot6d", state_key="tip")
    assert (meanings[0].rep, meanings[2]) == ("relative", ActionConfig(rep="relative"))
    for spec, text in (("leg", "a key among arm"), ("hand=tip:quat", "the format"), ("hand", "state_key among")):
        with pytest.raises(ConfigError, match=text):
            with_relative(plain, [spec])


def test_relative_rows_of_single_precision_are_differences_in_double() -> None:
    action, state = (np.array([[x]], np.float32) for x in (0.1, -0.3))
    found = relative_rows(action, state, ActionConfig(rep="relative"), 0)
    assert found.dtype == np.float64
    assert found.item() == float(action.item()) - float(state.item()) != float((action - state).item())
