"""Every repeated block compiled by itself: one compilation serves all blocks of a kind."""

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

from torch import nn

from svms_gr00t.model import Gr00tN1d6

log = logging.getLogger(__name__)
T = TypeVar("T")


def blocks(model: Gr00tN1d6) -> Iterator[nn.Module]:
    """The blocks of the three towers, and SVMS."""
    tower = model.backbone.model
    yield from tower.vision_model.vision_model.encoder.layers
    yield from tower.language_model.model.layers
    yield from model.action_head.model.transformer_blocks
    if model.svms is not None:
        yield model.svms


def compile_blocks(model: Gr00tN1d6) -> None:
    """Compile each at its first call for every new form of its inputs."""
    for block in blocks(model):
        block.compile(dynamic=False)


def tolerant(model: Gr00tN1d6, run: Callable[[], T]) -> T:
    """What `run` returns; where a block does not compile, all run as they are from then on."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        return run()
    except TorchDynamoException as error:
        log.warning("compile: %s; acting without", " ".join(str(error).split("\n")[:2]))
        for block in blocks(model):
            block._compiled_call_impl = None
        return run()
