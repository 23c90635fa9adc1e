"""Which processes this one belongs to: `accelerate launch` and torchrun say so in the environment."""

import os

import torch

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.train.processes.cluster import Accelerated, Cluster
from svms_gr00t.train.processes.sharded import Sharded


def cluster() -> Cluster:
    """The processes that this one was started with: `accelerate launch` or torchrun say how many and which kind.

    Raises ConfigError for FSDP of the first version.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
            return Accelerated()
        if (version := os.environ.get("FSDP_VERSION", "1")) != "2":
            hint = "Pass --fsdp_version 2 to accelerate launch, or --config_file scripts/fsdp2.yaml"
            raise ConfigError("FSDP version", got=version, want="2", hint=hint)
        return Sharded()
    return Cluster("cuda" if torch.cuda.is_available() else "cpu")
