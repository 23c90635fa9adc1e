"""Disagreement monitor: is this chunk's ρ larger than clean data explains?

Axes: B chunks, T tokens, E edges, K calibration episodes.

    score     = mean of ρ over the valid tokens and the edges of one observation, before the sheaf's correction
    threshold = smallest t with  Σ_k w_k #{chunks of k with score <= t} >= 1 - α,   w_k = 1 / ((K + 1) n_k)

The missing weight 1 / (K + 1) sits at infinity. Chunks of one episode resemble one another, so the episode, not the
chunk, is the unit that is exchangeable: a chunk drawn from a new clean episode is flagged with probability at most α,
whatever the distribution (hierarchical conformal prediction, Lee, Barber & Willett 2023, arXiv:2306.06342). With
per="episode" the score is the largest of an episode, and α bounds the share of clean episodes with any alarm.

A monitor says "the streams disagree more than they did on clean data", not "the robot will fail". What does not pass
through the streams (the robot's own state) it cannot see.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.core.protocols import ActionPolicy, Chunk

FILE = "monitor.json"
"""Name of the calibration beside a checkpoint's weights."""
CONSISTENCY = "consistency"
"""Key of the evidence under which a consistency monitor speaks; it knows pictures and measurements, this one rho."""
Unit = Literal["chunk", "episode"]


@dataclass(frozen=True, kw_only=True)
class Reading(JsonRecord):
    """What the monitor says about one chunk."""

    rho: float
    """Score: mean ρ over valid tokens and edges."""
    edges: dict[str, float]
    """Mean ρ over valid tokens on each edge."""
    flag: bool
    """The score is above the threshold, or no number."""


@dataclass(frozen=True, kw_only=True)
class Monitor(JsonRecord):
    """A calibrated threshold; `monitor.json` of a checkpoint folder."""

    threshold: float
    """Scores above it are flagged."""
    alpha: float
    """Share of clean chunks (or episodes) that may be flagged."""
    per: Unit
    """What alpha counts."""
    episodes: int
    """Clean held-out episodes of the calibration."""
    chunks: int
    """Their chunks."""
    edges: tuple[str, ...]
    """Edge names, in the order of ρ's last axis."""
    quantiles: tuple[float, float, float]
    """5 %, 50 % and 95 % of the clean scores, to see where the threshold lies."""

    def read(self, evidence: Mapping[str, Any]) -> list[Reading]:
        """Readings of one `policy.act`. Raises DataError for evidence without ρ or of another graph."""
        by_edge = chunk_rho(evidence)
        if by_edge.shape[1] != len(self.edges):
            got, want = f"{by_edge.shape[1]} edges", f"{len(self.edges)}"
            raise DataError("monitor", got=got, want=want, hint="Calibrate it for this checkpoint")
        return [
            Reading(
                rho=float(row.mean()),
                edges={name: float(value) for name, value in zip(self.edges, row, strict=True)},
                flag=not row.mean() <= self.threshold,  # also where the mean is no number
            )
            for row in by_edge
        ]

    @classmethod
    def beside(cls, checkpoint: Path | str) -> "Monitor | None":
        """The monitor saved with a checkpoint, None where there is none. DataError for a broken file."""
        path = Path(checkpoint) / FILE
        return cls.load(path) if path.is_file() else None


def chunk_rho(evidence: Mapping[str, Any]) -> Float[ndarray, "B E"]:
    """Mean ρ over valid tokens, edge by edge. Raises DataError for evidence of a policy without streams."""
    if "rho" not in evidence:
        hint = "Use a checkpoint with SVMS (use_sheaf_streams)"
        raise DataError("monitor", got="a policy without streams", want="evidence with rho", hint=hint)
    rho = np.asarray(evidence["rho"], dtype=float)
    valid = _valid(evidence, rho.shape[:2])[..., None]
    return np.where(valid, rho, 0.0).sum(1) / np.maximum(valid.sum(1), 1)


def _valid(evidence: Mapping[str, Any], shape: tuple[int, ...]) -> Bool[ndarray, "B T"]:
    """Evidence without a mask still tells padding: its router weights are 0."""
    if "mask" in evidence:
        return np.asarray(evidence["mask"]) > 0.5
    return np.asarray(evidence["weights"]).sum(-1) > 0 if "weights" in evidence else np.ones(shape, dtype=bool)


def calibrate(
    scores: Mapping[int, Sequence[float] | ndarray], *, alpha: float, edges: Sequence[str], per: Unit = "chunk"
) -> Monitor:
    """The threshold from clean scores by episode.

    Raises ConfigError for an impossible rate (fewer than 1/alpha - 1 episodes cannot promise it), DataError for scores
    that are no numbers.
    """
    if not 0 < alpha < 1:
        raise ConfigError("alpha", got=alpha, want="0 < alpha < 1", hint="0.05 is one false alarm in 20")
    groups = [np.asarray(values, dtype=float) for values in scores.values() if len(values)]
    if not all(np.isfinite(group).all() for group in groups):
        raise DataError("calibration", got="scores that are not finite", want="numbers", hint="Check the checkpoint")
    units = [group.max(keepdims=True) for group in groups] if per == "episode" else groups
    threshold = promised_threshold(units, alpha)
    pooled = np.concatenate(groups)
    low, middle, high = np.quantile(pooled, [0.05, 0.5, 0.95]).tolist()
    return Monitor(
        threshold=threshold,
        alpha=alpha,
        per=per,
        episodes=len(groups),
        chunks=len(pooled),
        edges=tuple(edges),
        quantiles=(low, middle, high),
    )


def promised_threshold(groups: Sequence[Float[ndarray, " _n"]], alpha: float) -> float:
    """`conformal_threshold`, finite. Raises ConfigError for a rate that so few groups cannot promise."""
    threshold = conformal_threshold(groups, alpha)
    if not isfinite(threshold):
        need = ceil(1 / alpha - 1 - 1e-9)
        hint = f"Hold out more clean episodes, or ask for alpha >= {1 / (len(groups) + 1):.3f}"
        raise ConfigError("alpha", got=alpha, want=f"at least {need} episodes, not {len(groups)}", hint=hint)
    return threshold


def conformal_threshold(groups: Iterable[Float[ndarray, " _n"]], alpha: float) -> float:
    """Weighted 1 - alpha quantile, each group weighing 1 / (K + 1) and infinity the rest; inf when that is needed."""
    groups = list(groups)
    if not groups:
        return float("inf")
    values = np.concatenate(groups)
    weights = np.concatenate([np.full(len(group), 1 / len(group)) for group in groups])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) >= (1 - alpha) * (len(groups) + 1) - 1e-9
    return float(values[order][reached.argmax()]) if reached.any() else float("inf")


class CleanScores:
    """Scores of clean groups (episodes), sorted once: the p of any other score.

    p = (1 + Σ_k share of group k that is at least as large) / (K + 1), at most α exactly when the score is above
    `conformal_threshold(groups, α)`.
    """

    def __init__(self, groups: Iterable[Float[ndarray, " _n"]]) -> None:
        groups = list(groups)
        pooled = np.concatenate([*groups, np.zeros(0)])
        weights = np.concatenate([*(np.full(len(group), 1 / len(group)) for group in groups), np.zeros(0)])
        order = np.argsort(pooled, kind="stable")
        self._sorted, self._below = pooled[order], np.concatenate([[0.0], np.cumsum(weights[order])])
        self._groups = len(groups)

    def p(self, values: Float[ndarray, " N"]) -> Float[ndarray, " N"]:
        """p of each value; NaN for NaN."""
        below = self._below[np.searchsorted(self._sorted, values, side="left")]
        return np.where(np.isnan(values), np.nan, (1 + self._groups - below) / (self._groups + 1))


@dataclass(frozen=True)
class Watched:
    """A policy whose evidence also says what the monitor thinks: anything that calls `act` gets the flags."""

    policy: ActionPolicy
    monitor: Monitor

    def reset(self, seed: int) -> None:
        """A new episode begins."""
        self.policy.reset(seed)

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[Chunk], dict[str, Any]]:
        """The policy's chunks; evidence gains "score" (B,), "flag" (B,) and "edge_rho" (B, E)."""
        chunks, evidence = self.policy.act(observations, seeds=seeds)
        read = self.monitor.read(evidence)
        said = {"score": np.array([r.rho for r in read]), "flag": np.array([r.flag for r in read])}
        said["edge_rho"] = np.array([list(r.edges.values()) for r in read])
        return chunks, dict(evidence) | said


@dataclass(frozen=True)
class Judge:
    """What a server's reply says about a chunk; of a policy with neither streams nor a consistency monitor nothing.

    rho (B,), rho_edges (B, E), and flag (B,) and threshold where the checkpoint is calibrated; consistency, what a
    consistency monitor says (`consistency/monitor.py`).
    """

    monitor: Monitor | None = None
    """Calibrated threshold; None gives no flags."""

    def __call__(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        """Raises DataError for a monitor of another graph."""
        said: dict[str, Any] = {CONSISTENCY: evidence[CONSISTENCY]} if CONSISTENCY in evidence else {}
        if "rho" not in evidence:
            return said
        edges = chunk_rho(evidence)
        said |= {"rho": edges.mean(1), "rho_edges": edges}
        if self.monitor is not None:
            readings = self.monitor.read(evidence)
            said |= {"flag": [reading.flag for reading in readings], "threshold": self.monitor.threshold}
        return said
