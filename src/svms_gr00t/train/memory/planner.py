"""How much memory a phase takes at the released size, before anything is loaded.

    peak = 1.03 (2 N_resident + k N_train + max(0, b a - d)) + 0.7 GiB    b samples of a micro-batch, T tokens a prompt

N are counted on the model itself, without storage; k is what the optimiser keeps for a trained weight beyond its bf16
copy, gradient included. Activations go as gradients come, so that d of them meet no gradient; but the gradients of
accumulated micro-batches stay, and meet the next one's activations and bf16 copies. An earlier step that memory keeps
adds 2.7 MiB a view; its features come from a cache. Saving adds nothing: gradients are gone by then, and tensors go to
the host one by one, so that the card holds less than in a step. The 3 % that the allocator loses between blocks and the
0.7 GiB of the CUDA context with its libraries are assumptions. a and d (MiB) were fitted to `simulate.step_bytes` at
the released size, a = a0 (1 + H) / 51 + a1 T; on a GPU they were not measured.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import torch

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.groot.embodiment import EmbodimentLinear
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.train.optimizers.optimizer import OptimizerName, master_dtype
from svms_gr00t.train.phases import Phase
from svms_gr00t.train.towers.blocks import blocks
from svms_gr00t.train.towers.placement import is_below

GIB, MIB = 1 << 30, 1 << 20
MOMENTS_OF_A_WEIGHT: dict[OptimizerName, float] = {
    "adamw": 8.0,
    "adamw8bit": 2.04,
    "adamw-sr": 8.0,
    "adamw8bit-sr": 2.04,
}
"""Bytes of both moments of a weight."""
BYTES_A_WEIGHT: dict[OptimizerName, float] = {"adamw": 14.0, "adamw8bit": 8.04, "adamw-sr": 10.0, "adamw8bit-sr": 4.04}
"""k: masters, moments and gradients of one trained weight."""
ACTIVATIONS = {"specialise": (54.2, 0.168, 0.0), "couple": (64.9, 0.184, 400.0), "end to end": (81.6, 0.709, 1200.0)}
"""(a0, a1, d) of each phase, MiB."""
RECOMPUTED = {"specialise": (9.1, 0.163, 0.0), "couple": (0.0, 0.196, 50.0), "end to end": (0.0, 0.242, 100.0)}
"""The same when blocks are computed again in the backward pass."""
MOMENTS = 2.7
"""MiB of activations of an earlier step, for each view: its moments train, its way through the backbone does not."""
FRAGMENTATION, CONTEXT_GIB = 1.03, 0.7
"""Assumptions, not measured: with expandable segments, which training asks for; CUDA 12 and cuBLAS on one stream."""
TOKENS_A_VIEW, TOKENS_OF_TEXT = 88, 28
"""81 tokens of a 252-pixel view with its marks, and a prompt around a sentence of kitchen language."""
CACHED_LAYERS = 12
"""Language layers that a feature cache replaces, with the vision tower and the embeddings."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What decides the memory of a phase besides the model."""

    batch_size: int
    """Samples of one optimiser step on this card."""
    views: int = 3
    optimizer: OptimizerName = "adamw"
    accumulation: int = 1
    """Micro-batches of a step."""
    checkpointing: bool = False
    """Compute blocks again in the backward pass."""
    cached: bool = False
    """Read hidden states of layer 12 from a feature cache."""
    shared: int = 1
    """Processes over which FSDP2 cuts the blocks."""
    ema: bool = False
    """Keep a moving average of what trains."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The memory of one phase."""

    phase: str
    setup: Setup
    trained: int
    """Parameters that train."""
    resident: int
    """Parameters on the card."""
    peak_gib: float
    """Of the card, at the worst moment of a step."""
    saving_gib: float
    """Of the card while a checkpoint is taken."""
    checkpoint_gib: float
    """Of the disk for one checkpoint, and of the host while it is written in the background."""


def plan(config: Gr00tN1d6Config, phase: Phase, setup: Setup) -> Plan:
    """The plan of one phase. Raises ConfigError for another size than the released one: the fit is for that."""
    _check_size(config)
    resident, trained = _counts(config, phase, setup)
    first, slope, apart = (RECOMPUTED if setup.checkpointing else ACTIVATIONS)[phase.name]
    tokens = TOKENS_OF_TEXT + TOKENS_A_VIEW * setup.views
    past = MOMENTS * setup.views * len(config.remembered)
    sample = MIB * (first * (1 + config.action_horizon) / 51 + slope * tokens + past)
    micro = -(-setup.batch_size // setup.accumulation)
    activations = max(0.0, micro * sample - apart * MIB)
    if setup.accumulation > 1:
        activations = micro * sample + (0 if setup.optimizer.endswith("-sr") else 2 * trained)
    stored, moments = master_dtype(setup.optimizer).itemsize, MOMENTS_OF_A_WEIGHT[setup.optimizer]
    average = stored * setup.ema
    held = 2 * resident + (BYTES_A_WEIGHT[setup.optimizer] + average) * trained
    whole = _counts(config, phase, replace(setup, shared=1))[1]
    return Plan(
        phase=phase.name,
        setup=setup,
        trained=trained,
        resident=resident,
        peak_gib=_on_card(held + activations),
        saving_gib=_on_card(held - stored * trained),  # a gradient is stored as its weight is
        checkpoint_gib=(stored + moments + average) * whole / GIB,
    )


def _on_card(size: float) -> float:
    """GiB that so many bytes of tensors take."""
    return FRAGMENTATION * size / GIB + CONTEXT_GIB


Planner = Callable[[Gr00tN1d6Config, Phase, Setup], Plan]
"""`plan`, or `simulate.exact_plan`."""


def switches(setup: Setup) -> Iterator[tuple[str, Setup]]:
    """Ways to need less, cheapest in speed and accuracy first, as flags and the setup they make."""
    eight, rounded = "--optimizer adamw8bit", "--optimizer adamw8bit-sr"
    if setup.optimizer == "adamw":
        yield eight, replace(setup, optimizer="adamw8bit")
    small = replace(setup, optimizer="adamw8bit-sr")
    yield rounded, small
    yield f"{rounded} --gradient-checkpointing", replace(small, checkpointing=True)
    parts = 2 * setup.accumulation
    while parts <= setup.batch_size:
        text = f"{rounded} --gradient-checkpointing --gradient-accumulation-steps {parts}"
        yield text, replace(small, checkpointing=True, accumulation=parts)
        parts *= 2


def cheapest(
    config: Gr00tN1d6Config, phase: Phase, setup: Setup, gpu_gib: float, *, planner: Planner = plan
) -> str | None:
    """Flags that make the phase fit: "" when it does already, None when nothing helps."""
    if planner(config, phase, setup).peak_gib <= gpu_gib:
        return ""
    for flags, other in switches(setup):
        if planner(config, phase, other).peak_gib <= gpu_gib:
            return flags
    return None


@cache
def _shapes(config_text: str) -> Gr00tN1d6:
    with torch.device("meta"):
        return Gr00tN1d6(Gr00tN1d6Config.from_dict(json.loads(config_text)))


def _counts(config: Gr00tN1d6Config, phase: Phase, setup: Setup) -> tuple[int, int]:
    """Parameters on a card, and those that train: one row of an embodiment bank, a part of shared blocks."""
    model = _shapes(config.dumps())
    cut = tuple(f"{name}." for name, _ in blocks(model))
    banks = {f"{name}.{part}" for name, m in model.named_modules() if isinstance(m, EmbodimentLinear) for part in "Wb"}
    resident = trained = 0
    for name, parameter in model.named_parameters():
        count = parameter.numel() // (config.max_num_embodiments if name in banks else 1)
        count = -(-count // setup.shared) if name.startswith(cut) else count
        if not (setup.cached and is_below(name, CACHED_LAYERS)):
            resident += count
        trained += count * phase.trains(name, config)
    return resident, trained


def _check_size(config: Gr00tN1d6Config) -> None:
    released = Gr00tN1d6Config()
    for name in ("backbone_embedding_dim", "input_embedding_dim", "hidden_size", "select_layer"):
        if getattr(config, name) != getattr(released, name):
            want = f"{getattr(released, name)}, the released size"
            raise ConfigError(name, got=getattr(config, name), want=want, hint="A smaller model needs no plan")


def usable(gpu_gb: float) -> float:
    """GiB that training may take of a card sold with `gpu_gb`: a 32 GB card shows 31.3 GiB, of which 29 are planned."""
    return 29.0 / 32.0 * gpu_gb
