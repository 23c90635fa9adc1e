"""What a feature cache replaces stays off the device: everything below the language layer where the cache cuts."""

import torch
from torch import nn

_LANGUAGE = "backbone.model.language_model.model."
_LAYERS = f"{_LANGUAGE}layers."
_ABOVE = (f"{_LANGUAGE}norm.", f"{_LANGUAGE}rotary_emb.")


def is_below(name: str, layer: int) -> bool:
    """Whether a parameter or buffer belongs to what runs before the hidden states after `layer`."""
    if name.startswith(_LAYERS):
        return int(name.removeprefix(_LAYERS).split(".")[0]) < layer
    return name.startswith("backbone.") and not name.startswith(_ABOVE)


def place(model: nn.Module, device: torch.device, below: int | None = None) -> None:
    """Move a model to a device, leaving what lies below layer `below` where it is (None moves everything)."""
    if below is None:
        model.to(device)
    else:
        _move(model, "", device, below)


def _move(module: nn.Module, prefix: str, device: torch.device, below: int) -> None:
    """Move the largest submodules that lie wholly above `below`."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    stays = [is_below(prefix + name, below) for name, _ in tensors]
    if not any(stays):
        module.to(device)
    elif not all(stays):
        for name, child in module.named_children():
            _move(child, f"{prefix}{name}.", device, below)
