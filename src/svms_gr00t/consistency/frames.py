"""Frozen features and measurements of recorded frames, computed once.

Axes: n frames, P image tokens, M model width, D numbers of a stalk, L steps between looks, A action numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from svms_gr00t.consistency.reads import image_tokens
from svms_gr00t.consistency.stalk import Body
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.labels.hand import Hand
from svms_gr00t.data.labels.waypoints import waypoints
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.policy import Policy

_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Steps of episodes; `last` is the row of the look before, -1 where there is none."""

    episode: Int[ndarray, " n"]
    step: Int[ndarray, " n"]
    tokens: Float[Tensor, "n P M"]
    now: Float[ndarray, "n D"]
    beside: Float[ndarray, "n 2"]
    """Distance to the next waypoint (m) and log(1 + steps to it); NaN without a hand."""
    last: Int[ndarray, " n"]
    done: Float[ndarray, "n L A"]
    """Executed since `last`; NaN without one."""

    def of_last(self, values: Float[ndarray, "n _d"]) -> Float[ndarray, "n _d"]:
        """The values of the look before; NaN where there is none."""
        return np.where((self.last >= 0)[:, None], values[self.last], np.nan)

    def of(self, episodes: Sequence[int]) -> ndarray:
        """Which rows belong to these episodes."""
        return np.isin(self.episode, episodes)


def gather(
    policy: Policy,
    dataset: LeRobotDataset,
    episodes: Sequence[int],
    *,
    body: Body,
    hand: Hand | None,
    lag: int,
    every: int,
    progress: Progress | None = None,
) -> Frames:
    """Every `every`-th step (a divisor of `lag`) of the episodes, through the frozen backbone once."""
    samples = SampleDataset(dataset, policy.processor, episodes=episodes, stride=every, progress=progress)
    tokens: list[Tensor] = []
    with (progress or Silent()).task("frozen features", len(samples)) as bar, torch.no_grad():
        for start in range(0, len(samples), _BATCH):
            rows = range(start, min(start + _BATCH, len(samples)))
            inputs = samples.batch(rows).to(policy.device)
            tokens.append(image_tokens(policy.model.observe(inputs)).to("cpu", torch.float16))
            bar.advance(len(rows))
    keys = policy.processor.config.embodiment.action.modality_keys
    parts = [_measured(dataset, index, every, lag, body, hand, keys) for index in episodes]
    sizes = np.cumsum([0, *(len(part["step"]) for part in parts)])[:-1]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    offsets = np.repeat(sizes, [len(part["step"]) for part in parts])
    last = np.where(joined["last"] < 0, -1, joined["last"] + offsets)
    return Frames(tokens=torch.cat(tokens), **(joined | {"last": last}))


def _measured(
    dataset: LeRobotDataset, index: int, every: int, lag: int, body: Body, hand: Hand | None, keys: Sequence[str]
) -> dict[str, Any]:
    rows = dataset.lowdim(index)
    steps = np.arange(0, dataset.episode(index).length, every)
    stalk = body.read({name.removeprefix("state."): v for name, v in rows.items() if name.startswith("state.")})
    actions = np.concatenate([np.asarray(rows[f"action.{key}"], np.float64) for key in keys], axis=1)
    done = np.full((len(steps), lag, actions.shape[1]), np.nan)
    for row, step in enumerate(steps):
        if step >= lag:
            done[row] = actions[step - lag : step]
    return {
        "episode": np.full(len(steps), index),
        "step": steps,
        "now": stalk[steps],
        "beside": _beside(rows, hand)[steps],
        "last": np.where(steps >= lag, np.arange(len(steps)) - lag // every, -1),
        "done": done,
    }


def _beside(rows: dict[str, ndarray], hand: Hand | None) -> Float[ndarray, "_T 2"]:
    length = len(next(iter(rows.values())))
    if hand is None:
        return np.full((length, 2), np.nan)
    motion, steps = hand.motion(rows), np.arange(length)
    points = waypoints(motion.path, motion.gripper)
    following = points[np.minimum(np.searchsorted(points, steps, side="right"), len(points) - 1)]
    away = np.linalg.norm(motion.path[following] - motion.path, axis=1)
    return np.stack([away, np.log1p(np.maximum(following - steps, 0))], axis=1)
