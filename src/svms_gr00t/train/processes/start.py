"""Which processes this one belongs to: `accelerate launch` and torchrun say so in the environment.

Of what accelerate can be told, the number of processes and the kind of parallelism are taken. How to train stands in
the run's own settings; what the launcher says about that is not used, and named.
"""

import logging
import os
from collections.abc import Mapping

import torch

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.train.processes.cluster import Accelerated, Cluster
from svms_gr00t.train.processes.sharded import Sharded

log = logging.getLogger(__name__)
_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
_OTHERS = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM", "ACCELERATE_USE_PARALLELISM_CONFIG")
_INSTEAD = {
    "ACCELERATE_MIXED_PRECISION": "--precision",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "--gradient-accumulation-steps",
    "ACCELERATE_DYNAMO_BACKEND": "",
    "FSDP_ACTIVATION_CHECKPOINTING": "--gradient-checkpointing",
}
"""Setting -> the flag of `svms-gr00t train` that decides instead."""
_AGREE = {
    "ACCELERATE_MIXED_PRECISION": ("no",),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1",),
    "ACCELERATE_DYNAMO_BACKEND": ("no",),
    "FSDP_SHARDING_STRATEGY": ("full_shard", "1"),
    "FSDP_RESHARD_AFTER_FORWARD": ("true",),
    "FSDP_OFFLOAD_PARAMS": ("false",),
    "FSDP_MIN_NUM_PARAMS": ("100000000",),
    "FSDP_AUTO_WRAP_POLICY": ("no_wrap",),
    "FSDP_STATE_DICT_TYPE": ("full_state_dict",),
    "FSDP_FORWARD_PREFETCH": ("false",),
    "FSDP_USE_ORIG_PARAMS": ("true",),
    "FSDP_ACTIVATION_CHECKPOINTING": ("false",),
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": ("false",),
}
"""Values that say what is done here anyway, or what accelerate says when nobody asked."""
_NEUTRAL = ("FSDP_VERSION", "FSDP_CPU_RAM_EFFICIENT_LOADING", "FSDP_SYNC_MODULE_STATES")
"""How whole weights reach the processes: every one reads the same files."""


def cluster() -> Cluster:
    """The processes that this one was started with: `accelerate launch` or torchrun say how many and which kind.

    Warns of settings that are not used. Raises ConfigError for FSDP of the first version, DeepSpeed and the like.
    """
    if not any(name in os.environ for name in _ALLOCATOR):
        os.environ[_ALLOCATOR[0]] = "expandable_segments:True"  # before CUDA starts; what the memory plan counts on
    if int(os.environ.get("RANK", "0")) == 0 and (unused := not_used(os.environ)):
        log.warning("accelerate launch: not used here: %s", ", ".join(unused))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if others := [name for name in _OTHERS if _is_on(name)]:
            want, hint = "data parallelism, or FSDP2", "Choose the config file of a plain MULTI_GPU launch"
            raise ConfigError("accelerate launch", got=f"{others[0]}=true", want=want, hint=hint)
        if not _is_on("ACCELERATE_USE_FSDP"):
            return Accelerated()
        if (version := os.environ.get("FSDP_VERSION", "1")) != "2":
            hint = "Pass --fsdp_version 2 to accelerate launch, or --config_file scripts/fsdp2.yaml"
            raise ConfigError("FSDP version", got=version, want="2", hint=hint)
        return Sharded()
    return Cluster("cuda" if torch.cuda.is_available() else "cpu")


def not_used(environment: Mapping[str, str]) -> list[str]:
    """Settings of the launcher that training does not follow, each with the flag that decides instead."""
    named = [name for name in environment if name.startswith("FSDP_") or name in _INSTEAD]
    if environment.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        named = [name for name in named if not name.startswith("FSDP_")]
    found = []
    for name in sorted(named):
        if name in _NEUTRAL or environment[name].lower() in _AGREE.get(name, ()):
            continue
        flag = _INSTEAD.get(name)
        found.append(f"{name}={environment[name]}" + (f" ({flag} decides)" if flag else ""))
    return found


def _is_on(name: str) -> bool:
    return os.environ.get(name, "false").lower() == "true"
