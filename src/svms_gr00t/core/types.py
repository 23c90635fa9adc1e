"""The records that stages hand to one another: frozen, shape-typed, moved between devices as one value.

Axes: B batch, T tokens, M model width, S streams, E edges, D stream width, H action horizon, Ds state width, Da action
width, h and w pixels (multiples of 28), K past steps, Q moments of a step, P image tokens, W width of a state token,
R different earlier steps of a batch, G numbers of grounded targets.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, _Movable):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_moved(v, device) for v in value)
    return value


Record = TypeVar("Record", bound="_Movable")


class _Movable:
    def to(self: Record, device: torch.device | str) -> Record:
        """The same record with every tensor on `device`."""
        values = {f.name: _moved(getattr(self, f.name), device) for f in fields(self)}  # type: ignore
        return replace(self, **values)  # type: ignore


@dataclass(frozen=True, kw_only=True)
class Past(_Movable):
    """What the robot saw at the memory's offsets, oldest first, as the frozen backbone tells it."""

    tokens: Float[Tensor, "B K _P M"]
    """Features of the pictures' tokens."""
    mask: Bool[Tensor, "B K _P"]
    """True on real ones."""
    state: Float[Tensor, "B K _n Ds"]
    """Normalised robot state of each step."""
    valid: Bool[Tensor, "B K"]
    """False before the episode began."""


@dataclass(frozen=True, kw_only=True)
class Moments(_Movable):
    """What memory kept of earlier steps, oldest first: what acting passes in place of `Past`."""

    values: Float[Tensor, "B K Q D"]
    valid: Bool[Tensor, "B K"]
    """False before the episode began."""


@dataclass(frozen=True, kw_only=True)
class ModelInputs(_Movable):
    """One collated batch, the processor's output and the model's only input."""

    images: tuple[Float[Tensor, "3 _h _w"], ...]
    """Every image of the batch in order of appearance in `input_ids`, scaled to [-1, 1]; sizes may differ."""
    input_ids: Int[Tensor, "B T"]
    attention_mask: Bool[Tensor, "B T"]
    """True on real tokens; rows are left-padded."""
    state: Float[Tensor, "B _n Ds"]
    """Normalised robot state, zero-padded to the model's state width; n is the state history, 1 for N1.6."""
    embodiment_id: Int[Tensor, " B"]
    action: Float[Tensor, "B H Da"] | None = None
    """Normalised action chunk, zero-padded; absent at inference."""
    action_mask: Float[Tensor, "B H Da"] | None = None
    """1 on real steps and real dimensions, else 0."""
    labels: Float[Tensor, "B T S"] | None = None
    """Auxiliary token labels, 0 or 1 for each stream; absent at inference."""
    label_mask: Bool[Tensor, "B T"] | None = None
    """True where a label counts: instruction tokens, never images, specials or padding."""
    label_weight: Float[Tensor, " S"] | None = None
    """Weight of a positive label in each stream's BCE (negatives over positives in the training data)."""
    hidden: Float[Tensor, "B T M"] | None = None
    """Hidden states from a feature cache, in place of the images; then `images` is empty."""
    hidden_layer: int = 0
    """Language layers that `hidden` has been through."""
    targets: Float[Tensor, "B G"] | None = None
    """Where, when and how the recorded hand moves, physical units; absent at inference and where nobody asks."""
    past: "Past | Moments | Earlier | None" = None
    """Earlier steps for a model with memory; None: nothing came before."""


@dataclass(frozen=True, kw_only=True)
class Earlier(_Movable):
    """Earlier steps as the model's own input, each of them once: what training passes."""

    steps: ModelInputs
    """R observations without actions."""
    place: Int[Tensor, "B K"]
    """Which of them was seen at each offset, oldest first; 0 where nothing was."""
    valid: Bool[Tensor, "B K"]
    """False before the episode began."""


@dataclass(frozen=True, kw_only=True)
class Recalled(_Movable):
    """What a memory says at one step."""

    moments: Float[Tensor, "B Q D"]
    """This step's own, to be kept."""
    present: Float[Tensor, "B Q D"]
    """M_now: this step's moments after they have seen the earlier ones."""
    streams: Float[Tensor, "B T S D"]
    """The remembering streams with what was read."""
    offset: Float[Tensor, "B W"]
    """What is added to the action head's state token."""
    ages: Float[Tensor, "B _K"]
    """Share of the last layer's attention of the present on each step, oldest first; hidden steps 0, the sum 1."""


@dataclass(frozen=True, kw_only=True)
class Features(_Movable):
    """What the backbone says about an observation; SVMS returns the same record with other tokens."""

    tokens: Float[Tensor, "B T M"]
    mask: Bool[Tensor, "B T"]
    """True on real tokens."""
    image_mask: Bool[Tensor, "B T"]
    """True on image tokens (a subset of `mask`)."""
    recalled: Recalled | None = None
    """What memory said, once it was asked; None without one."""


@dataclass(frozen=True, kw_only=True)
class StreamStates(_Movable):
    """What SVMS did to each token: the merged tokens, and the evidence for reports and for the monitor."""

    tokens: Float[Tensor, "B T M"]
    """h' = h + merge(...): what the action head reads."""
    streams: Float[Tensor, "B T S D"]
    """Stream states after the Laplacian correction."""
    weights: Float[Tensor, "B T S"]
    """Router weights; each valid token's sum to 1, padding is 0."""
    rho: Float[Tensor, "B T E"]
    """Scale-free disagreement on each edge, in [0, 2]; padding is 0."""
    aux_logits: Float[Tensor, "B T S"]
    """Each stream's own logit for its own label."""
    terms: dict[str, Float[Tensor, ""]]
    """Named losses: sheaf, collapse, balance, and aux when labels were given."""
    recalled: Recalled | None = None
    """What memory said; None without one."""
