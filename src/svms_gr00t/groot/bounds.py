"""How large a model a `config.json` may ask for: looked up before a layer of it is built.

Every layer of a checkpoint holds tensors, so a configuration of more layers than its weight files have tensors is not
theirs. What the files lack altogether (a fresh SVMS) is bounded by `fresh_parameters` (`core/sizes.py`).
"""

from collections.abc import Iterator, Sized
from dataclasses import fields, is_dataclass
from typing import Any

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.sizes import within

_LAYERS = frozenset({"num_hidden_layers", "num_layers", "select_layer", "memory_layers", "sheaf_unroll_steps"})
_FEW = 100
"""Layers that may be built to say by name what the weights lack."""
_STEPS = frozenset({"action_horizon", "num_inference_timesteps"})
_SCHEDULES = frozenset({"sheaf_ramp_steps", "aux_warmup_steps", "router_temp_decay_steps"})
"""Steps of training, which size nothing."""
_BUILT = frozenset({"vision_config.num_hidden_layers", "diffusion_model_cfg.num_layers", "select_layer"})


def check_config(config: Any) -> None:
    """Raise CheckpointError for a number of a configuration, or the length of a list, that is over its limit."""
    for name, value in _numbers(config):
        key = name.rpartition(".")[2]
        kind = "model_layers" if key in _LAYERS else "model_steps" if key in _STEPS else "model_width"
        if key not in _SCHEDULES:
            within(kind, value, "config.json", f"{name} = {value:,}", kind=CheckpointError)


def check_layers(config: Any, files: Sized, where: object) -> None:
    """Raise CheckpointError for a configuration with more layers than its weight files have tensors."""
    named = {name: value for name, value in _numbers(config) if name in _BUILT}
    if sum(named.values()) > max(len(files), _FEW):
        got = ", ".join(f"{name} = {value:,}" for name, value in named.items())
        want = f"no more layers than the weights have tensors ({len(files):,})"
        raise CheckpointError(where, got=got, want=want, hint="Take the config.json of these weights")


def _numbers(values: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Whole numbers of a configuration and of its sections, and the lengths of its lists, by name."""
    for field in fields(values):
        value = getattr(values, field.name)
        if is_dataclass(value) and not isinstance(value, type):
            yield from _numbers(value, f"{prefix}{field.name}.")
        elif isinstance(value, int):
            yield prefix + field.name, int(value)
        elif isinstance(value, tuple):
            yield prefix + field.name, len(value)
