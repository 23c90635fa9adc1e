"""Steps where the past decides: right before the robot closes or opens its hand, turns round, stops or starts.

Axes: T steps of an episode, D motion numbers, C switches.

    v-, v+    mean motion of the four steps before t and from t on, each number in units of its spread and weighed by
              how well it tells itself two steps later: tremor and noise tell nothing
    turn      v- . v+ < 0 while both move          stop, start   one moves, the other rests
    switch    a command with few values (the gripper's) changes

There a policy without memory must guess, and they are few: two of 32 samples in a batch of a prototype, which learned
everything but them. The motion of an absolute command is its change from step to step.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from svms_gr00t.data.loading.mixture import MixedSampler
from svms_gr00t.data.loading.sampler import Draw

FEW = 3
"""A command with so many different values in an episode, or fewer, is a switch."""
WINDOW = 4
AHEAD = 8
"""Steps that a robot without memory is taken to execute of a chunk; with memory it is the stride."""
RESTS, MOVES = 0.25, 0.5
"""Of the typical (root mean square) length of the motion: below the first it rests, above the second it moves."""


def deciding_steps(
    actions: Mapping[str, Float[ndarray, "T _d"]], absolute: Sequence[str], *, ahead: int
) -> Bool[ndarray, " T"]:
    """Steps from which a change of intent lies at most `ahead` steps away, in one episode."""
    changes = _changes(actions, absolute)
    near = np.convolve(changes, np.ones(ahead), mode="full")[ahead - 1 :] > 0
    return near[: len(changes)]


def _changes(actions: Mapping[str, Float[ndarray, "T _d"]], absolute: Sequence[str]) -> Bool[ndarray, " T"]:
    """Steps at which the intent is another than before."""
    length = len(next(iter(actions.values())))
    found = np.zeros(length, dtype=bool)
    motions: list[ndarray] = []
    for key, values in actions.items():
        for column in np.asarray(values, dtype=float).T:
            if len(np.unique(column)) <= FEW:
                found[1:] |= column[1:] != column[:-1]
            else:
                motion = np.diff(column, prepend=column[:1]) if key in absolute else column
                motions.append(motion / max(float(motion.std()), 1e-9) * _persistence(motion))
    return found | (_turns(np.stack(motions, axis=1)) if motions else False)


def _persistence(motion: Float[ndarray, " T"]) -> float:
    """Correlation of a motion with itself two steps later, 0 where chance would explain it."""
    centred = motion - motion.mean()
    found = float((centred[2:] * centred[:-2]).sum() / max(float((centred**2).sum()), 1e-9))
    return found if found > 3 * len(motion) ** -0.5 else 0.0


def _turns(motion: Float[ndarray, "T D"]) -> Bool[ndarray, " T"]:
    """Steps at which the motion turns round, stops or starts."""
    sums = np.cumsum(np.vstack([np.zeros_like(motion[:1]), motion]), axis=0)
    at = np.arange(len(motion))
    first, last = np.maximum(at - WINDOW, 0), np.minimum(at + WINDOW, len(motion))
    before = (sums[at] - sums[first]) / np.maximum(at - first, 1)[:, None]
    after = (sums[last] - sums[at]) / (last - at)[:, None]
    typical = max(float(np.sqrt((motion**2).sum(1).mean())), 1e-9)
    was, will = np.linalg.norm(before, axis=1) / typical, np.linalg.norm(after, axis=1) / typical
    turn = ((before * after).sum(1) < 0) & (np.minimum(was, will) > MOVES)
    stop = (np.minimum(was, will) < RESTS) & (np.maximum(was, will) > MOVES)
    found = turn | stop
    found[0] = False
    return found


class DecidingSampler:
    """Batches of which a share is drawn from deciding steps, as many for each instruction; the rest from all steps."""

    def __init__(
        self, length: int, deciding: Mapping[str, Sequence[int]], batch_size: int, seed: int = 0, *, share: float
    ) -> None:
        """`length` samples; `deciding` are the numbers of some of them, by instruction."""
        groups = [list(numbers) for _, numbers in sorted(deciding.items()) if len(numbers)]
        weights = [1 - share, *(share / len(groups) for _ in groups)] if groups else [1.0]
        self._numbers = np.concatenate([np.arange(length), *(np.array(group) for group in groups)])
        self._mixed = MixedSampler([length, *map(len, groups)], weights, batch_size, seed)

    @property
    def batch(self) -> int:
        """Batches handed out."""
        return self._mixed.batch

    @batch.setter
    def batch(self, number: int) -> None:
        self._mixed.batch = number

    def __next__(self) -> list[int]:
        drawn = next(self._mixed)
        return [Draw(int(self._numbers[int(one)]), getattr(one, "epoch", 0)) for one in drawn]
