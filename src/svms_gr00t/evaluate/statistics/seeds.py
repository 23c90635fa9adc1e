"""Paired comparison over several training seeds: what would happen with a new seed and new episodes.

Axes: K seeds, N episodes of a seed. d[k, n] = candidate - reference of seed k on episode n.

One seed: `stats.compare_paired`, over its episodes. Several: the seed is the unit that was repeated, so a mean of K
seed means has a t interval with K - 1 degrees of freedom. Where all seeds were judged on the *same* episodes, these are
a second random factor, and (Satterthwaite 1946)

    var(mean) = (MS_seed + MS_episode - MS_rest) / (K N),   MS the mean squares of the K x N table

never taken below MS_rest / (K N). Treating K N pairs as independent would claim far too much.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.records import JsonRecord
from svms_gr00t.evaluate.statistics.stats import LEVEL, Interval, compare_paired, sign_flip

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
    """Two-sided, of the interval's own test: t over seeds, sign flips over episodes for a single seed."""
    p_permutation: float
    """Sign flips of the seeds' means (of the episodes for a single seed); with K seeds never below 2^(1 - K)."""


def compare_seeds(reference: BySeed, candidate: BySeed, *, level: float = LEVEL) -> SeedComparison:
    """Compare errors by seed and episode. Raises ConfigError when seeds or episodes differ."""
    _check(reference, candidate)
    runs = sorted(reference)
    rows = [np.array([candidate[k][e] - reference[k][e] for e in sorted(reference[k])]) for k in runs]
    base = float(np.mean([_mean(reference[k]) for k in runs]))
    counts: dict[str, Any] = {"seeds": len(runs), "episodes": sum(map(len, rows)), "reference": base}
    counts["candidate"] = float(np.mean([_mean(candidate[k]) for k in runs]))
    if len(runs) == 1:
        one = compare_paired(dict(reference[runs[0]]), dict(candidate[runs[0]]))
        return SeedComparison(difference=one.difference, relative=one.relative, p=one.p, p_permutation=one.p, **counts)
    difference, p = _over_seeds(rows, _crossed(reference), level)
    scaled = {name: 100 * getattr(difference, name) / base for name in ("estimate", "low", "high")} if base else None
    return SeedComparison(
        difference=difference,
        # The reference's own error is taken as known; the interval is that of the difference, in its units.
        relative=Interval(**scaled) if scaled else None,
        p=p,
        p_permutation=sign_flip(np.array([row.mean() for row in rows])),
        **counts,
    )


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


def _over_seeds(rows: list[Float[ndarray, " _n"]], crossed: bool, level: float) -> tuple[Interval, float]:
    """t interval and p-value of the mean over seeds."""
    seed_means = np.array([row.mean() for row in rows])
    estimate, count = float(seed_means.mean()), len(rows)
    variance, dof = float(seed_means.var(ddof=1) / count), float(count - 1)
    if crossed:
        variance, dof = _two_factors(np.stack(rows))
    error = float(np.sqrt(variance))
    reach = float(stats.t.ppf((1 + level) / 2, dof)) * error
    p = float(2 * stats.t.sf(abs(estimate) / error, dof)) if error > 0 else float(estimate == 0)
    return Interval(estimate=estimate, low=estimate - reach, high=estimate + reach), p


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
