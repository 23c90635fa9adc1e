"""Endless shuffled batches that can be taken up again at any batch.

The stream is permutation 0, permutation 1, ... of range(length), cut into batches without regard to where a permutation
ends: every index comes once an epoch, no remainder is dropped, and a batch may be larger than the dataset. Batch n is a
function of (length, batch_size, seed, n) alone, so a resume needs only n.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from svms_gr00t.core.errors import ConfigError


class Draw(int):
    """An index that remembers its epoch, so that augmentation differs between epochs in whichever process it runs."""

    epoch: int

    def __new__(cls, index: int, epoch: int = 0) -> "Draw":
        draw = super().__new__(cls, index)
        draw.epoch = epoch
        return draw

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]  # int's own stub knows one argument
        return int(self), self.epoch


class ResumableSampler:
    """Iterator of batches of indices in [0, length), each a `Draw`; fits `DataLoader(batch_sampler=...)`."""

    def __init__(self, length: int, batch_size: int, seed: int = 0) -> None:
        """Raises ConfigError unless length and batch_size are positive."""
        for name, value in (("sampler.length", length), ("sampler.batch_size", batch_size)):
            if value < 1:
                raise ConfigError(
                    name, got=value, want="at least 1", hint="Check the number of steps and the batch size"
                )
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.batch = 0
        """Batches handed out. Workers that prefetch run ahead of training: save the number of batches trained on."""

    def __iter__(self) -> Iterator[list[int]]:
        while True:
            yield next(self)

    def __next__(self) -> list[int]:
        start = self.batch * self.batch_size
        self.batch += 1
        places = (divmod(at, self.length) for at in range(start, start + self.batch_size))
        return [Draw(int(_permutation(self.length, self.seed, epoch)[at]), epoch) for epoch, at in places]


@lru_cache(maxsize=4)
def _permutation(length: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(length)
