"""Whether a run fits the card, asked before anything is loaded, and what to do when it does not after all."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from svms_gr00t.core.errors import TrainingError
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.presets import size_of
from svms_gr00t.train.memory.planner import Setup, cheapest, plan, usable
from svms_gr00t.train.memory.simulate import exact_plan
from svms_gr00t.train.phases import Phase
from svms_gr00t.train.processes.cluster import Cluster


def check_card(config: TrainConfig, experiment: Experiment, here: Cluster) -> None:
    """`check_memory` of this process's card; a CPU and another size than the released one have none."""
    if here.device.type == "cuda" and size_of(experiment.config) == "n1d6":
        memory = torch.cuda.get_device_properties(here.device).total_memory / 1e9
        views = len(experiment.processor.config.embodiment.video.names)
        check_memory(config, experiment.config, memory, views, world=here.world, sharded=here.sharded)


@contextmanager
def advised(config: TrainConfig) -> Iterator[None]:
    """Training in which running out of GPU memory is one sentence that names the switch."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        total = torch.cuda.get_device_properties(0).total_memory / 1e9 if torch.cuda.is_available() else 0.0
        hint = f"{_advice(config, total)}; what is saved goes on from there with other settings"
        raise TrainingError("GPU memory", got=str(error).split(".")[0], want="a phase that fits", hint=hint) from error


def check_memory(
    config: TrainConfig,
    model_config: Gr00tN1d6Config,
    gpu_gb: float,
    views: int,
    *,
    world: int = 1,
    sharded: bool = False,
) -> None:
    """Refuse a phase that cannot fit the card. Raises TrainingError naming the cheapest switch."""
    for number in config.phases:
        phase = config.phase_values()[number - 1]
        setup = setup_of(config, phase, views, world=world, sharded=sharded)
        # The closed form was fitted without what these two keep; the simulated step takes seconds.
        planner = exact_plan if phase.vision_projector or model_config.grounded_targets else plan
        need, room = planner(model_config, phase, setup).peak_gib, usable(gpu_gb)
        if need > room:
            flags = cheapest(model_config, phase, setup, room, planner=planner)
            hint = f"Add {flags}" if flags else "Use a smaller --global-batch-size, or a feature cache"
            got, want = f"about {need:.1f} GiB", f"at most {room:.1f} GiB of this card"
            raise TrainingError(f"memory of phase {phase.name}", got=got, want=want, hint=hint)


def setup_of(config: TrainConfig, phase: Phase, views: int, *, world: int = 1, sharded: bool = False) -> Setup:
    """The planner's view of a run on one of `world` cards."""
    return Setup(
        batch_size=-(-phase.batch_size // world),
        views=views,
        optimizer=config.optimizer,
        accumulation=config.gradient_accumulation_steps,
        checkpointing=config.gradient_checkpointing,
        cached=config.feature_cache is not None and world == 1,
        shared=world if sharded else 1,
        ema=config.ema > 0,
    )


def _advice(config: TrainConfig, gpu_gb: float) -> str:
    if config.preset != "n1d6":
        return "Use a smaller --global-batch-size, or --gradient-accumulation-steps"
    flags = [cheapest(Gr00tN1d6Config(), p, setup_of(config, p, 3), usable(gpu_gb)) for p in config.phase_values()]
    found = [flag for flag in flags if flag]
    return f"Add {found[-1]}" if found else "Add --optimizer adamw8bit or --gradient-accumulation-steps 2"
