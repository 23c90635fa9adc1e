"""What batches are made of, whether one dataset or a mixture stands behind it.

Axes: S labels.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.labels.tokens import Labeler
from svms_gr00t.data.processor.processor import Sample


@runtime_checkable
class Sampler(Protocol):
    """Batches of draws; `batch` may be set to go to any of them."""

    batch: int

    def __next__(self) -> list[int]: ...


@runtime_checkable
class Samples(Protocol):
    """What batches are made of: the steps of one dataset, or a mixture."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def origin(self, index: int) -> tuple[int, str]:
        """Episode and instruction of sample `index`; episodes of two datasets have two numbers."""
        ...

    @property
    def labeler(self) -> Labeler | None:
        """Who labels their instructions."""
        ...

    def texts(self) -> frozenset[str]:
        """Every instruction."""
        ...

    def worded(self, sentences: Sequence[str]) -> list[Sample]:
        """Sentences as the prompt of a sample each, without pictures."""
        ...

    def prepare(self, indices: Sequence[int]) -> None:
        """Make sure that the cached states of these samples are there, before another process reads them."""
        ...

    def batch(self, indices: Sequence[int], label_weight: Float[Tensor, " S"] | None = None) -> ModelInputs:
        """The samples at `indices`, collated."""
        ...

    def label_weight(self) -> Float[Tensor, " S"] | None:
        """Class weights of the label loss."""
        ...

    def sampler(self, batch_size: int, seed: int) -> Sampler:
        """Which sample comes when."""
        ...
