"""A feature cache that fills itself as training goes: an episode is computed when the first of its steps is asked for.

An episode is the unit, in batches that do not depend on who asks, so that what is stored is the same bit for bit
whatever order training takes, and a resumed run reads what the first one read.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from svms_gr00t.core.files.lock import in_turn
from svms_gr00t.data.loading.feature_cache import CacheKey, FeatureCache

FILLING = ".filling"
"""Held by whoever fills."""
Fill = Callable[[FeatureCache, int, int], None]
"""Computes and writes one (copy, episode)."""


class GrowingCache(FeatureCache):
    """Reads as a cache does; what is missing is filled first.

    Runs that share a cache fill it in turn, each episode once. What is sent to a worker process only reads.
    """

    def __init__(self, root: Path, key: CacheKey, fill: Fill) -> None:
        super().__init__(root, key)
        self._fill: Fill | None = fill

    @classmethod
    def at(cls, root: Path, key: CacheKey, fill: Fill) -> "GrowingCache":
        """Begin one, or go on with it. Raises DataError when the folder holds a cache with another key."""
        return cls(FeatureCache.create(root, key).root, key, fill)

    def ensure(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Fill those of the (copy, episode) pairs that are not complete."""
        for variant, episode in dict.fromkeys(pairs):
            if (variant, episode) in self._episodes or self._fill is None or self.has(variant, episode):
                continue
            with in_turn(self.root / FILLING):
                if not self.has(variant, episode):
                    self._fill_now(variant, episode)

    def _fill_now(self, variant: int, episode: int) -> None:
        assert self._fill is not None
        self._fill(self, variant, episode)

    def image_tokens(self, variant: int, episode: int) -> tuple[int, ...]:
        """As in any cache."""
        self.ensure([(variant, episode)])
        return super().image_tokens(variant, episode)

    def read(self, variant: int, episode: int, step: int) -> Float[Tensor, "T M"]:
        """As in any cache."""
        self.ensure([(variant, episode)])
        return super().read(variant, episode, step)

    def missing(self, episodes: Any) -> list[tuple[int, int]]:
        """Nothing that would not come."""
        return []

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_fill": None}  # the model stays where it trains
