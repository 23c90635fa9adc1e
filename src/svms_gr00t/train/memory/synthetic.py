"""A batch of the right shapes with random numbers, for measuring: no dataset, no tokenizer.

Axes: B batch, T tokens, H horizon, M width. A row is image tokens, one for each 28 x 28 pixels, and then words.
"""

from dataclasses import replace

import torch

from svms_gr00t.core.svms_config import GROUNDED
from svms_gr00t.core.types import Earlier, Layout, ModelInputs, Pictures
from svms_gr00t.groot.config import Gr00tN1d6Config

SIDE, TEXT = 252, 49
"""Pixels of a view after N1.6's resize; words and marks of a prompt of three views."""


def synthetic_inputs(
    config: Gr00tN1d6Config,
    rows: int,
    *,
    views: int = 3,
    side: int = SIDE,
    text: int = TEXT,
    embodiment: int = 0,
    cached_layer: int | None = None,
    memory: int = 0,
    seed: int = 0,
) -> ModelInputs:
    """Random images, words, labels and actions; with `cached_layer` hidden states of that layer instead of images.

    With `memory` every row has so many earlier steps, of the same form.
    """
    source = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=source)

    images = views * (side // 28) ** 2
    image = config.image_token_index
    words = torch.randint(0, min(config.text_config.vocab_size, image), (rows, text), generator=source)
    ids = torch.cat([torch.full((rows, images), image), words], dim=1)
    cached = cached_layer is not None
    labels = (torch.rand(rows, images + text, min(3, config.n_streams), generator=source) < 0.2).float()
    mask = torch.ones_like(ids, dtype=torch.bool)
    return ModelInputs(
        images=Pictures.joined(()) if cached else _pictures(rows * views, side, source),
        input_ids=ids,
        attention_mask=mask,
        state=normal(rows, 1, config.max_state_dim),
        embodiment_id=torch.full((rows,), embodiment),
        action=normal(rows, config.action_horizon, config.max_action_dim),
        action_mask=torch.ones(rows, config.action_horizon, config.max_action_dim),
        labels=labels,
        label_mask=ids != image,
        label_weight=torch.ones(labels.shape[-1]),
        hidden=normal(rows, ids.shape[1], config.backbone_embedding_dim) if cached else None,
        hidden_layer=cached_layer or 0,
        targets=normal(rows, sum(GROUNDED.values())) if config.grounded_targets else None,
        past=_earlier(config, rows, memory, views, side, text, cached_layer) if memory else None,
        layout=Layout.of(ids, mask, image, (embodiment,) * rows),
    )


def _pictures(count: int, side: int, source: torch.Generator) -> Pictures:
    pixels = torch.randint(0, 256, (count * side * side * 3,), dtype=torch.uint8, generator=source)
    return Pictures(pixels=pixels, sizes=((side, side),) * count)


def _earlier(
    config: Gr00tN1d6Config, rows: int, memory: int, views: int, side: int, text: int, cached_layer: int | None
) -> Earlier:
    inputs = synthetic_inputs(config, rows * memory, views=views, side=side, text=text, cached_layer=cached_layer)
    bare = replace(inputs, action=None, action_mask=None, labels=None, label_mask=None, label_weight=None, targets=None)
    place = torch.arange(rows * memory).view(rows, memory)
    return Earlier(steps=bare, place=place, valid=torch.ones_like(place, dtype=torch.bool))
