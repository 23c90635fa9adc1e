"""Intervals and tests for evaluation, so that no number stands alone.

Wilson (1927) interval for success rates; BCa bootstrap (Efron 1987) over episodes for paired differences; exact McNemar
(1947) for paired successes; sign-flip permutation test for paired errors. scipy does the work where it can.

A bootstrap of n episodes is too narrow by sqrt((n - 1) / n) and by the normal instead of the t quantile, so that "95 %"
covers 90 % at n = 10. The level is widened to make up for both (the expanded interval of Hesterberg 2015,
arXiv:1411.5279): tail probability Phi(-sqrt(n / (n - 1)) t_{n-1}). Several training seeds: `evaluate/seeds.py`.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import stats

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.records import JsonRecord

LEVEL = 0.95
Values = Sequence[float] | ndarray
"""One number an episode."""


@dataclass(frozen=True, kw_only=True)
class Interval(JsonRecord):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Does the interval leave `value` out?"""
        return not self.low <= value <= self.high


def wilson(successes: int, trials: int, *, level: float = LEVEL) -> Interval | None:
    """Wilson interval of a success rate; None without trials."""
    if trials == 0:
        return None
    if not 0 <= successes <= trials:
        raise ConfigError("successes", got=successes, want=f"0 to {trials}", hint="Count successes among the trials")
    found = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Interval(estimate=successes / trials, low=float(found.low), high=float(found.high))


def mean_interval(values: Values, *, level: float = LEVEL, seed: int = 0) -> Interval | None:
    """Bootstrap interval of a mean over episodes; None for fewer than two."""
    return _bootstrap((np.asarray(values, dtype=float),), _mean, level, seed)


def paired_difference(reference: Values, candidate: Values, *, level: float = LEVEL, seed: int = 0) -> Interval | None:
    """Mean of candidate - reference with a bootstrap interval that resamples whole episodes."""
    a, b = _pair(reference, candidate)
    return _bootstrap((b - a,), _mean, level, seed)


def relative_effect(reference: Values, candidate: Values, *, level: float = LEVEL, seed: int = 0) -> Interval | None:
    """100 (mean candidate / mean reference - 1) in percent: -10 reads "10 % less". None when the reference is 0."""
    a, b = _pair(reference, candidate)
    if not len(a) or a.mean() == 0:
        return None
    return _bootstrap((a, b), _ratio, level, seed)


def _mean(x: ndarray, axis: int = -1) -> Any:
    return np.mean(x, axis=axis)


def _ratio(a: ndarray, b: ndarray, axis: int = -1) -> Any:
    below = np.mean(a, axis=axis)
    # A resample of nothing but zeros has no ratio; it counts as "no effect" rather than as infinity.
    return np.where(below == 0, 0.0, 100 * (np.mean(b, axis=axis) / np.where(below == 0, 1.0, below) - 1))


def _pair(reference: Values, candidate: Values) -> tuple[ndarray, ndarray]:
    a, b = np.asarray(reference, dtype=float), np.asarray(candidate, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        want = "the same episodes on both sides"
        raise ConfigError("paired values", got=f"{a.shape} and {b.shape}", want=want, hint="Evaluate both on one list")
    return a, b


def _bootstrap(
    samples: tuple[ndarray, ...], statistic: Callable[..., Any], level: float, seed: int, resamples: int = 5000
) -> Interval | None:
    """BCa interval; None for fewer than two episodes, which say nothing about spread."""
    count = len(samples[0])
    if count < 2:
        return None
    estimate = float(statistic(*samples))
    if all(np.ptp(sample) == 0 for sample in samples):
        return Interval(estimate=estimate, low=estimate, high=estimate)
    arguments: dict[str, Any] = {"paired": True, "vectorized": True, "n_resamples": resamples}
    arguments["confidence_level"] = expanded(level, count)
    for method in ("BCa", "percentile"):  # BCa has no answer when the jackknife does not vary
        source = np.random.default_rng(seed)
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            found = stats.bootstrap(samples, statistic, method=method, random_state=source, **arguments)
        low, high = found.confidence_interval
        if np.isfinite([low, high]).all():
            break
    return Interval(estimate=estimate, low=float(low), high=float(high))


def expanded(level: float, count: int) -> float:
    """The level to ask of a bootstrap over `count` values so that its interval covers `level`."""
    t = stats.t.ppf((1 + level) / 2, count - 1)
    return float(1 - 2 * stats.norm.cdf(-np.sqrt(count / (count - 1)) * t))


def p_value(p: float) -> str:
    """As tables print it: nothing is "0.000"."""
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


@dataclass(frozen=True, kw_only=True)
class McNemar(JsonRecord):
    """Paired successes: only the episodes on which the two disagree say which is better."""

    only_reference: int
    only_candidate: int
    p: float
    """Exact two-sided p-value; 1 without disagreement."""


def mcnemar(reference: Bool[ndarray, " N"], candidate: Bool[ndarray, " N"]) -> McNemar:
    """Exact McNemar test: under no difference, the disagreements split as a fair coin."""
    only_a, only_b = int((reference & ~candidate).sum()), int((candidate & ~reference).sum())
    p = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    return McNemar(only_reference=only_a, only_candidate=only_b, p=float(p))


def sign_flip(differences: Float[ndarray, " N"], *, resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided p-value that paired differences have mean 0; exact when 2^N <= resamples; 1 for a single episode."""
    if len(differences) < 2 or not np.any(differences):
        return 1.0
    found = stats.permutation_test(
        (differences, np.zeros_like(differences)),
        lambda a, b, axis=-1: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        random_state=np.random.default_rng(seed),
    )
    return float(found.pvalue)


@dataclass(frozen=True, kw_only=True)
class Comparison(JsonRecord):
    """Candidate against reference on the same episodes."""

    episodes: int
    difference: Interval | None
    """Mean of candidate - reference; None when fewer than two episodes were paired."""
    relative: Interval | None
    """The same in percent of the reference."""
    p: float
    """Sign-flip permutation test."""


def compare_paired(reference: dict[int, float], candidate: dict[int, float], *, seed: int = 0) -> Comparison:
    """Compare per-episode errors. Raises ConfigError when the episodes differ."""
    if reference.keys() != candidate.keys():
        odd = sorted(reference.keys() ^ candidate.keys())[:5]
        want = "the same episodes on both sides"
        raise ConfigError("paired episodes", got=f"unpaired {odd}", want=want, hint="Evaluate both on one list")
    keys = sorted(reference)
    a, b = [reference[key] for key in keys], [candidate[key] for key in keys]
    return Comparison(
        episodes=len(keys),
        difference=paired_difference(a, b, seed=seed),
        relative=relative_effect(a, b, seed=seed),
        p=sign_flip(np.subtract(b, a), seed=seed),
    )


def episodes_for_width(differences: Values, width: float, *, level: float = LEVEL) -> int:
    """Episodes at which the interval of a mean paired difference is as narrow as `width` (high - low), at least 2.

    From the spread of the pairs at hand. Raises ConfigError for fewer than two of them or a width that is not positive.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2 or not width > 0:
        got, want = f"{len(values)} pairs, width {width}", "two or more pairs and a width above 0"
        raise ConfigError("episodes for a width", got=got, want=want, hint="Compare more episodes first")
    spread, count = values.std(ddof=1), 2
    while 2 * stats.t.ppf((1 + level) / 2, count - 1) * spread > width * np.sqrt(count) and count < 10_000_000:
        wish = (2 * stats.t.ppf((1 + level) / 2, count - 1) * spread / width) ** 2
        count = max(count + 1, min(ceil(wish), 2 * count))
    return count


def episodes_needed(reference: float, candidate: float, *, power: float = 0.8, level: float = LEVEL) -> int:
    """Episodes for each policy to see two success rates apart (normal approximation, unpaired: an upper guide)."""
    if reference == candidate or not (0 <= reference <= 1 and 0 <= candidate <= 1):
        got = (reference, candidate)
        raise ConfigError("success rates", got=got, want="two different rates in [0, 1]", hint="Say what to detect")
    z = stats.norm.ppf(1 - (1 - level) / 2) + stats.norm.ppf(power)
    variance = reference * (1 - reference) + candidate * (1 - candidate)
    return max(1, ceil(z**2 * variance / (reference - candidate) ** 2))
