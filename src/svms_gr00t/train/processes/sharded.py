"""Processes that train together under FSDP2: `accelerate launch --use_fsdp --fsdp_version 2`."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from torch import Tensor, nn

from svms_gr00t.train.processes import sharding
from svms_gr00t.train.processes.cluster import Accelerated


class Sharded(Accelerated):
    """Data-parallel processes that share the weights and moments of the model's blocks (FSDP2)."""

    sharded = True

    def begin(self, model: nn.Module, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
        self.place(model)
        self._twins = sharding.shard(model)
        stored = dict(model.named_parameters())
        return {name: stored[name] for name in parameters}

    def end(self, model: nn.Module) -> None:
        sharding.unshard(model, self._twins)

    def whole(self, value: Tensor) -> Tensor:
        return sharding.whole(value)

    def like(self, target: Tensor, value: Tensor) -> Tensor:
        return sharding.like(target, value)

    def clip(self, parameters: Mapping[str, nn.Parameter], limit: float) -> float:
        sharding.add_up(parameters, self.world)
        return sharding.clip(parameters, limit)

    def wrap(self, model: nn.Module) -> nn.Module:
        return sharding.root(model)

    def backward(self, loss: Tensor) -> None:
        (loss * self.world).backward()

    def syncing(self, _module: nn.Module, _last: bool) -> Any:
        return nullcontext()
