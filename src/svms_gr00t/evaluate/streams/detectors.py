"""Does the monitor notice what it should? ρ against simple detectors, on observations that were broken on purpose.

Axes: N looks, M model width.

    rho                    the monitor's score; alarms when large
    |rho - median|         the same, two-sided
    feature norm           |norm - median| of the tokens' mean length
    mahalanobis            distance of the mean token from the clean ones, shrunk covariance
    action variance        of chunks sampled from different noise; absent where only one was

Each is fitted on half of the clean episodes and tried on the other half: AUROC of telling a broken look from a clean
one, and the share of broken looks above the detector's own conformal threshold (`monitor.py`). For the threshold every
episode of the first half is scored by a detector fitted on the others; its own would find it too familiar. The robot's
state does not pass through the streams, so ρ cannot see a frozen state: AUROC 0.5 by construction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import special

from svms_gr00t.core.records import JsonRecord
from svms_gr00t.evaluate.statistics.stats import LEVEL, Interval, t_quantile
from svms_gr00t.evaluate.streams.looks import Look
from svms_gr00t.monitor import conformal_threshold
from svms_gr00t.streams.metrics import auroc

Detector = Callable[[Sequence[Look]], ndarray]
"""Looks to scores; higher means stranger."""


@dataclass(frozen=True, kw_only=True)
class Detection(JsonRecord):
    """One detector on one shift."""

    auroc: float
    interval: Interval | None
    """Over episodes; None for fewer than two of them, and for "clean" against itself."""
    flagged: float
    """Share of broken looks above the detector's own conformal threshold at `alpha`; 0 when no threshold exists."""


def detect(
    clean: Sequence[Look], broken: Mapping[str, Sequence[Look]], tried: Sequence[int], *, alpha: float
) -> dict[str, dict[str, Detection]]:
    """Fit every detector on the clean episodes that are not `tried`, and try it on those that are."""
    fit = [one for one in clean if one.episode not in tried]
    rest = [one for one in clean if one.episode in tried]
    held = _held_out_scores(fit)
    found: dict[str, dict[str, Detection]] = {}
    for name, score in detectors(fit).items():
        threshold = conformal_threshold(held[name], alpha)
        calm = score(rest)
        for shift, looks in {"clean": rest, **broken}.items():
            loud = score(looks)
            groups = np.array([n.episode for n in rest]), np.array([n.episode for n in looks])
            found.setdefault(shift, {})[name] = Detection(
                auroc=_auroc(calm, loud),
                interval=None if shift == "clean" else _interval(calm, loud, groups),
                flagged=float((loud > threshold).mean()),
            )
    return found


def _held_out_scores(fit: Sequence[Look]) -> dict[str, list[ndarray]]:
    """Scores of each episode by detectors fitted on the other ones."""
    scores: dict[str, list[ndarray]] = {}
    for episode in sorted({one.episode for one in fit}):
        inside, outside = ([n for n in fit if (n.episode == episode) is same] for same in (True, False))
        for name, score in detectors(outside).items():
            scores.setdefault(name, []).append(score(inside))
    return scores


def detectors(fit: Sequence[Look]) -> dict[str, Detector]:
    """By name, fitted on clean looks."""
    rho, norm = np.array([n.rho for n in fit]), np.array([n.norm for n in fit])
    features = np.stack([n.feature for n in fit])
    mean, inverse = features.mean(0), np.linalg.inv(_shrunk(features))

    def mahalanobis(looks: Sequence[Look]) -> ndarray:
        away = np.stack([n.feature for n in looks]) - mean
        return np.sqrt(np.einsum("ni,ij,nj->n", away, inverse, away))

    found: dict[str, Detector] = {
        "rho": lambda looks: np.array([n.rho for n in looks]),
        "|rho - median|": lambda looks: np.abs(np.array([n.rho for n in looks]) - np.median(rho)),
        "feature norm": lambda looks: np.abs(np.array([n.norm for n in looks]) - np.median(norm)),
        "mahalanobis": mahalanobis,
    }
    if not np.isnan([n.variance for n in fit]).any():
        found["action variance"] = lambda looks: np.array([n.variance for n in looks])
    return found


def _shrunk(rows: Float[ndarray, "N M"], share: float = 0.1) -> Float[ndarray, "M M"]:
    """Covariance drawn towards a multiple of the identity, so that few rows can be inverted."""
    covariance = np.atleast_2d(np.cov(rows.T, bias=True))  # one row has no spread, and says so
    level = float(np.trace(covariance)) / len(covariance)
    return (1 - share) * covariance + share * max(level, 1e-12) * np.eye(len(covariance))


def _auroc(calm: ndarray, loud: ndarray) -> float:
    return float(auroc(np.concatenate([calm, loud]), np.repeat([False, True], [len(calm), len(loud)])))


def _interval(calm: ndarray, loud: ndarray, groups: tuple[ndarray, ndarray], level: float = LEVEL) -> Interval | None:
    """Jackknife over whole episodes, the same ones on both sides: t interval of the AUROC's logit; None below two."""
    episodes = np.unique(groups[0])
    count, whole = len(episodes), _auroc(calm, loud)
    if count < 2:
        return None
    left_out = np.array([_auroc(*(v[g != e] for v, g in zip((calm, loud), groups, strict=True))) for e in episodes])
    error, reach = float(np.sqrt((count - 1) * left_out.var())), t_quantile(level, count - 1)
    if (
        min(whole, 1 - whole) < 1e-9
    ):  # nothing varies where everything is told apart; Wilson's bound for `count` of `count`
        bound = count / (count + reach**2)
        return Interval(estimate=whole, low=min(whole, bound), high=max(whole, 1 - bound))
    ends = special.expit(special.logit(whole) + np.array([-reach, reach]) * error / (whole * (1 - whole)))
    return Interval(estimate=whole, low=min(whole, float(ends[0])), high=max(whole, float(ends[1])))  # and rounding
