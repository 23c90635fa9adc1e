"""Train a monitor: the model frozen, its features computed once, two small heads, then spreads and a threshold.

Axes: n frames, E edges.

Three groups of episodes, none in two: `train` for the heads, `spread` for the clean spread of each edge and phase,
`calibration` for the threshold. So the threshold's promise is that of split conformal prediction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svms_gr00t.consistency.edges import Phases, edges_of
from svms_gr00t.consistency.frames import Frames, gather
from svms_gr00t.consistency.heads import MotionHead, PictureHead, fit
from svms_gr00t.consistency.monitor import (
    BESIDE,
    Consistency,
    Facts,
    Looks,
    Scales,
    by_episode,
    change_of,
    given_of,
    in_spreads,
    score_of,
    switched,
)
from svms_gr00t.consistency.reads import what_is_read
from svms_gr00t.consistency.stalk import find_body
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.progress import Progress
from svms_gr00t.core.provenance import commit, versions
from svms_gr00t.data.lerobot.dataset import LeRobotDataset, spread
from svms_gr00t.data.processor.statistics import compute_statistics
from svms_gr00t.monitor import promised_threshold
from svms_gr00t.policy import Policy

FEW = 20
"""Clean looks below which a phase takes the spread of all phases."""


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """What decides a monitor, beside the policy and the data."""

    lag: int = 8
    """Steps between two looks: those that a robot executes before it asks again."""
    alpha: float = 0.05
    """Share of clean looks that may alarm."""
    steps: int = 2000
    """Optimiser steps of the picture head; the motion head gets as many."""
    max_frames: int = 6000
    """Frames that the heads see; one of N1.6 with three cameras takes 0.8 MB of memory."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("lag", "steps", "max_frames"):
            if getattr(self, name) < 1:
                raise ConfigError(f"monitor.{name}", got=getattr(self, name), want="at least 1", hint="Choose more")
        if not 0 < self.alpha < 1:
            raise ConfigError("alpha", got=self.alpha, want="0 < alpha < 1", hint="0.05 is one false alarm in 20")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Episodes of each group."""

    train: tuple[int, ...]
    spread: tuple[int, ...]
    calibration: tuple[int, ...]


def deal(train: Sequence[int], held_out: Sequence[int], *, alpha: float, seed: int = 0) -> Parts:
    """Heads learn from `train`, the rest comes from `held_out`; without held-out ones all are dealt by seed.

    Raises ConfigError when there are too few for the promise of `alpha`.
    """
    need, draw = ceil(1 / alpha - 1 - 1e-9), np.random.default_rng(seed)
    if not held_out:
        everyone = draw.permutation(sorted(train)).tolist()
        aside = min(max(round(0.35 * len(everyone)), need + 2), max(len(everyone) - 2, 0))
        train, held_out = everyone[aside:], everyone[:aside]
    if len(held_out) < need + 2:
        hint = f"Record more clean episodes, or ask for alpha >= {1 / max(len(held_out) - 1, 2):.2f}"
        want = f"{need + 2} held-out episodes or more, not {len(held_out)}"
        raise ConfigError("alpha", got=alpha, want=want, hint=hint)
    rest = draw.permutation(sorted(held_out)).tolist()
    first = min(max(2, round(0.35 * len(rest))), len(rest) - need)
    return Parts(
        train=tuple(sorted(train)), spread=tuple(sorted(rest[:first])), calibration=tuple(sorted(rest[first:]))
    )


def train_monitor(
    policy: Policy,
    dataset: LeRobotDataset,
    parts: Parts,
    config: MonitorConfig | None = None,
    *,
    name: str = "checkpoint",
    progress: Progress | None = None,
) -> Consistency:
    """A monitor for everything that shares the policy's backbone. The policy is left as it was.

    Raises DataError for data without measurements, ConfigError when calibration episodes are too few.
    """
    config = config or MonitorConfig()
    body, hand = find_body(dataset.modality, compute_statistics(dataset, parts.train))
    every, learn = _thinned(dataset, parts.train, config)
    shared: dict[str, Any] = {"body": body, "hand": hand, "lag": config.lag, "progress": progress}
    seen = gather(policy, dataset, learn, every=every, **shared)
    scales = _scales(seen, body)
    pictures, motion = _heads(seen, scales, body, config, progress)
    keys = policy.processor.config.embodiment.action.modality_keys
    facts = Facts(
        reads=what_is_read(policy),
        checkpoint=name,
        dataset=dataset.root.name,
        data=dataset.fingerprint(),
        body=body,
        edges=edges_of(body, waypoints=hand is not None),
        phases=Phases.split(body, seen.now, seen.of_last(seen.now)),
        lag=config.lag,
        fps=dataset.fps,
        actions=tuple((key, dataset.modality.action[key].width) for key in keys),
        tokens=(seen.tokens.shape[1], seen.tokens.shape[2]),
        spreads={},
        alpha=config.alpha,
        threshold=float("inf"),
        train=learn,
        spread=parts.spread,
        calibration=parts.calibration,
        steps=config.steps,
        seed=config.seed,
        versions={**versions(), "commit": commit() or "unknown"},
    )
    clean = gather(policy, dataset, (*parts.spread, *parts.calibration), every=config.lag, **shared)
    nothing = np.zeros((0, len(facts.edges) + 1)), np.zeros(0, dtype=np.int64)
    raw = Consistency(facts, pictures=pictures, motion=motion, scales=scales, clean=nothing[0], episodes=nothing[1])
    return calibrated(raw, clean)


def looks_of(monitor: Consistency, frames: Frames) -> Looks:
    """Recorded frames, one lag apart, as the monitor is told them."""
    said = monitor.see(frames.tokens)
    return Looks(
        said=said,
        now=frames.now,
        before=frames.of_last(frames.now),
        said_before=frames.of_last(said),
        done=frames.done,
    )


def calibrated(monitor: Consistency, frames: Frames) -> Consistency:
    """The same heads with spreads and threshold from clean frames of the facts' episodes."""
    looks = looks_of(monitor, frames)
    residual, phase = monitor.residuals(looks), monitor.facts.phases.of(looks.now, looks.before)
    facts = replace(monitor.facts, spreads=_spreads(monitor.facts, residual, phase, frames.of(monitor.facts.spread)))
    rows = frames.of(facts.calibration)
    z = in_spreads(residual[rows], phase[rows], facts)
    score, episodes = score_of(z), frames.episode[rows].astype(np.int64)
    facts = replace(facts, threshold=promised_threshold(by_episode(score, episodes), facts.alpha))
    return Consistency(
        facts,
        pictures=monitor.pictures,
        motion=monitor.motion,
        scales=monitor.scales,
        clean=np.column_stack([z, score]),
        episodes=episodes,
    )


def _thinned(dataset: LeRobotDataset, episodes: Sequence[int], config: MonitorConfig) -> tuple[int, tuple[int, ...]]:
    """Every how many steps to look, a divisor of the lag, and at which episodes, to see at most `max_frames`."""
    total = sum(dataset.episode(index).length for index in episodes)
    for every in [n for n in range(min(2, config.lag), config.lag + 1) if config.lag % n == 0]:
        if total // every <= config.max_frames:
            return every, tuple(episodes)
    share = config.max_frames * config.lag / total
    return config.lag, spread(episodes, max(2, int(share * len(episodes))))


def _scales(seen: Frames, body: Any) -> Scales:
    moving = seen.last >= 0
    flat = seen.done[moving].reshape(-1, seen.done.shape[-1])
    two = [np.unique(column) for column in flat.T]
    binary = np.array([values if len(values) == 2 else [np.nan, np.nan] for values in two]).reshape(-1, 2).T
    before = seen.of_last(seen.now)
    given, change = given_of(before, seen.done)[moving], change_of(body, before, seen.now)[moving]
    told = np.concatenate([seen.now, seen.beside], axis=1)
    return Scales(
        stalk=_moments(told), given=_moments(given), change=_moments(change), binary=torch.from_numpy(binary).float()
    )


def _moments(rows: np.ndarray) -> Tensor:
    """Mean and deviation of each column; 0 and 1 where nothing is known, and never below a thousandth."""
    known = np.isfinite(rows)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, rows, 0).sum(0) / count
    deviation = np.sqrt(np.where(known, (rows - mean) ** 2, 0).sum(0) / count)
    return torch.from_numpy(np.stack([mean, np.where(known.any(0), np.maximum(deviation, 1e-3), 1)])).float()


def _heads(
    seen: Frames, scales: Scales, body: Any, config: MonitorConfig, progress: Progress | None
) -> tuple[PictureHead, MotionHead]:
    moving = seen.last >= 0
    before = seen.of_last(seen.now)
    told = torch.from_numpy(np.concatenate([seen.now, seen.beside], axis=1)).float()
    given = given_of(before, switched(seen.done, scales.binary.numpy()))[moving]
    change = change_of(body, before, seen.now)[moving]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        places, width = seen.tokens.shape[1:]
        pictures = PictureHead(width=width, places=places, out=body.width + BESIDE)
        motion = MotionHead(given=given.shape[1], out=change.shape[1])
    shared: dict[str, Any] = {"steps": config.steps, "seed": config.seed, "progress": progress}
    fit(pictures, seen.tokens, (told - scales.stalk[0]) / scales.stalk[1], title="what pictures say", **shared)
    asked = (torch.from_numpy(given).float() - scales.given[0]) / scales.given[1]
    wanted = (torch.from_numpy(change).float() - scales.change[0]) / scales.change[1]
    fit(motion, asked, wanted, title="what is expected", **shared)
    return pictures, motion


def _spreads(facts: Facts, residual: np.ndarray, phase: np.ndarray, rows: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Root mean square of each edge's clean residual by phase."""
    found = {}
    for edge, column in zip(facts.edges, residual.T, strict=True):
        known = rows & np.isfinite(column)
        overall = _rms(column[known])
        parts = [known & (phase == number) for number in range(len(facts.phases.names))]
        found[edge.name] = tuple(_rms(column[part]) if part.sum() >= FEW else overall for part in parts)
    return found


def _rms(values: np.ndarray) -> float:
    return max(float(np.sqrt(np.square(values).mean())) if len(values) else 0.0, 1e-9)
