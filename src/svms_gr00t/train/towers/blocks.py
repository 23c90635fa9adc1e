"""Blocks of the three towers by name: what is computed again, cut over processes, and counted in a plan."""

from collections.abc import Iterator, Sequence

from torch import nn

DIT = "action_head.model.transformer_blocks."
LANGUAGE = "backbone.model.language_model.model.layers."
VISION = "backbone.model.vision_model.vision_model.encoder.layers."


def blocks(model: nn.Module, towers: Sequence[str] = (DIT, LANGUAGE, VISION)) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every block of `towers`."""
    for name, module in model.named_modules():
        if any(name.startswith(tower) and name.removeprefix(tower).isdigit() for tower in towers):
            yield name, module
