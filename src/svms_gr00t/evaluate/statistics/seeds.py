"""Paired comparison over several training seeds: what would happen with a new seed and new episodes.

Axes: K seeds, N episodes of a seed. d[k, n] = candidate - reference of seed k on episode n.

One seed: `stats.compare_paired`, over its episodes. Several: the seed is the unit that was repeated, so a mean of K
seed means has a t interval with K - 1 degrees of freedom. Where all seeds were judged on the *same* episodes, these are
a second random factor, and (Satterthwaite 1946)

    var(mean) = (MS_seed + MS_episode - MS_rest) / (K N),   MS the mean squares of the K x N table

never taken below MS_rest / (K N). Treating K N pairs as independent would claim far too much: that is why McNemar's
test and Wilson's interval are for one seed only.

Outcomes (1 won, 0 lost) come in steps, so a few seeds may agree by luck. Their interval is never narrower, nor their p
smaller, than the pairs alone would say if seeds did not matter: the variance of Agresti and Min (2005), half an episode
added to each of the four ways two outcomes can fall.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.evaluate.statistics.stats import (
    LEVEL,
    Interval,
    compare_paired,
    scaled,
    sign_flip,
    t_quantile,
    t_tail,
    wilson,
)

BySeed = Mapping[int, Mapping[int, float]]
"""Training seed -> episode -> error."""


@dataclass(frozen=True, kw_only=True)
class SeedComparison(JsonRecord):
    """Candidate against reference, paired by seed and episode."""

    seeds: int
    episodes: int
    """Pairs in all."""
    reference: float
    """Mean over seeds of means over episodes."""
    candidate: float
    difference: Interval | None
    """Candidate - reference; None with a single pair."""
    relative: Interval | None
    """The same in percent of the reference's mean."""
    p: float
    """Two-sided, of the interval's own test: t over seeds; of a single seed paired t, for outcomes exact McNemar."""
    p_permutation: float
    """Another test: sign flips of the seeds' means (of one seed's episodes); with K seeds never below 2^(1 - K)."""


def compare_seeds(
    reference: BySeed, candidate: BySeed, *, outcomes: bool = False, level: float = LEVEL
) -> SeedComparison:
    """Compare errors, or `outcomes` (1 won, 0 lost), by seed and episode. ConfigError when seeds or episodes differ."""
    _check(reference, candidate)
    runs = sorted(reference)
    rows = [np.array([candidate[k][e] - reference[k][e] for e in sorted(reference[k])]) for k in runs]
    base = float(np.mean([_mean(reference[k]) for k in runs]))
    counts: dict[str, Any] = {"seeds": len(runs), "episodes": sum(map(len, rows)), "reference": base}
    counts["candidate"] = float(np.mean([_mean(candidate[k]) for k in runs]))
    if len(runs) == 1:
        one = compare_paired(reference[runs[0]], candidate[runs[0]], outcomes=outcomes, level=level)
        counts |= {"p": one.p, "p_permutation": sign_flip(rows[0])}
        return SeedComparison(difference=one.difference, relative=one.relative, **counts)
    difference, p = _over_seeds(rows, _crossed(reference), outcomes, level)
    return SeedComparison(
        difference=difference,
        # The reference's own error is taken as known; the interval is that of the difference, in its units.
        relative=scaled(difference, base),
        p=p,
        p_permutation=sign_flip(np.array([row.mean() for row in rows])),
        **counts,
    )


def success_rate(outcomes: BySeed, *, level: float = LEVEL) -> Interval | None:
    """Mean over seeds of their success rates. One seed: Wilson; several: t over seeds, never narrower than Wilson."""
    rates = np.array([_mean(runs) for runs in outcomes.values()])
    if not len(rates):
        return None
    won = round(sum(sum(runs.values()) for runs in outcomes.values()))
    pooled = wilson(won, sum(map(len, outcomes.values())), level=level)
    if len(rates) == 1 or pooled is None:
        return pooled
    mean, reach = float(rates.mean()), t_quantile(level, len(rates) - 1) * float(rates.std(ddof=1) / len(rates) ** 0.5)
    low, high = min(pooled.low, mean - reach), max(pooled.high, mean + reach)
    return Interval(estimate=mean, low=max(0.0, low), high=min(1.0, high))


def _check(reference: BySeed, candidate: BySeed) -> None:
    if reference.keys() != candidate.keys() or not reference:
        got, want = f"{sorted(reference)} and {sorted(candidate)}", "the same training seeds on both sides"
        raise ConfigError("paired seeds", got=got, want=want, hint="Run the missing seeds")
    for seed, errors in reference.items():
        if errors.keys() != candidate[seed].keys() or not errors:
            odd = sorted(errors.keys() ^ candidate[seed].keys())[:5]
            got, want = f"unpaired {odd} in seed {seed}", "the same episodes on both sides"
            raise ConfigError("paired episodes", got=got, want=want, hint="Evaluate both on one list")


def _mean(errors: Mapping[int, float]) -> float:
    return float(np.mean(list(errors.values())))


def _crossed(runs: BySeed) -> bool:
    """All seeds were judged on the same episodes, more than one."""
    episodes = [frozenset(errors) for errors in runs.values()]
    return len(episodes[0]) > 1 and all(a == b for a, b in pairwise(episodes))


def _over_seeds(
    rows: list[Float[ndarray, " _n"]], crossed: bool, outcomes: bool, level: float
) -> tuple[Interval, float]:
    """t interval and p-value of the mean over seeds."""
    seed_means = np.array([row.mean() for row in rows])
    estimate, count = float(seed_means.mean()), len(rows)
    known = [_two_factors(np.stack(rows)) if crossed else (float(seed_means.var(ddof=1) / count), float(count - 1))]
    if outcomes:
        known.append(_of_pairs(np.concatenate(rows)))
    reach = max(t_quantile(level, freedom) * float(np.sqrt(variance)) for variance, freedom in known)
    p = max(t_tail(estimate, float(np.sqrt(variance)), freedom) for variance, freedom in known)
    low, high = estimate - reach, estimate + reach
    if outcomes:
        low, high = max(-1.0, low), min(1.0, high)
    return Interval(estimate=estimate, low=low, high=high), p


def _of_pairs(differences: Float[ndarray, " N"]) -> tuple[float, float]:
    """Variance of the mean of paired outcomes, half an episode added to each cell, and its degrees of freedom."""
    count = len(differences) + 2
    won, lost = (differences > 0).sum() + 0.5, (differences < 0).sum() + 0.5
    return float((won + lost) / count - ((won - lost) / count) ** 2) / count, float(max(1, len(differences) - 1))


def _two_factors(table: Float[ndarray, "K N"]) -> tuple[float, float]:
    """Variance of the grand mean and its degrees of freedom, seeds and episodes both random."""
    seeds, episodes = table.shape
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    dof = np.array([seeds - 1, episodes - 1, (seeds - 1) * (episodes - 1)], dtype=float)
    squares = np.array(
        [episodes * table.mean(1).var() * seeds, seeds * table.mean(0).var() * episodes, np.square(rest).sum()]
    )
    mean_squares = squares / dof
    signs = np.array([1.0, 1.0, -1.0])
    total = float(signs @ mean_squares)
    if total <= mean_squares[2]:
        return float(mean_squares[2] / (seeds * episodes)), float(dof[2])
    freedom = total**2 / float((mean_squares**2 / dof).sum())
    return total / (seeds * episodes), float(max(1.0, freedom))
