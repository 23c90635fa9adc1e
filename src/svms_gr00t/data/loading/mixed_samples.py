"""The steps of several datasets as one: what `Batches` reads when training on a mixture.

Samples of the datasets stand one after the other; `MixedSampler` says which comes when. Class weights of the label loss
count a token as often as it is drawn.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.labels.tokens import Labeler
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.loading.mixture import MixedSampler
from svms_gr00t.data.loading.sampler import Draw
from svms_gr00t.data.loading.samples import SampleDataset, negatives_over_positives
from svms_gr00t.data.processor.processor import Sample


class MixedSamples(Dataset[Sample]):
    """Steps of `parts`, drawn by `weights`."""

    def __init__(self, parts: Sequence[SampleDataset], weights: Sequence[float]) -> None:
        """Raises ConfigError unless there is one positive weight for each part."""
        if len(parts) != len(weights) or min(weights, default=0.0) <= 0:
            hint = "Take the weights of the opened mixture"
            want = f"{len(parts)} positive numbers"
            raise ConfigError("mixture weights", got=tuple(weights), want=want, hint=hint)
        self.parts, self.weights = tuple(parts), tuple(weights)
        self._ends = list(accumulate(len(part) for part in parts))
        self._first_episodes = list(accumulate((1 + max(part.episodes) for part in parts), initial=0))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        """Sample `index` of all datasets together; a `Draw` keeps its epoch."""
        number, own = self._place(int(index))
        return self.parts[number][Draw(own, getattr(index, "epoch", 0))]

    def origin(self, index: int) -> tuple[int, str]:
        """Episode and instruction of sample `index`; episodes of later datasets count on from those of earlier ones."""
        number, own = self._place(index)
        episode, instruction = self.parts[number].origin(own)
        return self._first_episodes[number] + episode, instruction

    @property
    def labeler(self) -> Labeler | None:
        """Who labels the instructions of all of them."""
        return self.parts[0].labeler

    def texts(self) -> frozenset[str]:
        """Every instruction of all datasets."""
        return frozenset().union(*(part.texts() for part in self.parts))

    def worded(self, sentences: Sequence[str]) -> list[Sample]:
        """Sentences as prompts without pictures, which do not depend on the dataset."""
        return self.parts[0].worded(sentences)

    def _place(self, index: int) -> tuple[int, int]:
        """Which dataset, and which of its samples."""
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number] - len(self.parts[number]))

    def prepare(self, indices: Sequence[int]) -> None:
        """Make sure that the cached states of these samples are there; only where the model is."""
        for index in indices:
            number, own = self._place(int(index))
            self.parts[number].prepare([Draw(own, getattr(index, "epoch", 0))])

    def batch(self, indices: Sequence[int], label_weight: Float[Tensor, " S"] | None = None) -> ModelInputs:
        """The samples at `indices`, collated."""
        self.prepare(indices)
        return collate([self[index] for index in indices], label_weight)

    def sampler(self, batch_size: int, seed: int) -> MixedSampler:
        """Each dataset's share, every step of it once an epoch."""
        return MixedSampler([len(part) for part in self.parts], self.weights, batch_size, seed)

    def label_weight(self) -> Float[Tensor, " S"] | None:
        """Negatives over positives of each stream among the tokens that are drawn; None without a labeler."""
        positives, total = torch.zeros(0), 0.0
        for part, weight in zip(self.parts, self.weights, strict=True):
            counts = part.label_counts()
            if counts is None:
                return None
            scale = weight / sum(part.length(episode) for episode in part.episodes)
            positives = counts[0] * scale + (positives if len(positives) else 0)
            total += counts[1] * scale
        return negatives_over_positives(positives, total)
