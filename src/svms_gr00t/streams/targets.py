"""Grounded targets: what a stream's picture tokens must tell of the hand's recorded motion, in training alone.

Axes: B batch, T tokens, S streams, D stream width, N targets, G numbers of all known targets.

    z_n = sum_t softmax_t(q_n . x_t / sqrt D) x_t       the pictures' tokens of the n-th target's stream
    y_n = MLP_n(z_n)                                     (target - mean) / deviation over the training episodes
    L_n = smooth-L1(y_n)                                 one named loss each

The numbers are those of `data/labels/waypoints.py`; they come in physical units, and their mean and deviation are
buffers, saved with the weights, so that whoever evaluates the heads scales as training did.
"""

from collections.abc import Mapping

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from svms_gr00t.core.svms_config import GROUNDED
from svms_gr00t.streams.heads import pick
from svms_gr00t.streams.memory import masked_softmax

STILL = 1e-6
"""A deviation of at most this is no motion: that number is always 0."""


class TargetHeads(nn.Module):
    """One small head for each target, on one stream's picture tokens."""

    mean: Tensor
    std: Tensor

    def __init__(self, streams: Mapping[str, int], d_stream: int) -> None:
        """`streams`: which stream tells which target."""
        super().__init__()
        self.streams = dict(streams)
        self.queries = nn.Parameter(torch.empty(len(streams), d_stream))
        self.says = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(d_stream, d_stream), nn.GELU(), nn.Linear(d_stream, GROUNDED[name]))
                for name in streams
            }
        )
        self.register_buffer("mean", torch.zeros(sum(GROUNDED.values())))
        self.register_buffer("std", torch.zeros(sum(GROUNDED.values())))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fresh weights, and no scale yet."""
        nn.init.normal_(self.queries)
        for module in self.says.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        self.mean.zero_()
        self.std.zero_()

    @property
    def is_scaled(self) -> bool:
        """Whether mean and deviation of the training episodes are known."""
        return bool(self.std.any())

    def scale(self, mean: Float[Tensor, " G"], std: Float[Tensor, " G"]) -> None:
        """Take the mean and deviation of each number over the training episodes; float32 whatever the weights are."""
        self.mean, self.std = mean.to(self.mean.device, torch.float32), std.to(self.std.device, torch.float32)

    def forward(self, x: Float[Tensor, "B T S D"], image_mask: Bool[Tensor, "B T"]) -> dict[str, Float[Tensor, "B _n"]]:
        """What is said of each target, standardised."""
        own = pick(x, tuple(self.streams.values()), dim=2).masked_fill(~image_mask[..., None, None], 0)
        scores = einsum(own, self.queries, "B T N D, N D -> B N T") * x.shape[-1] ** -0.5
        seen = einsum(masked_softmax(scores, image_mask[:, None]), own, "B N T, B T N D -> B N D")
        return {name: head(seen[:, n]).float() for n, (name, head) in enumerate(self.says.items())}

    def losses(
        self, x: Float[Tensor, "B T S D"], image_mask: Bool[Tensor, "B T"], targets: Float[Tensor, "B G"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Smooth-L1 of each target, mean over rows and numbers."""
        wanted = self.standardised(targets)
        said = self(x.to(self.queries.dtype), image_mask)
        return {name: F.smooth_l1_loss(value, wanted[name]) for name, value in said.items()}

    def standardised(self, targets: Float[Tensor, "B G"]) -> dict[str, Float[Tensor, "B _n"]]:
        """Each target in units of its deviation from its mean; 0 for what never moves."""
        moves = self.std > STILL
        values = torch.where(moves, (targets.float() - self.mean) / torch.where(moves, self.std, 1.0), 0.0)
        parts = dict(zip(GROUNDED, values.split(list(GROUNDED.values()), dim=-1), strict=True))
        return {name: parts[name] for name in self.streams}

    def extra_repr(self) -> str:
        return ", ".join(f"{name} from stream {stream}" for name, stream in self.streams.items())
