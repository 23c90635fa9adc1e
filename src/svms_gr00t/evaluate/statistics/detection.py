"""Intervals of AUROCs whose scores come in groups: looks of one episode resemble one another.

Jackknife over whole episodes, the same ones on both sides; t intervals, of one AUROC on its logit. A bootstrap of four
episodes covers 77 of a nominal 95 %.
"""

import numpy as np
from numpy import ndarray
from scipy import special

from svms_gr00t.evaluate.statistics.stats import LEVEL, Interval, t_quantile
from svms_gr00t.streams.metrics import auroc


def separation(calm: ndarray, loud: ndarray) -> float:
    """Chance that a loud score is above a calm one, ties counted half; NaN without one of them."""
    return float(auroc(np.concatenate([calm, loud]), np.repeat([False, True], [len(calm), len(loud)])))


def separation_interval(
    calm: ndarray, loud: ndarray, groups: tuple[ndarray, ndarray], level: float = LEVEL
) -> Interval | None:
    """Of `separation`; `groups` are the episodes of calm and loud scores. None below two, or where one decides all."""
    episodes = np.union1d(*groups)
    count, whole = len(episodes), separation(calm, loud)
    left_out = _left_out((calm, loud), groups, episodes)
    if count < 2 or not np.isfinite([whole, *left_out]).all():
        return None
    error, reach = float(np.sqrt((count - 1) * left_out.var())), t_quantile(level, count - 1)
    if slack := _slack(whole, count, reach):
        bound = 1 - slack
        return Interval(estimate=whole, low=min(whole, bound), high=max(whole, 1 - bound))
    ends = special.expit(special.logit(whole) + np.array([-reach, reach]) * error / (whole * (1 - whole)))
    return Interval(estimate=whole, low=min(whole, float(ends[0])), high=max(whole, float(ends[1])))  # and rounding


def separation_lead(
    ours: tuple[ndarray, ndarray],
    other: tuple[ndarray, ndarray],
    groups: tuple[ndarray, ndarray],
    level: float = LEVEL,
) -> Interval | None:
    """Paired difference of two detectors' `separation` on the same (calm, loud) looks; None below two episodes.

    Wider by Wilson's bound for each of the two that makes no mistake: nothing varies there, and that is no certainty.
    """
    episodes, wholes = np.union1d(*groups), (separation(*ours), separation(*other))
    whole = wholes[0] - wholes[1]
    left_out = _left_out(ours, groups, episodes) - _left_out(other, groups, episodes)
    if len(episodes) < 2 or not np.isfinite([whole, *left_out]).all():
        return None
    count = len(episodes)
    reach = t_quantile(level, count - 1)
    wide = reach * float(np.sqrt((count - 1) * left_out.var())) + sum(_slack(one, count, reach) for one in wholes)
    return Interval(estimate=whole, low=max(-1.0, whole - wide), high=min(1.0, whole + wide))


def _slack(whole: float, count: int, reach: float) -> float:
    """How far the truth may be from an AUROC of 0 or 1: Wilson's bound for `count` of `count` episodes; else 0."""
    return 1 - count / (count + reach**2) if min(whole, 1 - whole) < 1e-9 else 0.0


def _left_out(sides: tuple[ndarray, ndarray], groups: tuple[ndarray, ndarray], episodes: ndarray) -> ndarray:
    """`separation` without each episode in turn."""
    pairs = list(zip(sides, groups, strict=True))
    return np.array([separation(*(values[group != one] for values, group in pairs)) for one in episodes])
