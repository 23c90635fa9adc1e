"""A batch of the right shapes with random numbers, for measuring: no dataset, no tokenizer.

Axes: B batch, T tokens, H horizon, M width. A row is image tokens, one for each 28 x 28 pixels, and then words.
"""

import torch

from svms_gr00t.core.svms_config import GROUNDED
from svms_gr00t.core.types import ModelInputs
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
    seed: int = 0,
) -> ModelInputs:
    """Random images, words, labels and actions; with `cached_layer` hidden states of that layer instead of images."""
    source = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=source)

    images = views * (side // 28) ** 2
    image = config.image_token_index
    words = torch.randint(0, min(config.text_config.vocab_size, image), (rows, text), generator=source)
    ids = torch.cat([torch.full((rows, images), image), words], dim=1)
    cached = cached_layer is not None
    labels = (torch.rand(rows, images + text, min(3, config.n_streams), generator=source) < 0.2).float()
    return ModelInputs(
        images=() if cached else tuple(normal(3, side, side).clamp(-1, 1) for _ in range(rows * views)),
        input_ids=ids,
        attention_mask=torch.ones_like(ids, dtype=torch.bool),
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
    )
