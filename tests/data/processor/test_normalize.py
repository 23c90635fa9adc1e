"""Normalisation: inverses, constant elements, clipping, and parity with the reference N1.6."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.processor.embodiment import ActionConfig, EmbodimentConfig, ModalityConfig
from svms_gr00t.data.processor.lowdim import LowDimCodec
from svms_gr00t.data.processor.normalize import MeanStd, MinMax, SinCos, mean_std, min_max, still

numbers = st.floats(-100, 100, allow_nan=False, width=32)
rows = arrays(np.float64, (5, 3), elements=numbers)
LOW, HIGH = np.array([-1.0, 0.5, -100.0]), np.array([2.0, 0.5, 100.0])


@given(rows)
def test_min_max_inside_the_range_comes_back(x):
    normalizer = MinMax(low=LOW, high=HIGH)
    inside = x.clip(LOW, HIGH)
    y = normalizer.encode(inside)
    assert y.min() >= -1
    assert y.max() <= 1
    np.testing.assert_allclose(normalizer.decode(y), inside, atol=1e-9)


@given(rows)
def test_min_max_clips_outside_both_ways(x):
    clipped, free = MinMax(low=LOW, high=HIGH), MinMax(low=LOW, high=HIGH, clip=False)
    np.testing.assert_array_equal(clipped.encode(x), free.encode(x).clip(-1, 1))
    np.testing.assert_allclose(free.decode(free.encode(x)), x.clip(LOW, HIGH), atol=1e-9)


@given(rows)
def test_mean_std_comes_back_and_constants_return_to_the_mean(x):
    normalizer = MeanStd(mean=np.array([1.0, -2.0, 0.5]), std=np.array([2.0, 0.0, 1e-3]))
    expected = x.copy()
    expected[:, 1] = -2.0
    np.testing.assert_allclose(normalizer.decode(normalizer.encode(x)), expected, atol=1e-9)


@given(rows)
def test_sin_cos_comes_back_on_the_circle(x):
    normalizer = SinCos(width=3)
    y = normalizer.encode(x)
    assert y.shape[-1] == normalizer.encoded_width == 6
    np.testing.assert_allclose(np.exp(1j * normalizer.decode(y)), np.exp(1j * x), atol=1e-9)
    np.testing.assert_allclose(y[:, :3], np.sin(x))


def test_a_constant_element_becomes_zero_and_comes_back_as_the_minimum():
    normalizer = MinMax(low=LOW, high=HIGH)
    np.testing.assert_array_equal(normalizer.encode(np.full((1, 3), 0.7))[:, 1], 0.0)
    np.testing.assert_array_equal(normalizer.decode(np.full((1, 3), 0.9))[:, 1], 0.5)


@pytest.mark.parametrize(
    ("summary", "complaint"),
    [
        ({"max": [1.0]}, "statistics max, but need min"),
        ({"min": [1.0], "max": [0.0]}, "maximum below its minimum"),
        ({"min": [float("nan")], "max": [0.0]}, "finite numbers"),
        ({"min": ["a"], "max": [0.0]}, "non-numeric"),
    ],
)
def test_broken_statistics_are_refused(summary, complaint):
    with pytest.raises(DataError, match=complaint):
        min_max(summary, "statistics state.arm", percentiles=False, clip=True)


def reference_codec(case: dict) -> LowDimCodec:
    actions = {
        "arm": ActionConfig(rep="relative", state_key="arm"),
        "eef": ActionConfig(rep="relative", type="eef", format="xyz+rot6d", state_key="eef"),
    }
    config = EmbodimentConfig(
        video=ModalityConfig(modality_keys=("view",)),
        state=ModalityConfig(
            modality_keys=tuple(case["state_keys"]),
            sin_cos_embedding_keys=tuple(case["sin_cos_state_keys"]),
            mean_std_embedding_keys=tuple(case["mean_std_state_keys"]),
        ),
        action=ModalityConfig(
            delta_indices=tuple(range(case["horizon"])),
            modality_keys=tuple(case["action_keys"]),
            mean_std_embedding_keys=tuple(case["mean_std_action_keys"]),
            action_configs=tuple(actions.get(key, ActionConfig()) for key in case["action_keys"]),
        ),
        language=ModalityConfig(modality_keys=("annotation.task",)),
    )
    options = case["options"]
    return LowDimCodec(
        config,
        case["statistics"],
        max_state_dim=40,
        max_action_dim=40,
        max_action_horizon=8,
        use_percentiles=options["use_percentiles"],
        clip_outliers=options["clip_outliers"],
        apply_sincos_state_encoding=options["sincos"],
    )


def joined(values: dict, keys: list[str]) -> np.ndarray:
    return np.concatenate([np.asarray(values[key]) for key in keys], axis=-1)


@pytest.fixture(params=[0, 1], ids=["clipped", "percentiles"])
def case(shared, request) -> dict:
    path = shared / "golden" / "processor" / "state_action_processor.json"
    return json.loads(path.read_text(encoding="utf-8"))[request.param]


def test_matches_the_reference(case):
    """float64 on both sides and the same formulas: only reassociation noise is allowed."""
    codec = reference_codec(case)
    state = {key: np.asarray(value) for key, value in case["state"].items()}
    action = {key: np.asarray(value) for key, value in case["action"].items()}
    expected_state = joined(case["normalized_state"], case["state_keys"])
    expected_action = joined(case["normalized_action"], case["action_keys"])
    encoded = codec.encode_action(action, state)
    np.testing.assert_allclose(codec.encode_state(state)[:, : codec.state_dim], expected_state, atol=1e-12)
    np.testing.assert_allclose(encoded[: codec.horizon, : codec.action_dim], expected_action, atol=1e-12)
    assert not encoded[codec.horizon :].any()
    assert not encoded[:, codec.action_dim :].any()
    decoded = codec.decode_action(encoded, state)
    for key in case["action_keys"]:
        np.testing.assert_allclose(decoded[key], case["recovered_action"][key], atol=1e-6)


def test_the_parity_test_notices_another_reference_state(case):
    codec = reference_codec(case)
    state = {key: np.asarray(value) for key, value in case["state"].items()}
    action = {key: np.asarray(value) for key, value in case["action"].items()}
    expected = joined(case["normalized_action"], case["action_keys"])
    state["arm"] = state["arm"] + 0.01
    encoded = codec.encode_action(action, state)[: codec.horizon, : codec.action_dim]
    assert np.abs(encoded - expected).max() > 1e-3


def test_what_counts_as_standing_still_is_a_millionth_of_the_value_or_of_one():
    low = np.array([0.0, 0.0, 0.5, 50.0, 50.0, -50.0])
    width = np.array([1e-6, 1.5e-6, 1.5e-6, 4e-5, 8e-5, 4e-5])
    assert still(low, low + width).tolist() == [True, False, False, True, False, True]
    spread = MeanStd(mean=np.array([0.0, 0.0, 50.0, 50.0]), std=np.array([1e-6, 1.5e-6, 4e-5, 8e-5]))
    assert (spread.encode(spread.mean + spread.std) != 0).tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("low", "high"),
    [([0.0, 1.0], [1.0, 0.5]), ([0.0], [1.0, 2.0]), ([0.0, float("nan")], [1.0, 1.0]), ([0.0], [float("inf")])],
    ids=["one upside down", "other widths", "one NaN", "infinite"],
)
def test_one_wrong_bound_is_enough(low, high):
    with pytest.raises(DataError):
        min_max({"min": low, "max": high}, "arm", percentiles=False, clip=True)


def test_one_deviation_below_nothing_is_enough_and_zero_is_a_constant():
    for std in ([1.0, -1.0], [1.0]):
        with pytest.raises(DataError, match="a negative or missing deviation"):
            mean_std({"mean": [0.0, 1.0], "std": std}, "arm")
    assert mean_std({"mean": [0.0], "std": [0.0]}, "arm").encode(np.array([3.0])).tolist() == [0.0]


def test_angles_of_many_steps_and_robots_are_coded_along_the_last_axis():
    angles = np.linspace(-3, 3, 2 * 4 * 3).reshape(2, 4, 3)
    coded = SinCos(width=3).encode(angles)
    np.testing.assert_array_equal(coded[..., :3], np.sin(angles))
    np.testing.assert_array_equal(coded[..., 3:], np.cos(angles))
    np.testing.assert_allclose(SinCos(width=3).decode(coded), angles)
