"""Numbers of a training step beside its losses: routes, disagreement, rank, label accuracy, memory, pace."""

import resource
import time
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from svms_gr00t.core.types import ModelInputs
from svms_gr00t.model import Gr00tN1d6, ModelOutput
from svms_gr00t.svms import SheafStreams
from svms_gr00t.train.loop.run_dir import Row

GIB = 1 << 30


@torch.no_grad()
def stream_measures(model: Gr00tN1d6, output: ModelOutput, part: ModelInputs) -> Row:
    """Route shares, rho by edge, temperature and, with labels, balanced accuracy by stream; {} for the plain model."""
    states = output.states
    if states is None:
        return {}
    assert isinstance(model.svms, SheafStreams)
    graph = model.svms.graph
    valid = states.weights.sum(-1) > 0
    shares, rho = states.weights[valid].float().mean(0), states.rho[valid].float().mean(0)
    row: Row = {f"route.{name}": float(v) for name, v in zip(graph.streams, shares, strict=True)}
    row |= {f"rho.{name}": float(v) for name, v in zip(graph.edge_names, rho, strict=True)}
    row["temperature"] = float(model.svms.router.temperature)
    if part.labels is not None and part.label_mask is not None:
        said = states.aux_logits[part.label_mask.to(states.rho.device)] > 0
        true = part.labels[part.label_mask].to(said.device) > 0.5
        for i, name in enumerate(graph.streams[: true.shape[-1]]):
            score = balanced(said[:, i], true[:, i])
            if score is not None:
                row[f"accuracy.{name}"] = score
    return row


def peak_memory_gib(device: torch.device) -> float:
    """Largest memory so far: of torch on a GPU, of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


class Pace:
    """How fast steps go: samples a second, share of the time spent waiting for data, share of the device's arithmetic.

    The last one (model FLOPs utilisation) sets matrix products and attention, forward and backward, against what this
    device reaches in one large product. They are counted in the first step; a block that is computed again counts
    twice. Weights that processes share are not counted.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *, world: int = 1, counts: bool = True) -> None:
        self.device, self.dtype, self.world = device, dtype, world
        self._count = _Work() if counts else None
        self._counted_rows = 0

    def counting(self, rows: int) -> Any:
        """Context of a forward and backward over so many of this process's samples."""
        if self._count is None or self._counted_rows:
            return nullcontext()
        self._counted_rows = rows
        return self._count

    def of(self, rows: int, seconds: float, waited: float) -> Row:
        """What a step over `rows` of this process's samples says of itself."""
        row = {"seconds": seconds, "data_wait": waited / seconds, "samples_per_second": rows * self.world / seconds}
        if self._count is not None and self._counted_rows:
            flops = self._count.flops * rows / self._counted_rows
            row["mfu"] = flops / seconds / peak_flops(self.device, self.dtype)
        return row


class _Work(TorchDispatchMode):
    """Counts floating-point operations without changing what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        self.flops += formula(*args, **(kwargs or {}), out_val=out) if formula else 0
        return out


@cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second in the best of a few large matrix products."""
    side, source = 8192 if device.type == "cuda" else 512, torch.Generator(device).manual_seed(0)  # not the global one
    a, b = (torch.randn(side, side, device=device, dtype=dtype, generator=source) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def balanced(said: torch.Tensor, true: torch.Tensor) -> float | None:
    """Balanced accuracy; None where one of the two classes is absent."""
    if not true.any() or true.all():
        return None
    return float(((said & true).sum() / true.sum() + (~said & ~true).sum() / (~true).sum()) / 2)
