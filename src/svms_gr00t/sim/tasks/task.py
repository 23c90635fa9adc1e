"""What a task of the kitchen is, and what its success rule may look at.

Success must hold for `HOLD` control steps; a robot that does nothing or moves at random must not reach it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from numpy import ndarray
from numpy.random import Generator

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.sim.layout import Layout

HOLD = 5


class Progress(Protocol):
    """What has happened in an episode so far, where no picture tells. It is made at a reset and sees every step."""

    hidden: int
    """What a policy must remember, as a small number: the side that was lit, presses so far."""
    done: bool
    """The goal is reached, for good."""
    failed: bool
    """It cannot be reached any more."""

    @property
    def stage(self) -> str:
        """How far it is, in a few words for whoever looks on."""
        ...

    def see(self, state: "KitchenState") -> None:
        """Take in the state after one step."""
        ...


@runtime_checkable
class KitchenState(Protocol):
    """What a success rule may look at."""

    progress: Progress | None

    def joint(self, name: str) -> float: ...

    def position(self, name: str) -> ndarray: ...

    def hand(self) -> ndarray: ...

    @property
    def coffee_on(self) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """One kind of episode. `{target}` in a phrasing becomes the side or food."""

    name: str
    """RoboCasa-like name."""
    phrasings: tuple[str, ...]
    """Sentences seen in training."""
    held_out: tuple[str, ...]
    """Sentences of `split="paraphrase"`, never seen in training."""
    targets: tuple[str, ...]
    """What the instruction may speak of, or what the past says."""
    setup: Callable[[Layout, str, Generator], Layout]
    """Put the target into its starting state."""
    success: Callable[[KitchenState, str], bool]
    """Whether the goal is reached now, for this target."""
    horizon: int
    """Control steps after which an episode has failed."""
    progress: Callable[[str], Progress] | None = None
    """What follows an episode whose success depends on its past, for this target."""
    chance: float = 0.0
    """The success rate that no policy which sees one frame exceeds; `chance_because` says why."""
    chance_because: str = "nothing that moves at random reaches the goal"

    def instruction(self, target: str, rng: Generator, split: str = "train") -> str:
        """One sentence. Raises ConfigError for an unknown split."""
        if split not in ("train", "paraphrase"):
            raise ConfigError("split", got=split, want='"train" or "paraphrase"', hint="Use split='train'")
        sentences = self.phrasings if split == "train" else self.held_out
        return sentences[int(rng.integers(len(sentences)))].format(target=target)
