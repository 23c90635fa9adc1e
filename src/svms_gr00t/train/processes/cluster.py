"""The processes that train together: one alone, or several under `accelerate launch` (DDP, or FSDP2)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from svms_gr00t.train.towers.placement import place


class Cluster:
    """One process on one device; `Accelerated` is the same interface for many."""

    rank = 0
    world = 1
    sharded = False
    """Whether processes share weights, so that only all together can read a whole one."""

    @property
    def collects(self) -> bool:
        """Whether this process takes part when what is saved is put together."""
        return self.rank == 0 or self.sharded

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.below: int | None = None
        """Language layer of a feature cache: what runs before it stays off the device."""

    def place(self, model: nn.Module) -> None:
        """Move what training needs to this process's device."""
        place(model, self.device, self.below)

    def begin(self, model: nn.Module, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
        """Before a phase: place its model; returns the parameters that train, as they are stored here."""
        self.place(model)
        return parameters

    def end(self, model: nn.Module) -> None:
        """After a phase: every process has the whole model again."""

    def whole(self, value: Tensor) -> Tensor:
        """All of a weight or moment, on every process."""
        return value

    def like(self, _target: Tensor, value: Tensor) -> Tensor:
        """A whole tensor stored as `target` is."""
        return value

    def clip(self, parameters: Mapping[str, nn.Parameter], limit: float) -> float:
        """Scale the global gradient to norm `limit` at most; the norm before."""
        return float(nn.utils.clip_grad_norm_(parameters.values(), limit))

    def wrap(self, model: nn.Module) -> nn.Module:
        """The module to call in training."""
        return model

    def backward(self, loss: Tensor) -> None:
        """Add this part's gradient."""
        loss.backward()

    def sum(self, value: Tensor) -> Tensor:
        """The sum over processes, on every process."""
        return value

    def syncing(self, _module: nn.Module, _last: bool) -> Any:
        """Context of one micro-batch: gradients are exchanged after the last alone."""
        return nullcontext()

    @contextmanager
    def main_first(self) -> Iterator[bool]:
        """True on the process that writes files; the others wait until it has."""
        yield True


class Accelerated(Cluster):
    """Data-parallel processes through accelerate. A loss is scaled so that the exchanged gradients are its sum."""

    def __init__(self) -> None:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin

        # A term of weight 0 (a warm-up's first step, a batch without labels) leaves its parameters unused.
        handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
        # What is given here holds against `accelerate launch`: it would cast the forward pass to its own precision,
        # divide every loss by its own accumulation and compile. Casting and cutting batches are the loop's business.
        once = GradientAccumulationPlugin(num_steps=1)
        self._accelerator = Accelerator(
            mixed_precision="no", dynamo_backend="no", gradient_accumulation_plugin=once, kwargs_handlers=handlers
        )
        super().__init__(self._accelerator.device)
        self.rank, self.world = self._accelerator.process_index, self._accelerator.num_processes

    def wrap(self, model: nn.Module) -> nn.Module:
        return self._accelerator.prepare_model(model)

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss * self.world)

    def sum(self, value: Tensor) -> Tensor:
        total = self._accelerator.reduce(value.to(self.device), reduction="sum")
        assert isinstance(total, Tensor)
        return total.to(value.device)

    def syncing(self, module: nn.Module, last: bool) -> Any:
        return nullcontext() if last else self._accelerator.no_sync(module)

    @contextmanager
    def main_first(self) -> Iterator[bool]:
        try:
            yield self._accelerator.is_main_process
        finally:
            self._accelerator.wait_for_everyone()
