"""How weights, temperature and learning rate move, as tables; no term of the loss can go missing."""

import math

import pytest
import torch

from svms_gr00t.train.losses import total_loss
from svms_gr00t.train.schedules import SheafWeight, cosine, ramp, temperature


@pytest.mark.parametrize(
    ("step", "length", "expected"),
    [(0, 10, 0.0), (5, 10, 0.5), (0, 1, 0.0), (10, 10, 1.0), (99, 10, 1.0), (0, 0, 1.0), (3, -1, 1.0)],
)
def test_ramp(step, length, expected):
    assert ramp(step, length) == expected


@pytest.mark.parametrize(
    ("step", "steps", "warmup", "expected"),
    [
        (0, 100, 0.05, 0.2),
        (4, 100, 0.05, 1.0),
        (5, 100, 0.05, 1.0),
        (24, 100, 0.05, 0.5 * (1 + math.cos(math.pi * 19 / 95))),
        (100, 100, 0.05, 0.0),
        (0, 10, 0.0, 1.0),  # the first step never has rate 0
        (1, 10, 0.0, 1.0),
        (1, 1, 0.0, 1.0),
        (2, 2, 1.0, 1.0),
        (3, 4, 0.5, 0.5),
        (2, 2, 0.5, 0.0),
    ],
)
def test_cosine(step, steps, warmup, expected):
    assert cosine(step, steps, warmup=warmup) == pytest.approx(expected, abs=1e-12)
    assert cosine(24, 100) == cosine(24, 100, warmup=0.05)


@pytest.mark.parametrize(("step", "expected"), [(0, 2.0), (5, 1.0), (10, 0.5), (50, 0.5)])
def test_temperature_falls_geometrically(step, expected):
    assert temperature(step, initial=2.0, final=0.5, decay_steps=10) == pytest.approx(expected)


def weight(mode: str) -> SheafWeight:
    return SheafWeight(mode=mode, low=0.1, high=0.5, threshold=0.4, ramp_steps=4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("off", [0.0] * 4), ("constant", [0.5] * 4), ("linear", [0.1, 0.2, 0.4, 0.5]), ("adaptive", [0.1] * 4)],
)
def test_the_weight_of_the_sheaf_loss_by_mode(mode, expected):
    assert [weight(mode).at(step) for step in (0, 1, 3, 9)] == pytest.approx(expected)


def test_the_adaptive_ramp_begins_once_after_the_smoothed_loss_fell_below_the_threshold():
    sheaf = weight("adaptive")
    sheaf.see(0, 1.0)
    assert sheaf.smoothed == 1.0
    sheaf.see(1, 0.0)
    assert sheaf.smoothed == pytest.approx(0.95)
    assert sheaf.started is None  # one good batch is not enough
    sheaf.smoothed = 0.4
    sheaf.see(2, 0.4)
    assert sheaf.started is None, "at the threshold is not below it"
    sheaf.see(6, 0.3)
    assert sheaf.started == 7
    assert [sheaf.at(step) for step in (7, 8, 11, 20)] == pytest.approx([0.1, 0.2, 0.5, 0.5])
    sheaf.see(7, 9.0)
    sheaf.see(8, 0.0)
    assert sheaf.started == 7, "once"
    again = weight("adaptive")
    again.load_state_dict(sheaf.state_dict())
    assert (again.smoothed, again.started) == (sheaf.smoothed, 7)
    fresh = weight("adaptive")
    fresh.load_state_dict(weight("adaptive").state_dict())
    assert (fresh.smoothed, fresh.started) == (None, None)
    linear = weight("linear")
    linear.see(0, 0.0)
    assert linear.started is None


def test_the_loss_is_the_weighted_sum_and_names_that_do_not_meet_are_refused():
    terms = {"flow": torch.tensor(3.0), "sheaf": torch.tensor(5.0), "aux": torch.tensor(float("nan"))}
    assert total_loss(terms, {"flow": 2.0, "sheaf": 0.5, "aux": 0.0}) == 8.5
    for weights in ({"flow": 1.0}, {"flow": 1.0, "sheaf": 1.0, "aux": 1.0, "recall": 1.0}):
        with pytest.raises(KeyError, match="the model emits"):
            total_loss(terms, weights)
