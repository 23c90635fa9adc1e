"""The form of a batch: everything about it but the values of its tensors. One graph serves all batches of one form.

Axes: B rows, T tokens, T' tokens of the bucket, K past steps, Q moments of a step, D their width.

Prompts of one episode are of one length, those of different instructions are not. So prompts are padded on the left
to a multiple of `bucket` tokens, and text is gathered into as many columns as the bucket leaves. Padding changes
nothing in exact arithmetic: it is masked, and positions count relative to one another.
"""

from collections.abc import Hashable
from dataclasses import fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from svms_gr00t.core.types import Layout, ModelInputs, Moments, Movable, places


def flat(value: Any) -> tuple[list[Tensor], Hashable]:
    """The tensors of a record in the order of its fields, and its form."""
    if isinstance(value, Tensor):
        return [value], (tuple(value.shape), value.dtype)
    if isinstance(value, Movable):
        parts = [flat(getattr(value, field.name)) for field in fields(value)]  # type: ignore[arg-type]
    elif isinstance(value, tuple):
        parts = [flat(one) for one in value]
    else:
        return [], value
    return [tensor for tensors, _ in parts for tensor in tensors], (type(value), *(form for _, form in parts))


def fit(
    inputs: ModelInputs, image_id: int, bucket: int, moments: tuple[int, int, int, torch.dtype] | None
) -> ModelInputs:
    """The same batch, its prompts filled up to a multiple of `bucket` tokens, without what only training reads.

    `moments` are (K, Q, D, type) of a model with memory: where nothing came before, they stand there hidden.
    """
    ids, mask = inputs.input_ids, inputs.attention_mask
    short = -ids.shape[1] % bucket
    filler = 0 if image_id else 1
    ids, mask = F.pad(ids, (short, 0), value=filler), F.pad(mask, (short, 0), value=False)
    known = None if inputs.layout is None else inputs.layout.embodiments
    past = inputs.past
    if past is None and moments is not None:
        *size, kind = moments
        values, valid = torch.zeros(len(ids), *size, dtype=kind), torch.zeros(len(ids), size[0], dtype=torch.bool)
        past = Moments(values=values, valid=valid)
    layout = _layout(ids, mask, image_id, known)
    return ModelInputs(
        images=inputs.images,
        input_ids=ids,
        attention_mask=mask,
        state=inputs.state,
        embodiment_id=inputs.embodiment_id,
        past=past,
        layout=layout,
    )


def _layout(ids: Tensor, mask: Tensor, image_id: int, embodiments: tuple[int, ...] | None) -> Layout:
    """As `Layout.of`; where prompts are padded, as wide as the bucket allows, so that only values differ."""
    natural = Layout.of(ids, mask, image_id, embodiments)
    if not natural.padded:
        return natural
    pictures = int(((ids == image_id) & mask).sum(1).min())
    text = places(mask & (ids != image_id), width=ids.shape[1] - pictures)
    every = places(mask, width=ids.shape[1])
    return replace(natural, text=text, every=every)
