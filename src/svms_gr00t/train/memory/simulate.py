"""The memory of a training step, byte by byte, from the real modules without their storage (fake tensors).

Every storage that an operation makes is counted while it lives; optimiser moments are added as bytes. Integers and
masks stay real, because the model reads them to choose shapes. Needs no GPU and seconds at the released size.
"""

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from svms_gr00t.core.types import Earlier, ModelInputs
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.train.loop.shares import Draws
from svms_gr00t.train.loop.step import Objective, Precision, arithmetic
from svms_gr00t.train.memory.planner import (
    CACHED_LAYERS,
    CONTEXT_GIB,
    FRAGMENTATION,
    GIB,
    MOMENTS_OF_A_WEIGHT,
    TOKENS_A_VIEW,
    TOKENS_OF_TEXT,
    Plan,
    Setup,
    plan,
)
from svms_gr00t.train.memory.synthetic import synthetic_inputs
from svms_gr00t.train.optimizers.optimizer import OptimizerName, master_dtype
from svms_gr00t.train.phases import Phase, loss_weights
from svms_gr00t.train.towers.placement import is_below
from svms_gr00t.train.towers.recompute import recompute_blocks
from svms_gr00t.train.trainable import prepare

IMAGE_TOKENS = 81
"""Of a view of 252 x 252 pixels."""
SCRATCH: dict[OptimizerName, float] = {"adamw": 0.0, "adamw8bit": 8.0, "adamw-sr": 20.0, "adamw8bit-sr": 12.0}
"""Bytes a weight of the largest tensor while it is updated; the fused kernel needs none."""


class Ledger(TorchDispatchMode):
    """Bytes of fake storages alive, now and at most; operations on real tensors alone run for real."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs))):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        out = func(*args, **kwargs)
        for leaf in tree_leaves(out):
            if isinstance(leaf, FakeTensor):
                self.count(leaf)
        return out

    def count(self, tensor: Tensor) -> None:
        """Take a storage into account until it is freed."""
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, size)

    def _drop(self, size: int) -> None:
        self.now -= size


@contextmanager
def cuda_rules() -> Iterator[None]:
    """On a GPU autocast computes layer norms in float32; on a CPU, where the simulation runs, it does not."""
    plain = F.layer_norm

    def promoted(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return plain(x.float(), *args, **kwargs)

    F.layer_norm = promoted  # type: ignore[assignment]
    try:
        yield
    finally:
        F.layer_norm = plain


def exact_plan(config: Gr00tN1d6Config, phase: Phase, setup: Setup) -> Plan:
    """The plan of one phase from a simulated step at the released picture size."""
    inputs = synthetic_inputs(
        config,
        -(-setup.batch_size // setup.accumulation),
        views=setup.views,
        text=TOKENS_OF_TEXT + TOKENS_A_VIEW * setup.views - IMAGE_TOKENS * setup.views,
        cached_layer=CACHED_LAYERS if setup.cached or config.remembered else None,
        memory=len(config.remembered),
    )
    used = step_bytes(
        config,
        phase,
        inputs,
        optimizer=setup.optimizer,
        micro_batches=setup.accumulation,
        checkpointing=setup.checkpointing,
        below=CACHED_LAYERS if setup.cached else None,
    )
    formula = plan(config, phase, setup)
    used += formula.trained * master_dtype(setup.optimizer).itemsize * setup.ema
    return replace(formula, peak_gib=FRAGMENTATION * used / GIB + CONTEXT_GIB)


def step_bytes(
    config: Gr00tN1d6Config,
    phase: Phase,
    inputs: ModelInputs,
    *,
    optimizer: OptimizerName = "adamw",
    precision: Precision = "bf16",
    micro_batches: int = 1,
    checkpointing: bool = False,
    cuda: bool = True,
    below: int | None = None,
) -> int:
    """Largest number of bytes alive in a training step on micro-batches of `inputs`.

    Parameters below language layer `below` are not on the card; of an embodiment bank one row is.
    """
    model = _without_storage(config, torch.bfloat16 if precision == "bf16" else torch.float32)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        model.to_empty(device="cpu")
        parameters = prepare(model, phase, optimizer)
        if checkpointing:
            recompute_blocks(model)
        batch = _fake_floats(inputs, fake)
    fixed = [
        t for n, t in (*model.named_parameters(), *model.named_buffers()) if below is None or not is_below(n, below)
    ]
    trained = sum(p.numel() for p in parameters.values())
    resident = sum(t.numel() * t.element_size() for t in fixed) + int(MOMENTS_OF_A_WEIGHT[optimizer] * trained)
    ledger = Ledger()
    for parameter in model.parameters():
        ledger._known.add(parameter.untyped_storage())
    targets = model.target_heads is not None
    weights = loss_weights(phase, config, 10**9, config.lambda_sheaf_max, labels=True, targets=targets)
    with fake, ledger:
        for one in (batch, *((batch.past.steps,) if isinstance(batch.past, Earlier) else ())):
            for tensor in tree_leaves([getattr(one, name) for name in one.__dataclass_fields__]):
                if isinstance(tensor, FakeTensor):
                    ledger.count(tensor)
        apart: list[Tensor] = []
        for _ in range(min(2, micro_batches)):
            apart = _once(model, batch, weights, precision, cuda)
            gc.collect()
    largest = max(p.numel() for p in parameters.values())
    grads = sum(p.numel() * p.element_size() for p in parameters.values())
    grads += sum(gradient.nbytes for gradient in apart)
    updating = grads + int(SCRATCH[optimizer] * largest)
    return resident + max(ledger.peak, updating)


def _once(
    model: Gr00tN1d6, batch: ModelInputs, weights: dict[str, float], precision: Precision, cuda: bool
) -> list[Tensor]:
    """One micro-batch; returns the gradient of grounded targets, which training keeps apart."""
    assert batch.action is not None
    objective, own = Objective(model), [p for p in model.parameters() if p.requires_grad]
    noise, time = torch.randn_like(batch.action), torch.rand_like(batch.action[:, 0, 0])
    with cuda_rules() if cuda and precision == "bf16" else nullcontext():
        with arithmetic(torch.device("cpu"), precision):
            loss = objective(batch, Draws(noise=noise, time=time), weights)
        apart: tuple[Tensor | None, ...] = ()
        if objective.apart is not None:
            apart = torch.autograd.grad(objective.apart, own, retain_graph=True, allow_unused=True)
        loss.backward()
    return [gradient for gradient in apart if gradient is not None]


def _without_storage(config: Gr00tN1d6Config, dtype: torch.dtype) -> Gr00tN1d6:
    """The model on the meta device, with one row of each embodiment bank."""
    with torch.device("meta"):
        model = Gr00tN1d6(config).to(dtype)
    model.action_head.kept = (0,)
    for bank in model.action_head.banks():  # as keep_embodiments does, without the copy of the other rows
        bank.kept = (0,)
        bank.W, bank.b = nn.Parameter(bank.W[:1].clone()), nn.Parameter(bank.b[:1].clone())
    return model


def _fake_floats(inputs: ModelInputs, fake: FakeTensorMode) -> ModelInputs:
    """Pictures, actions and labels without storage; ids and masks as they are."""

    def turned(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(turned(v) for v in value)
        if isinstance(value, Earlier):
            return replace(value, steps=_fake_floats(value.steps, fake))
        return fake.from_tensor(value) if isinstance(value, Tensor) and value.is_floating_point() else value

    return replace(inputs, **{name: turned(getattr(inputs, name)) for name in inputs.__dataclass_fields__})
