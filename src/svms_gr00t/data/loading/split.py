"""Which episodes train and which validate: whole episodes, by task, the same for the same seed.

Within each task the episodes are shuffled and the k-th of s gets rank (k + 1/2) / s; the lowest ranks validate, so each
task gives about the same share of its own. A task's last episode is given up only when there is nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.metadata import Episode


@dataclass(frozen=True, kw_only=True)
class Split:
    """Episode numbers, ascending; together all episodes, none in both."""

    train: tuple[int, ...]
    """Episodes to learn from; never empty."""
    validation: tuple[int, ...]
    """Episodes to judge by; never empty."""


def split_episodes(episodes: Sequence[Episode], *, validation: float = 0.1, seed: int = 0) -> Split:
    """Put about a fraction `validation` of the episodes aside, at least one and not all.

    Raises ConfigError unless 0 < validation < 1, and DataError for fewer than two episodes.
    """
    if not 0.0 < validation < 1.0:
        raise ConfigError("validation", got=validation, want="0 < validation < 1", hint="0.1 is a usual share")
    if len(episodes) < 2:
        hint = "Record more, or train without validation"
        raise DataError("split", got=f"{len(episodes)} episodes", want="at least two", hint=hint)
    rng = np.random.default_rng(seed)
    groups: dict[tuple[str, ...], list[int]] = {}
    for episode in sorted(episodes, key=lambda e: e.index):
        groups.setdefault(episode.tasks, []).append(episode.index)
    ranked: list[tuple[bool, float, float, int]] = []
    for _, members in sorted(groups.items()):
        for k, index in enumerate(rng.permutation(members)):
            last = k == len(members) - 1
            ranked.append((last, (k + 0.5) / len(members), float(rng.random()), int(index)))
    count = min(max(round(validation * len(episodes)), 1), len(episodes) - 1)
    chosen = {index for *_, index in sorted(ranked)[:count]}
    rest = {e.index for e in episodes} - chosen
    return Split(train=tuple(sorted(rest)), validation=tuple(sorted(chosen)))
