"""Optimisers for what trains, by name, and their state as plain tensors.

    adamw        fp32 masters, fp32 moments, fused                      14 bytes a parameter beyond the bf16 weight
    adamw8bit    fp32 masters, moments in 8 bits (torchao)               8
    adamw-sr     bf16 weights with stochastic rounding, fp32 moments    10
    adamw8bit-sr bf16 weights with stochastic rounding, 8-bit moments    4   (torchao)

Plain AdamW on bf16 weights is refused: at a learning rate of 1e-5 most updates are smaller than half a bf16 step and
round away. Stochastic rounding keeps them on average.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from svms_gr00t.core.errors import MissingExtra, TrainingError
from svms_gr00t.train.optimizers.stochastic import StochasticAdamW

OptimizerName = Literal["adamw", "adamw8bit", "adamw-sr", "adamw8bit-sr"]
WEIGHT_DECAY = 1e-5
KINDS = (
    *(f"{m}.{part}" for m in ("exp_avg", "exp_avg_sq") for part in ("codes", "scale")),
    "exp_avg",
    "exp_avg_sq",
    "step",
)
"""Kinds of `optimizer_tensors`."""
HALF = (torch.bfloat16, torch.float16)


def master_dtype(name: OptimizerName) -> torch.dtype:
    """What the trained weights must be stored in."""
    return torch.bfloat16 if name.endswith("-sr") else torch.float32


def make_optimizer(
    parameters: Mapping[str, nn.Parameter],
    *,
    learning_rate: float,
    name: OptimizerName = "adamw",
    svms_rate: float = 1.0,
) -> torch.optim.Optimizer:
    """The optimiser; biases and norms decay as little as the rest, as in N1.6.

    SVMS learns at `svms_rate` times the rate.

    Raises TrainingError when the weights have the wrong dtype for it, MissingExtra without torchao for 8 bits.
    """
    want = master_dtype(name)
    if odd := [key for key, p in parameters.items() if p.dtype != want]:
        got = f"{odd[0]} is {'half precision' if parameters[odd[0]].dtype in HALF else parameters[odd[0]].dtype}"
        hint = "Load what trains in float32, or choose adamw-sr for bf16 weights"
        raise TrainingError("optimiser", got=got, want=f"{want} weights for {name}", hint=hint)
    values = _groups(parameters, learning_rate, svms_rate)
    if name == "adamw":
        return torch.optim.AdamW(values, lr=learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    if name == "adamw-sr":
        return StochasticAdamW(values, lr=learning_rate, weight_decay=WEIGHT_DECAY)
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise MissingExtra("8-bit moments", package="torchao", extra="lowbit") from error
    rounding = name == "adamw8bit-sr"
    return AdamW8bit(values, lr=learning_rate, weight_decay=WEIGHT_DECAY, bf16_stochastic_round=rounding)


def _groups(parameters: Mapping[str, nn.Parameter], learning_rate: float, svms_rate: float) -> list[dict[str, Any]]:
    """One group; SVMS apart where its rate differs, and whole tensors apart from those cut over processes."""
    groups: dict[tuple[float, type], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        scale = svms_rate if name.startswith(("svms.", "targets.")) else 1.0
        groups.setdefault((scale, type(parameter)), []).append(parameter)
    return [{"params": own, "lr": learning_rate * scale, "scale": scale} for (scale, _), own in groups.items()]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step; torchao keeps it in a tensor that must stay the same object."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["scale"])
        else:
            group["lr"] = rate * group["scale"]


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Moments and step counts of each parameter as "<kind>.<name>"; an 8-bit moment as its codes and its scale.

    They are the optimiser's own tensors: its next step changes them.
    """
    found: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        for kind, value in optimizer.state.get(parameter, {}).items():
            for part, tensor in _parts(kind, value):
                found[f"{part}.{name}"] = tensor.detach()
    return found


def owner_of(name: str) -> tuple[str, str]:
    """("<kind>", "<parameter>") of a name among `optimizer_tensors`; two empty strings for any other."""
    kind = next((kind for kind in KINDS if name.startswith(f"{kind}.")), "")
    return kind, name.removeprefix(f"{kind}.") if kind else ""


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
    *,
    like: Callable[[Tensor, Tensor], Tensor] = lambda _parameter, value: value,
) -> None:
    """Put `optimizer_tensors` back, bit for bit; `like` stores a whole moment as its parameter is stored.

    Each goes where the optimiser itself would keep it, whatever device it was read to.
    """
    fused = {id(p) for group in optimizer.param_groups if group.get("fused") for p in group["params"]}
    for name, parameter in parameters.items():
        state: dict[str, Any] = {}
        for kind in ("step", "exp_avg", "exp_avg_sq"):
            if f"{kind}.{name}" in tensors:
                # Only a fused kernel counts its steps on the device: others read the number, which would wait for it.
                place = parameter.device if kind != "step" or id(parameter) in fused else torch.device("cpu")
                kept = like(parameter, tensors[f"{kind}.{name}"])
                state[kind] = kept.to(device=place, dtype=torch.float32, copy=True)
            elif f"{kind}.codes.{name}" in tensors:
                buffer = optimizer._new_buffer(parameter, kind == "exp_avg")  # type: ignore[attr-defined]
                buffer.codes.copy_(tensors[f"{kind}.codes.{name}"])
                buffer.scale.copy_(tensors[f"{kind}.scale.{name}"])
                state[kind] = buffer
        if state:
            optimizer.state[parameter] = state


def _parts(kind: str, value: Any) -> list[tuple[str, Tensor]]:
    if hasattr(value, "codes"):
        return [(f"{kind}.codes", value.codes), (f"{kind}.scale", value.scale)]
    return [(kind, value if isinstance(value, Tensor) else torch.tensor(float(value)))]
