"""`svms-gr00t train` as a recipe: a configuration and a folder become a trained policy with its passport.

RUN/config.yaml     every setting; --config RUN/config.yaml repeats the run
RUN/passport.json   versions, commit, fingerprint of the data
RUN/phase_N/        metrics.jsonl, checkpoints, gate
RUN/policy/         the trained policy
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.files.records import write_text
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.labels.own import FILE as LEXICON
from svms_gr00t.data.labels.own import OwnLabeler, load_labeler
from svms_gr00t.data.labels.tokens import Labeler
from svms_gr00t.data.loading.feature_cache import FeatureCache
from svms_gr00t.data.loading.protocols import Samples
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.shipped import NONE, starting_point
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.memory import advised, check_card
from svms_gr00t.recipes.training.passport import Change, Resume, claimed, write_passport
from svms_gr00t.recipes.training.phases_in_turn import Trained, train_in_turn, turns
from svms_gr00t.train.cache_features import cache_key, cache_layer
from svms_gr00t.train.loop.held_out import validator
from svms_gr00t.train.loop.trackers import Tracking
from svms_gr00t.train.loop.trainer import LoopConfig
from svms_gr00t.train.phases import Phase
from svms_gr00t.train.processes.cluster import Cluster
from svms_gr00t.train.processes.start import cluster
from svms_gr00t.train.towers.recompute import recompute_blocks

log = logging.getLogger(__name__)
GATE_SAMPLES = 2048
OFF = "off"
Caches = tuple[FeatureCache, ...]
"""None, or one for each dataset."""


def run_training(
    config: TrainConfig,
    output: Path,
    *,
    resume: Resume = "auto",
    accept: Collection[Change] = (),
    tracking: Tracking | None = None,
    labeler: Labeler | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train the chosen phases and save the policy. Raises SvmsError for bad input, before anything is written.

    A run that goes on has the data and the code that it began with, but for the changes that `accept` names. A
    `labeler` of your own labels the words instead of `config.lexicon`.
    """
    tracking = tracking or Tracking()
    tracking.check()
    here = cluster()
    base = starting_point(config.base_model_path or NONE)
    config = config.settled(base)
    with claimed(config, output, resume, here):
        return _train(config, base, output, here, accept, tracking, labeler, progress or Silent())


def _train(
    config: TrainConfig,
    base: Path | None,
    output: Path,
    here: Cluster,
    accept: Collection[Change],
    tracking: Tracking,
    labeler: Labeler | None,
    progress: Progress,
) -> Trained:
    """The run in a folder that is ours."""
    experiment = _experiment(config, base, labeler, progress)
    check_card(config, experiment, here)
    model = _model(config, experiment, base)
    ready = _is_ready(model, base)
    plan = turns(output, config.phase_values(), config.phases, ready=ready)
    features = _features(config, experiment, model, here, output)
    shared: dict[str, Any] = {"memory": model.config.remembered}
    held_out = _held_out(experiment, shared | {"features": features(config.phase_values())})
    shared |= {"deciding": config.deciding_share if model.config.remembered else 0.0, "progress": progress}
    train: dict[Caches, Samples] = {}
    for caches in (features((phase,)) for phase in config.phase_values()):
        if caches not in train:
            train[caches] = experiment.samples(train=True, features=caches, **shared)
    by_phase = {phase.name: train[features((phase,))] for phase in config.phase_values()}
    with here.main_first() as writes:
        if writes:
            write_passport(config, output, experiment, base=base, accept=accept)
            announce(model, base, begun=bool(plan[0].run.checkpoints()))
    following = tracking if here.rank == 0 else Tracking()
    with following.follow(output, asdict(config)) as logs, advised(config):
        trained = train_in_turn(
            model,
            by_phase,
            output,
            phases=config.phase_values(),
            loop=_loop(config, experiment),
            held_out=held_out,
            chosen=config.phases,
            ready=ready,
            micro=config.gradient_accumulation_steps,
            workers=config.dataloader_num_workers,
            validate=validator(held_out),
            trackers=logs,
            cluster=here,
            progress=progress,
            title="svms" if config.use_sheaf_streams else "plain",
        )
    _save(experiment, trained, output, here)
    return trained


def _experiment(config: TrainConfig, base: Path | None, labeler: Labeler | None, progress: Progress) -> Experiment:
    """Data, split, statistics and processor; fp32 loads the weights in float32, whatever the size."""
    experiment = Experiment.prepare(
        config.parts(),
        alpha=config.mixture_alpha,
        preset_name=config.preset,
        embodiment_tag=config.embodiment_tag,
        views=config.views,
        modality_config=Path(config.modality_config_path) if config.modality_config_path else None,
        color_jitter_params=config.color_jitter_params,
        random_rotation_angle=config.random_rotation_angle,
        seed=config.seed,
        validation=config.validation,
        base=base,
        svms=config.svms_fields(),
        min_max_embedding_keys=config.min_max_embedding_keys,
        hand_keys=(config.hand_position, config.hand_gripper),
        labeler=labeler or (load_labeler(Path(config.lexicon)) if config.lexicon else None),
        progress=progress,
    )
    return replace(experiment, dtype=torch.float32) if config.precision == "fp32" else experiment


def _model(config: TrainConfig, experiment: Experiment, base: Path | None) -> Gr00tN1d6:
    """The model with one row of its embodiment banks, its blocks computed again where that was asked for."""
    model = experiment.model(use_sheaf_streams=config.use_sheaf_streams, base=base)
    model.action_head.keep_embodiments(experiment.processor.config.embodiment_id)
    if config.gradient_checkpointing:
        recompute_blocks(model)
    return model


def _is_ready(model: Gr00tN1d6, base: Path | None) -> bool:
    """Whether the model comes with what early phases train."""
    return base is not None and (model.svms is None or not model.svms.is_fresh)


def announce(model: Gr00tN1d6, base: Path | None, *, begun: bool) -> None:
    """Say in one line which weights are random; nothing where all come from a checkpoint, or from training `begun`."""
    if base is None:
        count, hint = sum(p.numel() for p in model.parameters()), "--base-model-path names a checkpoint to start from"
        log.warning("FRESH RANDOM WEIGHTS: all %s parameters start without a checkpoint. %s", f"{count:,}", hint)
    elif model.svms is not None and not begun and not _is_ready(model, base):
        count = sum(p.numel() for p in model.svms.parameters())
        log.warning("FRESH RANDOM WEIGHTS: %s parameters of SVMS; %s carries no trained SVMS", f"{count:,}", base)


def _held_out(experiment: Experiment, shared: dict[str, Any]) -> Samples:
    """Every fourth step of the held-out episodes, or fewer: gates keep the stream states of all of them at once."""
    steps = experiment.samples(train=False, stride=4, **shared)
    if len(steps) <= GATE_SAMPLES:
        return steps
    return experiment.samples(train=False, stride=4 * -(-len(steps) // GATE_SAMPLES), **shared)


def _features(
    config: TrainConfig, experiment: Experiment, model: Gr00tN1d6, here: Cluster, output: Path
) -> Callable[[Sequence[Phase]], Caches]:
    """For some phases a cache of each dataset: what --feature-cache names, or with memory one that grows, as deep as
    the backbone is frozen in them; none reads pictures.

    Raises DataError unless a cache is of this model, data and pipeline, ConfigError for one cache of several datasets,
    and for any beside a vision projector that trains.
    """
    remembers, given = bool(model.config.remembered), config.feature_cache
    if given == OFF or not (given or remembers):
        return lambda _phases: ()
    if config.tune_vision_projector:
        hint = f"--feature-cache {OFF}, which reads pictures; cached hidden states come after the projector"
        raise ConfigError("--tune-vision-projector", got=True, want="no feature cache", hint=hint)
    root = output / "features" if given is None else Path(given)
    if remembers and not (root / "key.json").is_file():
        return partial(_growing, config, experiment, model, here, root, {})
    if len(experiment.sources) > 1:
        got, hint = f"{len(experiment.sources)} datasets", "Leave out --feature-cache, or train on one dataset"
        raise ConfigError("--feature-cache", got=got, want="one dataset, whose states it holds", hint=hint)
    stored = FeatureCache.open(root).key
    seed = config.seed if stored.variants else stored.seed
    rest: dict[str, Any] = {"dtype": stored.dtype, "variants": stored.variants, "seed": seed}
    key = cache_key(model, experiment.dataset, experiment.processor, **rest)
    if here.world == 1:
        here.below = key.layer  # what the cache replaces stays off a single card
    found = (FeatureCache.open(root, key),)
    return lambda _phases: found


def _growing(
    config: TrainConfig,
    experiment: Experiment,
    model: Gr00tN1d6,
    here: Cluster,
    root: Path,
    known: dict[int, Caches],
    phases: Sequence[Phase],
) -> Caches:
    """Caches that fill themselves; none where processes share weights, for they would wait for one another."""
    if here.sharded:
        log.warning("Past pictures pass the backbone at every step: with FSDP no cache grows")
        return ()
    layer = cache_layer(model.config, phases)
    if layer in known:
        return known[layer]
    rest: dict[str, Any] = {"variants": config.feature_copies, "seed": config.seed, "layer": layer}
    rest["dtype"] = "bfloat16" if experiment.dtype == torch.bfloat16 else "float32"
    found = []
    for number, source in enumerate(experiment.sources):
        folder = root / f"dataset_{number}_layer_{layer}"
        found.append(experiment.growing(model, source, folder, **rest))
    known[layer] = tuple(found)
    return known[layer]


def _loop(config: TrainConfig, experiment: Experiment) -> LoopConfig:
    assert config.save_steps is not None, "settled() takes it from the preset"
    return LoopConfig(
        seed=config.seed,
        checkpoint_every=config.save_steps,
        keep_last=config.save_total_limit,
        save_moments=config.save_moments,
        validate_every=config.eval_steps,
        optimizer=config.optimizer,
        precision=config.precision or experiment.precision,
        ema=config.ema,
    )


def _save(experiment: Experiment, trained: Trained, output: Path, here: Cluster) -> None:
    with here.main_first() as writes:
        if writes:
            experiment.policy(trained.model.to("cpu")).save_pretrained(output / "policy")
            if isinstance(experiment.labeler, OwnLabeler):
                write_text(output / "policy" / LEXICON, experiment.labeler.text)
