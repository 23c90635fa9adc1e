"""Auxiliary heads: each stream says, on its own, whether a token belongs to it.

Axes: B batch, T tokens, S streams, D stream width, C labelled streams (the first C of S).
"""

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from svms_gr00t.core.errors import DataError


class TokenLabelHeads(nn.Module):
    """One linear logit for each stream, from that stream alone."""

    def __init__(self, *, n_streams: int, d_stream: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_streams, d_stream))
        self.bias = nn.Parameter(torch.empty(n_streams))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.weight.shape[1] ** -0.5)
        nn.init.zeros_(self.bias)

    def forward(self, streams: Float[Tensor, "B T S D"]) -> Float[Tensor, "B T S"]:
        return einsum(streams, self.weight, "B T S D, S D -> B T S") + self.bias

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]} x ({self.weight.shape[1]} -> 1)"


def label_loss(
    logits: Float[Tensor, "B T S"],
    labels: Float[Tensor, "B T C"],
    mask: Bool[Tensor, "B T"],
    positive_weight: Float[Tensor, " C"] | None = None,
) -> Float[Tensor, ""]:
    """Mean binary cross-entropy over masked tokens and labelled streams; 0 when no token is labelled.

    Streams after the C-th have no labels and get no gradient. `positive_weight` multiplies positives.
    Raises DataError when there are more labels than streams.
    """
    n_labels = labels.shape[-1]
    if n_labels > logits.shape[-1]:
        raise DataError("labels", got=f"{n_labels} columns", want=f"at most {logits.shape[-1]}", hint="One a stream")
    logits = logits[..., :n_labels]
    logits = logits if logits.dtype == torch.float64 else logits.float()
    # Filled before the loss, so that NaN under the mask has no gradient either.
    valid = mask[..., None]
    logits, labels = torch.where(valid, logits, 0.0), torch.where(valid, labels, 0.0).to(logits.dtype)
    each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none", pos_weight=positive_weight)
    return torch.where(valid, each, 0.0).sum() / (mask.sum() * n_labels).clamp(min=1)
