"""Does the monitor notice what it should? ρ against simple detectors, on observations that were broken on purpose.

Axes: N looks, M model width.

    rho                    the monitor's score; alarms when large
    |rho - median|         the same, two-sided
    feature norm           |norm - median| of the tokens' mean length
    mahalanobis            distance of the mean token from the clean ones, shrunk covariance
    nearest state          distance to the nearest clean state, each number in units of its deviation
    action variance        of chunks sampled from different noise; absent where only one was
    consistency            score of a consistency monitor, which has its own episodes; absent without one

Each is fitted on half of the clean episodes and tried on the other half: AUROC of telling a broken look from a clean
one, and the share of broken looks above the detector's own conformal threshold (`monitor.py`). For the threshold every
episode of the first half is scored by a detector fitted on the others; its own would find it too familiar. A broken
look is compared with the clean looks at the same steps of the same episodes. The robot's state does not pass through
the streams, so ρ cannot see a stale state: AUROC 0.5 by construction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial import cKDTree

from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.evaluate.statistics.detection import separation, separation_interval, separation_lead
from svms_gr00t.evaluate.statistics.stats import Interval
from svms_gr00t.evaluate.streams.looks import Look
from svms_gr00t.monitor import conformal_threshold

OURS = "consistency"
Detector = Callable[[Sequence[Look]], ndarray]
"""Looks to scores; higher means stranger."""


_FAR = 1e9
"""Of gaps that are no number."""


@dataclass(frozen=True, kw_only=True)
class Detection(JsonRecord):
    """One detector on one shift."""

    auroc: float
    interval: Interval | None
    """Over episodes; None for fewer than two of them, and for "clean" against itself."""
    flagged: float
    """Share of broken looks above the detector's own conformal threshold at `alpha`; 0 when no threshold exists."""
    behind: Interval | None = None
    """AUROC of "consistency" minus this one's, paired; None for itself, for "clean", and without such a monitor."""


def detect(
    clean: Sequence[Look], broken: Mapping[str, Sequence[Look]], tried: Sequence[int], *, alpha: float
) -> dict[str, dict[str, Detection]]:
    """Fit every detector on the clean episodes that are not `tried`, and try it on those that are."""
    fit = [one for one in clean if one.episode not in tried]
    rest = [one for one in clean if one.episode in tried]
    held, fitted = _held_out_scores(fit), detectors(fit)
    thresholds = {name: conformal_threshold(held[name], alpha) for name in fitted}
    return {
        shift: _on_shift(fitted, thresholds, _same_places(rest, looks), looks, clean=shift == "clean")
        for shift, looks in {"clean": rest, **broken}.items()
    }


def _same_places(rest: Sequence[Look], looks: Sequence[Look]) -> list[Look]:
    places = {(one.episode, one.step) for one in looks}
    return [one for one in rest if (one.episode, one.step) in places]


def _on_shift(
    fitted: Mapping[str, Detector],
    thresholds: Mapping[str, float],
    rest: Sequence[Look],
    looks: Sequence[Look],
    *,
    clean: bool,
) -> dict[str, Detection]:
    sides = {name: (score(rest), score(looks)) for name, score in fitted.items()}
    groups = np.array([n.episode for n in rest]), np.array([n.episode for n in looks])
    return {
        name: Detection(
            auroc=separation(*one),
            interval=None if clean else separation_interval(*one, groups),
            flagged=float((one[1] > thresholds[name]).mean()),
            behind=None if clean or name == OURS or OURS not in sides else separation_lead(sides[OURS], one, groups),
        )
        for name, one in sides.items()
    }


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

    found: dict[str, Detector] = {}
    if not np.isnan(rho).any():
        found["rho"] = lambda looks: np.array([n.rho for n in looks])
        found["|rho - median|"] = lambda looks: np.abs(np.array([n.rho for n in looks]) - np.median(rho))
    found["feature norm"] = lambda looks: np.abs(np.array([n.norm for n in looks]) - np.median(norm))
    found["mahalanobis"] = mahalanobis
    if len(fit[0].state):
        found["nearest state"] = _nearest_state(np.stack([n.state for n in fit]))
    if not np.isnan([n.variance for n in fit]).any():
        found["action variance"] = lambda looks: np.array([n.variance for n in looks])
    if not np.isnan([n.gap for n in fit]).any():
        found[OURS] = lambda looks: np.array([min(n.gap, _FAR) for n in looks])
    return found


def _nearest_state(clean: Float[ndarray, "N _D"]) -> Detector:
    mean, scale = clean.mean(0), clean.std(0)
    scale = np.where(scale > 1e-8, scale, 1.0)
    tree = cKDTree((clean - mean) / scale)
    return lambda looks: tree.query((np.stack([n.state for n in looks]) - mean) / scale)[0]


def _shrunk(rows: Float[ndarray, "N M"], share: float = 0.1) -> Float[ndarray, "M M"]:
    """Covariance drawn towards a multiple of the identity, so that few rows can be inverted."""
    covariance = np.atleast_2d(np.cov(rows.T, bias=True))  # one row has no spread, and says so
    level = float(np.trace(covariance)) / len(covariance)
    return (1 - share) * covariance + share * max(level, 1e-12) * np.eye(len(covariance))
