"""What a monitor reads of a policy: the image tokens of its frozen backbone, and the name of what made them.

Axes: B observations, T tokens, P image tokens, M model width.

The name covers the backbone's weights and how pictures are prepared, nothing above: a policy that was fine-tuned with
the backbone frozen, plain or with SVMS, may use the monitor of its base.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.types import Features
from svms_gr00t.policy import Policy

_NUMBERS = 4096
"""Of each tensor; training changes them all."""


def what_is_read(policy: Policy) -> str:
    """ "reads:..." of the backbone and of the preparation of pictures. Independent of the type of the weights."""
    digest, config = hashlib.sha256(), policy.processor.config
    for name, values in sorted(policy.model.backbone.state_dict().items()):
        flat = values.detach().reshape(-1)
        some = flat[:: max(1, len(flat) // _NUMBERS)].to("cpu", torch.bfloat16)
        digest.update(f"{name} {tuple(values.shape)}\0".encode() + some.view(torch.int16).numpy().tobytes())
    images, video = config.images, config.embodiment.video
    made = [config.embodiment_tag, video.modality_keys, video.delta_indices, config.formalize_language]
    digest.update(json.dumps([*made, images.short_side, images.crop_fraction, images.target]).encode())
    return f"reads:{digest.hexdigest()[:32]}"


def image_tokens(features: Features) -> Float[Tensor, "B P M"]:
    """The pictures' tokens of every row. Raises DataError when rows hold different numbers of them."""
    counts = features.image_mask.sum(1)
    if len(features.tokens) and int(counts.min()) != int(counts.max()):
        got, hint = f"{int(counts.min())} to {int(counts.max())} image tokens", "Give all cameras one size"
        raise DataError("monitor", got=got, want="one number for all observations", hint=hint)
    rows = features.tokens[features.image_mask]
    return rows.reshape(len(features.tokens), -1, features.tokens.shape[-1])


@contextmanager
def overheard(policy: Policy) -> Iterator[list[Features]]:
    """Within it, what the backbone says is kept, call by call; nobody else notices."""
    heard: list[Features] = []
    handle = policy.model.backbone.register_forward_hook(lambda _module, _inputs, said: heard.append(said))
    try:
        yield heard
    finally:
        handle.remove()
