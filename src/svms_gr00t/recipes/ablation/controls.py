"""Controls of an ablation: the same place and size without the idea.

Axes: B batch, T tokens, M model width, H hidden width.

    adapter           h' = h + W2 gelu(W1 LN(h)) on valid tokens; W2 = 0 at the start, as SVMS's merge is
    shuffled labels   each instruction's labels dealt out anew among its words: as many, as learnable, without meaning
    images visual     image tokens labelled too: Visual and nothing else
    targets           grounded targets from the tokens that the action head reads, without streams
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from svms_gr00t.core.svms_config import SvmsConfig
from svms_gr00t.core.types import Features, ModelInputs, StreamStates
from svms_gr00t.data.labels.tokens import Labeler, streams_of
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.loading.protocols import Sampler, Samples
from svms_gr00t.data.processor.processor import Sample
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6, ModelOutput
from svms_gr00t.streams.targets import TargetHeads
from svms_gr00t.svms import SheafStreams


class ResidualAdapter(nn.Module):
    """A residual MLP on the tokens that the action head reads; fresh, it changes no bit."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.reset_parameters()

    @classmethod
    def as_large_as(cls, config: SvmsConfig, dim: int) -> "ResidualAdapter":
        """As many parameters as the SVMS of `config` has, up to half a hidden unit, without heads for targets."""
        streams = replace(config, grounded_targets=())
        with torch.device("meta"):
            wanted = sum(p.numel() for p in SheafStreams.from_config(streams, dim).parameters())
        return cls(dim, max(1, round((wanted - 3 * dim) / (2 * dim + 1))))

    def reset_parameters(self) -> None:
        for layer in (self.norm, self.inner, self.outer):
            layer.reset_parameters()
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, features: Features) -> Features:
        """Features with other tokens; padding stays as it is."""
        mask = features.mask[..., None]
        tokens = features.tokens.masked_fill(~mask, 0).to(self.outer.weight.dtype)
        said = self.outer(F.gelu(self.inner(self.norm(tokens)), approximate="tanh"))
        return replace(
            features, tokens=torch.where(mask, features.tokens + said.to(features.tokens.dtype), features.tokens)
        )

    def set_temperature(self, temperature: float) -> None:
        """Nothing to set: it has no router."""


class PlainModel(Gr00tN1d6):
    """Plain N1.6 that may have heads for grounded targets on the tokens that the action head reads.

    The configuration says `use_sheaf_streams=False`. The heads are called `targets`, not `svms`, and every phase trains
    them: nothing of what acts is larger.
    """

    def __init__(self, config: Gr00tN1d6Config) -> None:
        super().__init__(config)
        width, one = config.backbone_embedding_dim, dict.fromkeys(config.grounded_targets, 0)
        self.targets = TargetHeads(one, width) if one else None

    @property
    def target_heads(self) -> TargetHeads | None:
        """Its own."""
        return self.targets

    def forward(self, inputs: ModelInputs, **draws: Any) -> ModelOutput:
        """The plain model's loss, and those of the targets."""
        output = super().forward(inputs, **draws)
        if self.targets is None or inputs.targets is None:
            return output
        seen = output.features
        losses = self.targets.losses(seen.tokens[:, :, None], seen.image_mask, inputs.targets)
        return replace(output, terms=output.terms | losses)


class AdapterModel(PlainModel):
    """Plain N1.6 with the adapter where SVMS would be, under SVMS's name, so that the phases train it as they do SVMS.

    There are no streams, no evidence and no token labels.
    """

    def __init__(self, config: Gr00tN1d6Config) -> None:
        super().__init__(config)
        self.svms = ResidualAdapter.as_large_as(config, config.backbone_embedding_dim)  # type: ignore[assignment]

    def between(
        self, features: Features, inputs: ModelInputs, *, losses: bool = True
    ) -> tuple[Features, StreamStates | None]:
        """The adapted features."""
        return self.svms(features), None  # type: ignore


class ShuffledLabels:
    """A labeler whose labels belong to other words of the same instruction; the same deal for the same text."""

    def __init__(self, labeler: Labeler, seed: int = 0) -> None:
        self.labeler, self.seed, self.streams = labeler, seed, streams_of(labeler)

    def __call__(self, instruction: str) -> list[tuple[int, int, list[float]]]:
        words = [(start, end, list(values)) for start, end, values in self.labeler(instruction)]
        # Not hash(): that differs between processes, and a resumed run would see other labels.
        text = int.from_bytes(hashlib.sha256(instruction.encode()).digest()[:8], "big")
        deal = np.random.default_rng([self.seed, text]).permutation(len(words))
        return [(start, end, words[d][2]) for (start, end, _), d in zip(words, deal, strict=True)]


class ImagesAreVisual:
    """Samples whose image tokens count as labelled: the first stream's, and no other's."""

    def __init__(self, samples: Samples, config: Gr00tN1d6Config) -> None:
        self.samples, self.image_token = samples, config.image_token_index

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        if sample.labels is None or sample.label_mask is None:
            return sample
        image = sample.input_ids == self.image_token
        visual = F.one_hot(torch.zeros_like(sample.input_ids), sample.labels.shape[-1]).to(sample.labels.dtype)
        labels = torch.where(image[:, None], visual, sample.labels)
        return replace(sample, labels=labels, label_mask=sample.label_mask | image)

    def origin(self, index: int) -> tuple[int, str]:
        """As in the samples themselves."""
        return self.samples.origin(index)

    def prepare(self, indices: Sequence[int]) -> None:
        """As in the samples themselves."""
        self.samples.prepare(indices)

    def batch(self, indices: Sequence[int], label_weight: Float[Tensor, " S"] | None = None) -> ModelInputs:
        """The samples at `indices`, collated."""
        return collate([self[index] for index in indices], label_weight)

    @property
    def labeler(self) -> Labeler | None:
        """Who labels their instructions."""
        return self.samples.labeler

    def texts(self) -> frozenset[str]:
        """As in the samples themselves."""
        return self.samples.texts()

    def worded(self, sentences: Sequence[str]) -> list[Sample]:
        """As in the samples themselves."""
        return self.samples.worded(sentences)

    def label_weight(self) -> Float[Tensor, " S"] | None:
        """Class weights of the words alone."""
        return self.samples.label_weight()

    def sampler(self, batch_size: int, seed: int) -> Sampler:
        """As in the samples themselves."""
        return self.samples.sampler(batch_size, seed)
