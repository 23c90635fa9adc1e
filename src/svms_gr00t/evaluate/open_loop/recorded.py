"""A recorded episode as a policy would have seen it: with what it looks back to, and what its memory is shown.

Axes: n steps looked at, T past steps, Q moments of a step, D their width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from svms_gr00t.core.history import EARLIER, NOW, STEP, History, clipped_steps
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.evaluate.open_loop.baselines import split_lowdim
from svms_gr00t.memories import Borrowed, Wiped
from svms_gr00t.policy import Policy

Remembered = Literal["own", "wiped", "swapped"]
"""What a memory is shown: the past, that nothing ever came before, or another episode at the same steps."""


@dataclass(frozen=True)
class Recorded:
    """One recorded episode as a policy would have seen it, with the past steps that it or its memory looks back to."""

    dataset: Any
    episode: int
    states: dict[str, np.ndarray]
    instructions: list[str]
    """One for each step."""
    history: History = field(default_factory=History)
    """How far back the policy looks."""
    lender: "Recorded | None" = None
    """The episode that a memory is shown instead of this one; it stands still after its end."""
    wiped: bool = False
    """Whether a memory is shown nothing at all."""

    def at(self, steps: Sequence[int]) -> list[dict[str, Any]]:
        """Flat observations at some steps: (H, W, 3) and (D,), or (T, ...) for a policy that looks back.

        For one with memory they hold what was seen at its offsets, None before the start: the past is replayed.
        """
        if not self.history.memory:
            return self._plain(steps)
        whose = self.lender or self
        last = len(whose.instructions) - 1
        past = {step: [min(step + offset, last) for offset in self.history.memory] for step in steps}
        wanted = {one for before in past.values() for one in before if one >= 0 and not self.wiped}
        if whose is self:
            wanted |= set(steps)
        seen = dict(zip(sorted(wanted), whose._plain(sorted(wanted)), strict=True)) if wanted else {}
        now = [seen[step] for step in steps] if whose is self else self._plain(steps)
        # One object for one step, so that a policy looks at it once.
        return [
            one | {EARLIER: tuple(None if self.wiped or t < 0 else seen[t] for t in past[step])}
            for step, one in zip(steps, now, strict=True)
        ]

    def _plain(self, steps: Sequence[int]) -> list[dict[str, Any]]:
        looked, felt = (self._past(kind, steps) for kind in ("video", "state"))
        frames = {view: self._frames(view, looked) for view in self.dataset.modality.video}
        return [
            {f"video.{view}": pictures[i] for view, pictures in frames.items()}
            | {f"state.{key}": rows[felt[i]] for key, rows in self.states.items()}
            | {INSTRUCTION: self.instructions[step], STEP: step}
            for i, step in enumerate(steps)
        ]

    def _past(self, kind: str, steps: Sequence[int]) -> np.ndarray:
        """Steps of each observation (n, T), or (n,) where it holds the current one alone."""
        offsets, length = self.history.offsets[kind], len(self.instructions)
        past = np.array([clipped_steps(step, offsets, length) for step in steps])
        return past[:, 0] if offsets == NOW else past

    def _frames(self, view: str, steps: np.ndarray) -> np.ndarray:
        found = self.dataset.frames(self.episode, view, steps.ravel().tolist())
        return found.reshape(*steps.shape, *found.shape[1:])


def recorded(dataset: Any, episode: int, history: History | None = None) -> Recorded:
    """An episode as it was. Raises DataError when it cannot be read."""
    states, _ = split_lowdim(dataset.lowdim(episode))
    return Recorded(dataset, episode, states, list(dataset.instructions(episode)), history or History())


def remembered(
    policy: Policy, dataset: Any, episodes: Sequence[int], *, every: int | None = None, batch_size: int = 32
) -> list[dict[int, Float[Tensor, "Q D"]]]:
    """Step -> moments of recorded episodes, for `memories.Borrowed`: every `every` steps, by default the stride.

    Raises DataError for a policy without memory and for an episode that cannot be read.
    """
    found, looks_back = [], History.of(policy).offsets
    for episode in episodes:
        seen = recorded(dataset, episode, History(**looks_back))  # moments of a step depend on that step alone
        steps = range(0, len(seen.instructions), every or -max(policy.memory_offsets, default=-1))
        batches = [steps[start : start + batch_size] for start in range(0, len(steps), batch_size)]
        rows = [row for batch in batches for row in policy.moments(seen.at(batch))]
        found.append(dict(zip(steps, rows, strict=True)))
    return found


def control(policy: Policy, memory: Remembered, dataset: Any = None, episodes: Sequence[int] = ()) -> Policy:
    """The policy, acting with that memory from now on; "swapped" borrows recorded `episodes` of a dataset.

    Take episodes of the task that is driven: what another task looks like is no fair control. Raises as `remembered`
    does, and ConfigError for no episodes.
    """
    if memory == "wiped":
        policy.memories = Wiped(policy.memory_offsets)
    elif memory == "swapped":
        policy.memories = Borrowed(policy.memory_offsets, remembered(policy, dataset, episodes))
    return policy
