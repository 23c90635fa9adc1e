"""How a policy samples: eagerly, or from one captured graph for each form of a batch.

    sample(inputs, noise):  static buffers <- inputs, noise;  replay;  the graph's outputs

A graph replays kernels, not Python: it would not see a hook, nor weights that moved elsewhere. While the device is at
work both are looked at; then the graphs are forgotten and the batch acts eagerly. Weights that change where they are
also make the remembered schedule wrong, so they count too.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from svms_gr00t.core.types import Earlier, ModelInputs
from svms_gr00t.fast.compiled import compile_blocks, tolerant
from svms_gr00t.fast.forms import fit, flat
from svms_gr00t.fast.joined import Weights, join, joined
from svms_gr00t.model import Gr00tN1d6, SampleOutput

log = logging.getLogger(__name__)
BUCKET = 16
"""Tokens; a prompt is filled up to a multiple of it. 16 hold about a dozen words."""
MOST_GRAPHS = 16
"""Kept at once; each holds its inputs, its intermediate results and its outputs."""
T = TypeVar("T")


@runtime_checkable
class Sampler(Protocol):
    """What a policy asks for chunks. Inputs and noise come from the host; what is remembered is on the device."""

    def sample(self, inputs: ModelInputs, noise: Float[Tensor, "B H Da"]) -> SampleOutput:
        """Chunks with their evidence, on the device, valid until the next call."""
        ...


@runtime_checkable
class Capture(Protocol):
    """Makes graphs. Raises RuntimeError for what cannot be captured."""

    def __call__(self, run: Callable[[], T]) -> tuple[Callable[[], object], T]:
        """A function that repeats the kernels of `run`, and the result whose tensors it fills each time."""
        ...


class Eager:
    """One launch after another; `compiled` blocks that do not compile run as they are."""

    def __init__(self, model: Gr00tN1d6, device: torch.device | str, *, compiled: bool = False) -> None:
        self.model, self.device = model, device
        if compiled:
            compile_blocks(model)

    def sample(self, inputs: ModelInputs, noise: Float[Tensor, "B H Da"]) -> SampleOutput:
        return tolerant(self.model, lambda: self.model.sample(inputs.to(self.device), noise=noise.to(self.device)))


class CudaGraphs:
    """CUDA's own graphs, which share the memory of their intermediate results: they replay one at a time."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.pool = device, torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], T]) -> tuple[Callable[[], object], T]:
        with torch.cuda.device(self.device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):  # libraries choose and load their kernels, compilers compile
                    run()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # Other threads of a server may touch the device meanwhile.
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                said = run()
        return graph.replay, said


@dataclass(frozen=True)
class Graph:
    """One captured action."""

    buffers: list[Tensor]
    """What inputs are copied into."""
    replay: Callable[[], object]
    said: SampleOutput
    """What a replay fills."""
    alive: object
    """What the kernels read besides weights: it may not be freed."""


class Captured:
    """A graph for each form; `eager` acts for what has none."""

    def __init__(self, eager: Eager, capture: Capture, *, bucket: int = BUCKET) -> None:
        self.eager, self.capture, self.bucket = eager, capture, bucket
        self.graphs: OrderedDict[Hashable, Graph | None] = OrderedDict()
        self._modules = list(eager.model.modules())
        self._weights = [*eager.model.parameters(), *eager.model.buffers()]
        self._stand, self._said = self._look(), ""
        self._joined: Weights = []

    @torch.no_grad()
    def sample(self, inputs: ModelInputs, noise: Float[Tensor, "B H Da"]) -> SampleOutput:
        if isinstance(inputs.past, Earlier) or inputs.hidden is not None or inputs.layout is None:
            return self.eager.sample(inputs, noise)  # recorded episodes and caches: no robot waits for them
        fitted = fit(inputs, self.eager.model.config.image_token_index, self.bucket, self._moments())
        tensors, form = flat((fitted, noise))
        if form not in self.graphs and self._untouched():
            self._add(form, fitted, noise)
        graph = self.graphs.get(form)
        if graph is None:
            return self.eager.sample(inputs, noise)
        self.graphs.move_to_end(form)
        for buffer, value in zip(graph.buffers, tensors, strict=True):
            buffer.copy_(value, non_blocking=True)
        graph.replay()
        if not self._untouched():
            return self.eager.sample(inputs, noise)
        return last_tokens(graph.said, inputs.input_ids.shape[1])

    def _add(self, form: Hashable, inputs: ModelInputs, noise: Tensor) -> None:
        """Capture a form; one that cannot be captured is remembered as such."""
        model, device = self.eager.model, self.eager.device

        def copied(value: Tensor) -> Tensor:
            return value.to(device, copy=True)

        static, start = inputs.map(copied), copied(noise)
        self._joined = self._joined or join(model)
        graph, rows = None, f"{len(noise)} rows of {inputs.input_ids.shape[1]} tokens, {len(inputs.images)} pictures"
        try:
            with joined(model, self._joined):
                replay, said = self.capture(lambda: tolerant(model, lambda: model.sample(static, noise=start)))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            log.warning("fast: %s cannot be captured (%s); they act eagerly", rows, reason)
        else:
            buffers, _ = flat((static, start))
            alive = model.action_head.remembered, self._joined
            graph = Graph(buffers=buffers, replay=replay, said=said, alive=alive)
            log.info("fast: captured %s", rows)
        self.graphs[form] = graph
        while len(self.graphs) > MOST_GRAPHS:
            self.graphs.popitem(last=False)

    def _moments(self) -> tuple[int, int, int, torch.dtype] | None:
        model = self.eager.model
        if model.svms is None or model.svms.memory is None:
            return None
        size = model.svms.memory.size
        return size.steps, size.block, size.d_stream, model.svms.memory.queries.dtype

    def _look(self) -> tuple[tuple[int, int], ...]:
        """Where every weight is, and how often it was changed there."""
        return tuple((one.data_ptr(), 0 if one.is_inference() else one._version) for one in self._weights)

    def _untouched(self) -> bool:
        """Whether graphs may speak for the model; where its weights changed they are forgotten."""
        if any(module._forward_hooks or module._forward_pre_hooks for module in self._modules):
            self._say("fast: something listens inside the model (a forward hook); acting eagerly while it does")
            return False
        stand = self._look()
        if stand == self._stand:
            self._said = ""
            return True
        self.graphs.clear()
        self._joined.clear()
        self._stand = stand
        self._say("fast: the weights have changed; acting eagerly once, then capturing anew")
        return False

    def _say(self, line: str) -> None:
        """Once, not at every call."""
        if line != self._said:
            log.warning(line)
        self._said = line


def last_tokens(said: SampleOutput, length: int) -> SampleOutput:
    """Without the padding that a bucket put in front of the last `length` tokens."""
    if said.features.mask.shape[1] == length:
        return said

    def cut(record: T, *names: str) -> T:
        return replace(record, **{name: getattr(record, name)[:, -length:] for name in names})  # type: ignore[type-var]

    states, recalled = said.states, said.features.recalled
    recalled = None if recalled is None else cut(recalled, "streams")
    if states is not None:
        states = replace(cut(states, "tokens", "streams", "weights", "rho", "aux_logits"), recalled=recalled)
    seen, features = (
        replace(cut(one, "tokens", "mask", "image_mask"), layout=None) for one in (said.seen, said.features)
    )
    return replace(said, seen=seen, features=replace(features, recalled=recalled), states=states)


def sampler(model: Gr00tN1d6, device: torch.device | str, *, fast: bool = False, compiled: bool = False) -> Sampler:
    """`Captured` on a CUDA device; elsewhere `Eager`, which the log says."""
    eager, place = Eager(model, device, compiled=compiled), torch.device(device)
    if not fast:
        return eager
    if place.type != "cuda":
        log.warning("fast: only CUDA captures graphs and this policy is on %s: acting eagerly, the same chunks", place)
        return eager
    return Captured(eager, CudaGraphs(place))
