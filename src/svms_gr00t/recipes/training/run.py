"""`svms-gr00t train` as a recipe: a configuration and a folder become a trained policy with its passport.

RUN/config.yaml     every setting; --config RUN/config.yaml repeats the run
RUN/passport.json   versions, commit, fingerprint of the data
RUN/phase_N/        metrics.jsonl, checkpoints, gate
RUN/policy/         the trained policy
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from svms_gr00t.core.errors import TrainingError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.loading.feature_cache import FeatureCache
from svms_gr00t.data.loading.protocols import Samples
from svms_gr00t.groot.checkpoint.hub import locate
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.passport import Change, Resume, claimed, write_passport
from svms_gr00t.recipes.training.phases_in_turn import Trained, train_in_turn
from svms_gr00t.recipes.training.presets import preset
from svms_gr00t.train.cache_features import cache_key
from svms_gr00t.train.loop.trackers import TrackerName, make_trackers
from svms_gr00t.train.loop.trainer import LoopConfig, Validate
from svms_gr00t.train.memory.planner import Setup, cheapest, plan, usable
from svms_gr00t.train.phases import Phase
from svms_gr00t.train.processes.cluster import Cluster
from svms_gr00t.train.processes.start import cluster
from svms_gr00t.train.towers.recompute import recompute_blocks

HELD_OUT_SAMPLES, GATE_SAMPLES = 128, 2048


def run_training(
    config: TrainConfig,
    output: Path,
    *,
    resume: Resume = "auto",
    accept: Collection[Change] = (),
    trackers: Sequence[TrackerName] = (),
    progress: Progress | None = None,
) -> Trained:
    """Train the chosen phases and save the policy. Raises SvmsError for bad input, before anything is written.

    A run that goes on has the data and the code that it began with, but for the changes that `accept` names.
    """
    here = cluster()
    with claimed(config, output, resume, here):
        return _train(config, output, here, accept, trackers, progress or Silent())


def _train(
    config: TrainConfig,
    output: Path,
    here: Cluster,
    accept: Collection[Change],
    trackers: Sequence[TrackerName],
    progress: Progress,
) -> Trained:
    """The run in a folder that is ours."""
    base = locate(config.base_model_path) if config.base_model_path else None
    experiment = Experiment.prepare(
        config.parts(),
        alpha=config.mixture_alpha,
        preset_name=config.preset,
        embodiment_tag=config.embodiment_tag,
        views=config.views,
        seed=config.seed,
        validation=config.validation,
        base=base,
        svms=config.svms_fields(),
        min_max_embedding_keys=config.min_max_embedding_keys,
        progress=progress,
    )
    logs = make_trackers(trackers, output, asdict(config)) if here.rank == 0 else ()
    if here.device.type == "cuda" and config.preset == "n1d6":
        memory = torch.cuda.get_device_properties(here.device).total_memory / 1e9
        views = len(experiment.processor.config.embodiment.video.names)
        check_memory(config, experiment.config, memory, views, world=here.world, sharded=here.sharded)
    if config.precision == "fp32":
        experiment = replace(experiment, dtype=torch.float32)
    model = experiment.model(use_sheaf_streams=config.use_sheaf_streams, base=base)
    model.action_head.keep_embodiments(experiment.processor.config.embodiment_id)
    if config.gradient_checkpointing:
        recompute_blocks(model)
    features = _features(config, experiment, model)
    if features is not None and here.world == 1:
        here.below = features.key.layer
    held_out = _held_out(experiment, features)
    with here.main_first() as writes:
        if writes:
            write_passport(config, output, experiment, base=base, accept=accept)
    trained = _guarded(
        config,
        model,
        experiment.samples(train=True, features=features, progress=progress),
        held_out,
        output,
        phases=config.phase_values(),
        chosen=config.phases,
        loop=_loop(config),
        micro=config.gradient_accumulation_steps,
        workers=config.dataloader_num_workers,
        validate=validator(held_out),
        trackers=logs,
        cluster=here,
        progress=progress,
        title="svms" if config.use_sheaf_streams else "plain",
    )
    for log in logs:
        log.close()
    _save(experiment, trained, output, here)
    return trained


def _held_out(experiment: Experiment, features: FeatureCache | None) -> Samples:
    """Every fourth step of the held-out episodes, or fewer: gates keep the stream states of all of them at once."""
    steps = experiment.samples(train=False, stride=4, features=features)
    if len(steps) <= GATE_SAMPLES:
        return steps
    return experiment.samples(train=False, stride=4 * -(-len(steps) // GATE_SAMPLES), features=features)


def _features(config: TrainConfig, experiment: Experiment, model: Gr00tN1d6) -> FeatureCache | None:
    """The cache that --feature-cache names. Raises DataError unless it is of this model, data and pipeline."""
    if config.feature_cache is None:
        return None
    root = Path(config.feature_cache)
    stored = FeatureCache.open(root).key
    key = cache_key(
        model,
        experiment.dataset,
        experiment.processor,
        dtype=stored.dtype,
        variants=stored.variants,
        seed=config.seed if stored.variants else stored.seed,
    )
    return FeatureCache.open(root, key)


def _guarded(config: TrainConfig, *args: Any, **kwargs: Any) -> Trained:
    """Train; running out of GPU memory is one sentence that names the switch."""
    try:
        return train_in_turn(*args, **kwargs)
    except torch.OutOfMemoryError as error:
        total = torch.cuda.get_device_properties(0).total_memory / 1e9 if torch.cuda.is_available() else 0.0
        want, hint = (
            "a phase that fits",
            f"{_advice(config, total)}; what is saved goes on from there with other settings",
        )
        raise TrainingError("GPU memory", got=str(error).split(".")[0], want=want, hint=hint) from error


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
        need, room = plan(model_config, phase, setup).peak_gib, usable(gpu_gb)
        if need > room:
            flags = cheapest(model_config, phase, setup, room)
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
    )


def _advice(config: TrainConfig, gpu_gb: float) -> str:
    if config.preset != "n1d6":
        return "Use a smaller --global-batch-size, or --gradient-accumulation-steps"
    flags = [cheapest(Gr00tN1d6Config(), p, setup_of(config, p, 3), usable(gpu_gb)) for p in config.phase_values()]
    found = [flag for flag in flags if flag]
    return f"Add {found[-1]}" if found else "Add --optimizer adamw8bit or --gradient-accumulation-steps 2"


def validator(held_out: Samples) -> Validate:
    """Held-out flow loss and denoised action error at fixed noise and time, on evenly spread samples."""
    spread = torch.linspace(0, len(held_out) - 1, min(HELD_OUT_SAMPLES, len(held_out))).round().int().tolist()

    @torch.no_grad()
    def measure(model: Gr00tN1d6) -> dict[str, float]:
        source = torch.Generator().manual_seed(0)
        sums = {"flow": 0.0, "action_error": 0.0}
        total, device = 0.0, next(model.action_head.parameters()).device
        for start in range(0, len(spread), 32):
            inputs = held_out.batch(spread[start : start + 32]).to(device)
            assert inputs.action is not None
            assert inputs.action_mask is not None
            real = inputs.action_mask
            noise = torch.randn(inputs.action.shape, generator=source).to(device)
            time = model.action_head.draw_time(len(noise), generator=source).to(device)
            count = float(real.sum())
            sums["flow"] += count * float(model(inputs, noise=noise, time=time).terms["flow"])
            error = (model.sample(inputs, noise=noise).action - inputs.action).square() * real
            sums["action_error"] += float(error.sum())
            total += count
        return {name: value / total for name, value in sums.items()}

    return measure


def _loop(config: TrainConfig) -> LoopConfig:
    return LoopConfig(
        seed=config.seed,
        checkpoint_every=config.save_steps,
        keep_last=config.save_total_limit,
        validate_every=config.eval_steps,
        optimizer=config.optimizer,
        precision=config.precision or preset(config.preset).precision,
        ema=config.ema,
    )


def _save(experiment: Experiment, trained: Trained, output: Path, here: Cluster) -> None:
    with here.main_first() as writes:
        if writes:
            experiment.policy(trained.model.to("cpu")).save_pretrained(output / "policy")
