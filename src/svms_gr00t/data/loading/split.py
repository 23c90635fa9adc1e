"""Which episodes train and which validate: whole episodes, by task, the same for the same seed.

Within each task the episodes are shuffled and the k-th of s gets rank (k + 1/2) / s; the lowest ranks validate, so each
task gives about the same share of its own. A task's last episode is given up only when there is nothing else. Broken
episodes are dealt with the others and then left out, so that mending one moves no other.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.metadata import Episode


@dataclass(frozen=True, kw_only=True)
class Split:
    """Episode numbers, ascending; together all sound episodes, none in both."""

    train: tuple[int, ...]
    """Episodes to learn from; never empty."""
    validation: tuple[int, ...]
    """Episodes to judge by; never empty."""


def split_episodes(
    episodes: Sequence[Episode], *, validation: float = 0.1, seed: int = 0, broken: Collection[int] = ()
) -> Split:
    """Put about a fraction `validation` of the episodes aside, at least one and not all, without the `broken` ones.

    Raises ConfigError unless 0 < validation < 1, and DataError for fewer than two sound episodes.
    """
    if not 0.0 < validation < 1.0:
        raise ConfigError("validation", got=validation, want="0 < validation < 1", hint="0.1 is a usual share")
    ranked = _ranked(episodes, np.random.default_rng(seed))
    sound = [index for index in ranked if index not in broken]
    if len(sound) < 2:
        hint = "Record more, or train without validation"
        raise DataError("split", got=f"{len(sound)} episodes", want="at least two", hint=hint)
    wanted = set(ranked[: max(round(validation * len(ranked)), 1)])
    count = min(max(sum(index in wanted for index in sound), 1), len(sound) - 1)
    return Split(train=tuple(sorted(sound[count:])), validation=tuple(sorted(sound[:count])))


def _ranked(episodes: Sequence[Episode], rng: np.random.Generator) -> list[int]:
    """Episode numbers, the first to validate first."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for episode in sorted(episodes, key=lambda e: e.index):
        groups.setdefault(episode.tasks, []).append(episode.index)
    ranked: list[tuple[bool, float, float, int]] = []
    for _, members in sorted(groups.items()):
        for k, index in enumerate(rng.permutation(members)):
            last = k == len(members) - 1
            ranked.append((last, (k + 0.5) / len(members), float(rng.random()), int(index)))
    return [index for *_, index in sorted(ranked)]
