"""The consistency monitor: residual on every edge, in its unit and in clean spreads, and a calibrated alarm.

Axes: N looks, E edges, D numbers of a stalk, P image tokens, M model width, L steps between looks, A action numbers.

    z_e   = residual_e / (its root mean square on clean looks of the same phase of motion)
    score = largest z_e of the edges that can speak
    p     = (1 + Σ_k share of clean looks of episode k with a score at least as large) / (K + 1)
    alarm = p <= α                                            the conformal rule of `svms_gr00t.monitor`

Temporal edges need the last look, L steps ago; without one they say nothing (NaN). What should speak and is no number
counts as infinitely far apart. An alarm says "these sensors do not fit together as they did on clean data".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from svms_gr00t.consistency.edges import Edge, Phases, Sections
from svms_gr00t.consistency.heads import MotionHead, PictureHead, in_batches
from svms_gr00t.consistency.stalk import Body
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.monitor import CleanScores

BESIDE = 2
"""Numbers that pictures tell beside the stalk: distance to the next waypoint (m), log(1 + steps to it)."""


@dataclass(frozen=True, kw_only=True)
class Facts(JsonRecord):
    """What a monitor was trained on, and what it promises."""

    reads: str
    """Name of the backbone and of the preparation of pictures; `reads.py`."""
    checkpoint: str
    dataset: str
    data: str
    """Fingerprint of the dataset."""
    body: Body
    edges: tuple[Edge, ...]
    phases: Phases
    lag: int
    """L, steps between two looks."""
    fps: float
    actions: tuple[tuple[str, int], ...]
    """Action keys and widths that the temporal stream reads."""
    tokens: tuple[int, int]
    """(P, M) of one look."""
    spreads: dict[str, tuple[float, ...]]
    """Edge -> root mean square of clean residuals in each phase, in the edge's unit."""
    alpha: float
    threshold: float
    """Scores above it alarm."""
    train: tuple[int, ...]
    """Episodes of the heads."""
    spread: tuple[int, ...]
    """Held out from the heads; episodes of the spreads."""
    calibration: tuple[int, ...]
    """Held out from both; episodes of the threshold."""
    steps: int
    seed: int
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Scales:
    """Mean and spread of what goes into the heads and comes out, and the two values of actions that only have two."""

    stalk: Float[Tensor, "2 _s"]
    given: Float[Tensor, "2 _g"]
    change: Float[Tensor, "2 _f"]
    binary: Float[Tensor, "2 A"]
    """Low and high; NaN for actions that are no switches."""


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What the monitor is told: now, and at the last look."""

    said: Float[ndarray, "N _s"]
    """Of the pictures now, as `Consistency.see` gives it."""
    now: Float[ndarray, "N D"]
    """Measured."""
    before: Float[ndarray, "N D"]
    """Measured L steps ago; NaN at the first look."""
    said_before: Float[ndarray, "N _s"]
    done: Float[ndarray, "N L A"]
    """Executed since; NaN at the first look."""


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What the monitor says of each look."""

    residual: Float[ndarray, "N E"]
    """In the edges' units; NaN where an edge cannot speak."""
    z: Float[ndarray, "N E"]
    """In clean spreads of the phase."""
    p: Float[ndarray, "N E"]
    """Of each edge alone."""
    score: Float[ndarray, " N"]
    p_all: Float[ndarray, " N"]
    alarm: Bool[ndarray, " N"]
    phase: Int[ndarray, " N"]


class Consistency:
    """Two heads, their scales, and the clean looks that they are judged by."""

    def __init__(
        self,
        facts: Facts,
        *,
        pictures: PictureHead,
        motion: MotionHead,
        scales: Scales,
        clean: Float[ndarray, "_n _e"],
        episodes: Int[ndarray, " _n"],
    ) -> None:
        """`clean` are z of the calibration's looks and, last, their scores; `episodes` say whose they are."""
        self.facts, self.pictures, self.motion, self.scales = facts, pictures.eval(), motion.eval(), scales
        self.clean, self.episodes = clean, episodes
        self._tables = [CleanScores(by_episode(column, episodes)) for column in clean.T]

    @torch.no_grad()
    def see(self, tokens: Float[Tensor, "N P M"]) -> Float[ndarray, "N _s"]:
        """What pictures say: the stalk, then the numbers of `BESIDE`."""
        told = in_batches(self.pictures, tokens.to("cpu", torch.float32))
        mean, spread = self.scales.stalk
        return (told * spread + mean).numpy().astype(np.float64)

    @torch.no_grad()
    def expect(self, before: Float[ndarray, "N D"], done: Float[ndarray, "N L A"]) -> Float[ndarray, "N D"]:
        """The stalk after these actions."""
        mean, spread = self.scales.given
        given = torch.from_numpy(given_of(before, switched(done, self.scales.binary.numpy()))).float()
        told = in_batches(self.motion, (given - mean) / spread)
        mean, spread = self.scales.change
        return moved(self.facts.body, before, (told * spread + mean).numpy().astype(np.float64))

    def sections(self, looks: Looks) -> Sections:
        """Each stream's section."""
        width = looks.now.shape[1]
        ahead = np.maximum(np.expm1(looks.said_before[:, width + 1]) - self.facts.lag, 0)
        hand = self.facts.body.quantities[0]
        speed = hand.distance(looks.before, looks.now) / hand.scale / self.facts.lag
        return {
            "visual": looks.said[:, : width + 1],
            "state": np.pad(looks.now, ((0, 0), (0, 1)), constant_values=np.nan),
            "temporal": np.column_stack([self.expect(looks.before, looks.done), speed * ahead]),
        }

    def residuals(self, looks: Looks) -> Float[ndarray, "N E"]:
        """In the edges' units."""
        sections = self.sections(looks)
        return np.stack([edge.residual(sections) for edge in self.facts.edges], axis=1)

    def read(self, looks: Looks) -> Readings:
        """Residuals, and what they mean."""
        residual, phase = self.residuals(looks), self.facts.phases.of(looks.now, looks.before)
        z = in_spreads(residual, phase, self.facts)
        silent = np.isnan(looks.before).all(1)[:, None] & np.array(
            ["temporal" in (e.tail, e.head) for e in self.facts.edges]
        )
        z = np.where(silent, np.nan, np.where(np.isnan(z), np.inf, z))
        score = score_of(z)
        columns = np.column_stack([z, score]).T
        p = np.stack([table.p(column) for table, column in zip(self._tables, columns, strict=True)], axis=1)
        return Readings(
            residual=residual,
            z=z,
            p=p[:, :-1],
            score=score,
            p_all=p[:, -1],
            alarm=score > self.facts.threshold,
            phase=phase,
        )

    def info(self, readings: Readings) -> dict[str, Any]:
        """For a reply's info: edge by edge residual, unit, spreads and p; NaN where an edge cannot speak yet."""
        parts = {
            edge.name: {
                "unit": edge.quantity.unit,
                "residual": readings.residual[:, e],
                "spreads": readings.z[:, e],
                "p": readings.p[:, e],
            }
            for e, edge in enumerate(self.facts.edges)
        }
        phases = [self.facts.phases.names[number] for number in readings.phase]
        said = {"alarm": readings.alarm.tolist(), "score": readings.score, "p": readings.p_all, "phase": phases}
        return said | {"threshold": self.facts.threshold, "edges": parts}


def by_episode(values: Float[ndarray, " n"], episodes: Int[ndarray, " n"]) -> list[Float[ndarray, " _k"]]:
    """The numbers of each episode; NaN are left out, and episodes of nothing else too."""
    known = np.isfinite(values)
    return [values[(episodes == number) & known] for number in np.unique(episodes[known])]


def in_spreads(residual: Float[ndarray, "N E"], phase: Int[ndarray, " N"], facts: Facts) -> Float[ndarray, "N E"]:
    """z of residuals."""
    spreads = np.array([facts.spreads[edge.name] for edge in facts.edges])
    return residual / spreads[:, phase].T


def score_of(z: Float[ndarray, "N E"]) -> Float[ndarray, " N"]:
    """The largest of the edges that speak."""
    return np.where(np.isnan(z), -np.inf, z).max(1)


def switched(done: Float[ndarray, "N L A"], binary: Float[ndarray, "2 A"]) -> Float[ndarray, "N L A"]:
    """Actions as a robot takes them: what only has two values in the data is one of them."""
    low, high = binary
    return np.where(np.isnan(low) | np.isnan(done), done, np.where(done > (low + high) / 2, high, low))


def given_of(before: Float[ndarray, "N D"], done: Float[ndarray, "N L A"]) -> Float[ndarray, "N _g"]:
    """What the motion head reads."""
    return np.concatenate([before, done.reshape(len(done), -1)], axis=1)


def change_of(body: Body, before: Float[ndarray, "N D"], after: Float[ndarray, "N D"]) -> Float[ndarray, "N F"]:
    """Changes of all quantities side by side."""
    return np.concatenate([one.change(before, after) for one in body.quantities], axis=1)


def moved(body: Body, before: Float[ndarray, "N D"], change: Float[ndarray, "N F"]) -> Float[ndarray, "N D"]:
    """The inverse of `change_of`."""
    ends = np.cumsum([one.freedom for one in body.quantities])[:-1].tolist()
    parts: Sequence[ndarray] = np.split(change, ends, axis=1)
    return np.concatenate([one.moved(before, part) for one, part in zip(body.quantities, parts, strict=True)], axis=1)
