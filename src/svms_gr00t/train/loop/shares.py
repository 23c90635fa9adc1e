"""One global batch in parts: over processes, and over micro-batches that are accumulated.

Batch n, its noise and its flow times depend on (seed, n) alone and are cut, so that any split trains on equal numbers.
A part's losses count by what they are means of (real action elements, valid tokens, labelled tokens, rows): the
weighted sum is then the loss of the whole batch. Collapse and balance are not means; over parts they are an average.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.svms_config import GROUNDED
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.loading.batches import Batches

Parts = tuple[ModelInputs, ...]


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of every global batch this process computes, and in how many micro-batches."""

    rank: int = 0
    world: int = 1
    micro: int = 1

    def rows(self, batch_size: int) -> list[range]:
        """Rows of the global batch for each micro-batch of this process. Raises ConfigError when they do not fit."""
        parts = self.world * self.micro
        if batch_size % parts:
            got, want = f"{batch_size} in {self.world} x {self.micro} parts", "a multiple of processes x accumulation"
            raise ConfigError(
                "--global-batch-size", got=got, want=want, hint=f"Use {parts * (batch_size // parts + 1)}"
            )
        size = batch_size // parts
        first = self.rank * self.micro
        return [range((first + i) * size, (first + i + 1) * size) for i in range(self.micro)]


def shared_batches(batches: Batches, share: Share, batch_size: int) -> Callable[[int], Parts]:
    """Batch number -> this process's micro-batches of it; only their own samples are read."""
    batches.rows = share.rows(batch_size)
    return batches.parts


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Noise and flow time of a global batch."""

    noise: Float[Tensor, "B H Da"]
    time: Float[Tensor, " B"]

    def to(self, device: torch.device) -> "Draws":
        """The same on `device`."""
        return Draws(noise=self.noise.to(device), time=self.time.to(device))

    def at(self, rows: range) -> "Draws":
        """Those of some rows."""
        return Draws(noise=self.noise[rows.start : rows.stop], time=self.time[rows.start : rows.stop])


def counts(part: ModelInputs, terms: Sequence[str]) -> Float[Tensor, " N"]:
    """How many elements each term is a mean of in this part."""
    assert part.action is not None
    elements = part.action_mask.sum() if part.action_mask is not None else torch.tensor(float(part.action.numel()))
    known = {
        **dict.fromkeys(("flow", "recall"), elements),
        **dict.fromkeys(GROUNDED, torch.tensor(float(len(part.state)))),
        "aux": part.label_mask.sum() if part.label_mask is not None else torch.tensor(0.0),
    }
    tokens = part.attention_mask.sum()
    return torch.stack([known.get(name, tokens).float().cpu() for name in terms])
