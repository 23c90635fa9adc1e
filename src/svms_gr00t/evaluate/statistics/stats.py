"""Intervals and tests for one policy, or two on the same episodes of one training seed.

Axes: N episodes.

    error            mean m, standard error s:  m exp(±t s / m), the t interval of log m; m ± t s where a value is <= 0
    two errors       paired t interval of the difference; Fieller (1954) for the effect in percent; paired t test
    success          Wilson (1927)
    two successes    Tango's (1998) score interval of the difference of paired rates; exact McNemar (1947) test

An interval leaves 0 out exactly when its p is below 1 - level: a t interval is its t test turned round, so is
Fieller's, and Tango's is widened to 0 where the exact test does not reject. No bootstrap: resampled means cannot leave
the range of the data, which at two and four episodes covers 49 and 85 % of a nominal 95. Several seeds: `seeds.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import optimize, stats

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.files.records import JsonRecord

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


def mean_interval(values: Values, *, level: float = LEVEL) -> Interval | None:
    """t interval of a mean over episodes; None for fewer than two. Positive values: on the logarithm of the mean."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return None
    mean, reach = float(x.mean()), t_quantile(level, len(x) - 1) * _standard_error(x)
    if (x > 0).all():
        factor = float(np.exp(reach / mean))
        return Interval(estimate=mean, low=mean / factor, high=mean * factor)
    return Interval(estimate=mean, low=mean - reach, high=mean + reach)


def paired_difference(reference: Values, candidate: Values, *, level: float = LEVEL) -> Interval | None:
    """t interval of the mean of candidate - reference; None for fewer than two pairs."""
    a, b = _pair(reference, candidate)
    if len(a) < 2:
        return None
    mean, reach = float((b - a).mean()), t_quantile(level, len(a) - 1) * _standard_error(b - a)
    return Interval(estimate=mean, low=mean - reach, high=mean + reach)


def relative_effect(reference: Values, candidate: Values, *, level: float = LEVEL) -> Interval | None:
    """100 (mean candidate / mean reference - 1) in percent: -10 reads "10 % less". None when the reference is 0.

    Fieller's interval: the ratios r at which a t test of candidate - r reference does not reject. Where that set has no
    end (the reference's own mean is not clear of 0), the interval of the difference over the reference's mean.
    """
    a, b = _pair(reference, candidate)
    if len(a) < 2 or a.mean() == 0:
        return None
    ratio = float(b.mean() / a.mean())
    scale = t_quantile(level, len(a) - 1) ** 2 / len(a)
    (aa, ab), (_, bb) = np.cov(a, b) * scale
    square = float(a.mean() ** 2 - aa)
    if square <= 0:
        return scaled(paired_difference(a, b, level=level), float(a.mean()))
    # (b - r a)^2 <= scale (bb - 2 r ab + r^2 aa), means on the left: between the roots of a parabola in r
    middle = float(a.mean() * b.mean() - ab) / square
    spread = float(np.sqrt(max(0.0, middle**2 - float(b.mean() ** 2 - bb) / square)))
    low, high = min(ratio, middle - spread), max(ratio, middle + spread)
    return Interval(estimate=100 * (ratio - 1), low=100 * (low - 1), high=100 * (high - 1))


def scaled(difference: Interval | None, reference: float) -> Interval | None:
    """A difference in percent of the reference, which is taken as known; None without either."""
    if difference is None or reference == 0:
        return None
    low, high = sorted(100 * end / reference for end in (difference.low, difference.high))
    return Interval(estimate=100 * difference.estimate / reference, low=low, high=high)


def t_test(differences: Values) -> float:
    """Two-sided p that paired differences have mean 0; 1 for fewer than two, or for nothing but zeros."""
    d = np.asarray(differences, dtype=float)
    if len(d) < 2 or not d.any():
        return 1.0
    return t_tail(float(d.mean()), _standard_error(d), len(d) - 1)


def t_quantile(level: float, freedom: int | float) -> float:
    """How many standard errors a two-sided interval reaches."""
    return float(stats.t.ppf((1 + level) / 2, freedom))


def t_tail(estimate: float, error: float, freedom: int | float) -> float:
    """Two-sided p of a t statistic; without any spread 1 at 0 and 0 elsewhere."""
    return float(2 * stats.t.sf(abs(estimate) / error, freedom)) if error > 0 else float(estimate == 0)


def _standard_error(x: ndarray) -> float:
    return float(x.std(ddof=1) / np.sqrt(len(x))) if np.ptp(x) > 0 else 0.0  # equal values: exactly, not 1e-17


def _pair(reference: Values, candidate: Values) -> tuple[ndarray, ndarray]:
    a, b = np.asarray(reference, dtype=float), np.asarray(candidate, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        want = "the same episodes on both sides"
        raise ConfigError("paired values", got=f"{a.shape} and {b.shape}", want=want, hint="Evaluate both on one list")
    return a, b


def p_value(p: float) -> str:
    """As tables print it: nothing is "0.000", and rounding moves nothing to the other side of 0.05."""
    if p < 0.0005:
        return "< 0.001"
    edge = round(1 - LEVEL, 6)
    digits = next((d for d in range(3, 9) if (round(p, d) < edge) == (p < edge)), 9)
    return f"{p:.{digits}f}"


def signed(value: float, decimals: int = 1) -> str:
    """ "+4.2", "-0.03": more decimals where fewer would read as 0 although it is not."""
    value += 0.0  # no "-0.0"
    texts = (f"{value:+.{d}f}" for d in range(decimals, 9))
    return next((text for text in texts if float(text) != 0 or value == 0), f"{value:+.0e}")


def effect_text(interval: Interval | None, unit: str = "") -> tuple[str, str]:
    """("+4.2 %", "-0.3 to +8.7"): an effect and its interval as tables print them; empty without one."""
    if interval is None:
        return "", ""
    return f"{signed(interval.estimate)}{unit}", f"{signed(interval.low)} to {signed(interval.high)}"


def points(interval: Interval | None) -> Interval | None:
    """A difference of rates in percentage points."""
    if interval is None:
        return None
    return Interval(estimate=100 * interval.estimate, low=100 * interval.low, high=100 * interval.high)


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


def paired_rates(
    reference: Bool[ndarray, " N"], candidate: Bool[ndarray, " N"], *, level: float = LEVEL
) -> Interval | None:
    """Success rate of candidate - reference with its interval, which agrees with `mcnemar`; None without episodes.

    Equal outcomes do not make it narrow: 18 of 18 alike still allow 18 points either way.
    """
    n, test = len(reference), mcnemar(reference, candidate)
    if n == 0:
        return None
    won, lost = test.only_candidate, test.only_reference
    z, estimate = float(stats.norm.ppf((1 + level) / 2)), (won - lost) / n

    def score(delta: float) -> float:
        """Tango's statistic minus the quantile that its sign asks for; 0 at an end of the interval."""
        b, c = (2 * n - won + lost) * delta - won - lost, -lost * delta * (1 - delta)
        rest = (np.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        spread = np.sqrt(max(0.0, n * (2 * rest + delta * (1 - delta))))
        return float(abs(won - lost - n * delta) - z * spread)

    ends = [-1.0, 1.0]
    for side, way in enumerate((-1, 1)):
        edge, near = way * (1 - 1e-9), estimate + way * 1e-9  # equal outcomes have a second root at the estimate
        if way * (edge - near) > 0 and score(edge) > 0:
            ends[side] = float(optimize.brentq(score, edge, near))
    if test.p >= 1 - level:
        ends = [min(ends[0], 0.0), max(ends[1], 0.0)]
    return Interval(estimate=estimate, low=ends[0], high=ends[1])


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
    """Of the intervals' own test: paired t for errors, exact McNemar for outcomes."""


def compare_paired(
    reference: Mapping[int, float], candidate: Mapping[int, float], *, outcomes: bool = False, level: float = LEVEL
) -> Comparison:
    """Compare per-episode errors, or `outcomes` (1 won, 0 lost). Raises ConfigError when the episodes differ."""
    if reference.keys() != candidate.keys():
        odd = sorted(reference.keys() ^ candidate.keys())[:5]
        want = "the same episodes on both sides"
        raise ConfigError("paired episodes", got=f"unpaired {odd}", want=want, hint="Evaluate both on one list")
    keys = sorted(reference)
    a, b = (np.array([side[key] for key in keys], dtype=float) for side in (reference, candidate))
    if outcomes:
        difference = paired_rates(a > 0.5, b > 0.5, level=level)
        relative, p = scaled(difference, float(a.mean()) if len(a) else 0.0), mcnemar(a > 0.5, b > 0.5).p
    else:
        difference, relative = paired_difference(a, b, level=level), relative_effect(a, b, level=level)
        p = t_test(b - a)
    return Comparison(episodes=len(keys), difference=difference, relative=relative, p=p)


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
