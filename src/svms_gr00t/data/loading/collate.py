"""Samples to one batch: prompts are padded on the left, images follow one another in order of appearance.
What the host knows of the tokens' places goes along as a layout, so that the model reads nothing back.

Axes: B batch, T tokens of the longest prompt, S labels, K past steps. Source: processor of GR00T N1.6.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.types import Earlier, Layout, ModelInputs, Pictures
from svms_gr00t.data.processor.processor import Sample


def collate(samples: Sequence[Sample], label_weight: Float[Tensor, " S"] | None = None) -> ModelInputs:
    """The model's input. Raises DataError for no samples, or when only some have actions, labels or states."""
    if not samples:
        raise DataError("batch", got="no samples", want="at least one", hint="Check the sampler")
    width = max(len(sample.input_ids) for sample in samples)
    first = samples[0]
    actions, labels, cached = _all("action", samples), _all("labels", samples), _all("hidden", samples)
    aimed = _all("targets", samples)
    ids = torch.stack([_left(sample.input_ids, width, first.pad_id) for sample in samples])
    mask = torch.stack([_left(torch.ones_like(s.input_ids, dtype=torch.bool), width) for s in samples])
    return ModelInputs(
        images=Pictures.joined([sample.images for sample in samples]),
        input_ids=ids,
        attention_mask=mask,
        state=torch.stack([sample.state for sample in samples]),
        embodiment_id=torch.tensor([sample.embodiment_id for sample in samples]),
        action=torch.stack([s.action for s in samples if s.action is not None]) if actions else None,
        action_mask=torch.stack([s.action_mask for s in samples if s.action_mask is not None]) if actions else None,
        labels=torch.stack([_left(s.labels, width) for s in samples if s.labels is not None]) if labels else None,
        label_mask=(
            torch.stack([_left(s.label_mask, width) for s in samples if s.label_mask is not None]) if labels else None
        ),
        label_weight=label_weight if labels else None,
        hidden=torch.stack([_left(s.hidden, width) for s in samples if s.hidden is not None]) if cached else None,
        hidden_layer=first.hidden_layer,
        targets=torch.stack([s.targets for s in samples if s.targets is not None]) if aimed else None,
        past=_earlier(samples),
        layout=Layout.of(ids, mask, first.image_id, tuple(sample.embodiment_id for sample in samples)),
    )


def _earlier(samples: Sequence[Sample]) -> Earlier | None:
    """The earlier steps of all samples, each object once. Where nobody has any, one stands there that nobody reads."""
    sizes = {len(sample.earlier) for sample in samples}
    if len(sizes) > 1:
        hint = "Encode every sample of a batch with the same memory"
        raise DataError("batch", got=f"samples with {sorted(sizes)} earlier steps", want="as many in each", hint=hint)
    if sizes == {0}:
        return None
    valid = torch.tensor([[step is not None for step in sample.earlier] for sample in samples])
    seen = {id(step): step for sample in samples for step in sample.earlier if step is not None}
    number = {one: i for i, one in enumerate(seen)}
    place = torch.tensor([[number.get(id(step), 0) for step in sample.earlier] for sample in samples])
    return Earlier(steps=collate(list(seen.values()) or [_bare(samples[0])]), place=place, valid=valid)


def _bare(sample: Sample) -> Sample:
    return replace(sample, action=None, action_mask=None, labels=None, label_mask=None, targets=None, earlier=())


def _all(name: str, samples: Sequence[Sample]) -> bool:
    present = [getattr(sample, name) is not None for sample in samples]
    if any(present) and not all(present):
        got = f"{sum(present)} of {len(samples)} samples with {name}"
        raise DataError("batch", got=got, want="all or none", hint="Encode every sample of a batch alike")
    return all(present)


def _left(row: Shaped[Tensor, "t *rest"], width: int, fill: int = 0) -> Shaped[Tensor, "T *rest"]:
    if len(row) == width:
        return row
    padding = row.new_full((width - len(row), *row.shape[1:]), fill)
    return torch.cat([padding, row])
