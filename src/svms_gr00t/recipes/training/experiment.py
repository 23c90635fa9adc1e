"""From datasets and a preset to everything that training and evaluation share: split, statistics, processor, model.

The plain model and SVMS of one experiment see the same episodes, the same statistics and the same batches.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.progress import Progress
from svms_gr00t.core.svms_config import SvmsConfig
from svms_gr00t.data.doctor.compatibility import lost_commands
from svms_gr00t.data.labels.hand import Hand, find_hand
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.labels.tokens import Labeler as AnyLabeler
from svms_gr00t.data.labels.tokens import streams_of
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.lerobot.sound import Skipped
from svms_gr00t.data.lerobot.summary import RunningSummary
from svms_gr00t.data.loading.feature_cache import FeatureCache
from svms_gr00t.data.loading.growing_cache import GrowingCache
from svms_gr00t.data.loading.mixed_samples import MixedSamples
from svms_gr00t.data.loading.mixture import ALPHA, Mixture, Part, open_mixture
from svms_gr00t.data.loading.protocols import Samples
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.data.loading.split import Split, split_episodes
from svms_gr00t.data.processor.config import known_robots
from svms_gr00t.data.processor.embodiment import EMBODIMENT_IDS, EmbodimentConfig, from_modality, known_tag
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.data.processor.statistics import Statistics
from svms_gr00t.data.processor.tokenizer import load_tokenizer
from svms_gr00t.groot.checkpoint.loading import read_config
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.modality_config import augmented, read_modality_config, robot_for
from svms_gr00t.recipes.training.presets import Preset, preset_for
from svms_gr00t.train.cache_features import cache_key, growing_cache
from svms_gr00t.train.loop.step import Precision

log = logging.getLogger(__name__)
Described = Callable[[int], tuple[EmbodimentConfig, Statistics]]
"""Longest horizon -> a dataset's robot and its statistics."""
ROBOT_TAGS = {"PandaOmron": "robocasa_panda_omron", "GR1ArmsOnly": "gr1"}
"""Embodiment tag by the dataset's robot_type; others train the free row, new_embodiment."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One dataset of an experiment."""

    dataset: LeRobotDataset
    split: Split
    weight: float
    """Share of the draws."""
    skipped: tuple[Skipped, ...]
    """Broken episodes that were left out, and why."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One dataset, or a mixture of one robot's, prepared for one preset."""

    sources: tuple[Source, ...]
    processor: Processor
    config: Gr00tN1d6Config
    """With SVMS; `model` switches it off for the plain one."""
    seed: int
    hand_keys: tuple[tuple[str, ...], str | None] = ((), None)
    """States that are the hand's position and its gripper, for grounded targets; empty finds them by name."""
    labeler: AnyLabeler = field(default_factory=Labeler)
    """Who labels the instructions' words."""
    dtype: torch.dtype = torch.float32
    """Type in which weights are loaded; what trains becomes float32 (or what its optimiser wants) later."""

    @property
    def dataset(self) -> LeRobotDataset:
        """The dataset; of a mixture the first."""
        return self.sources[0].dataset

    @property
    def split(self) -> Split:
        """Training and held-out episodes of `dataset`."""
        return self.sources[0].split

    @classmethod
    def prepare(
        cls,
        dataset_path: Path | str | Sequence[Part],
        *,
        alpha: float = ALPHA,
        preset_name: str | None = None,
        embodiment_tag: str | None = None,
        views: tuple[str, ...] = (),
        seed: int = 0,
        validation: float = 0.15,
        base: Path | None = None,
        svms: dict[str, object] | None = None,
        min_max_embedding_keys: Sequence[str] = (),
        modality_config: Path | None = None,
        color_jitter_params: Mapping[str, float] | None = None,
        random_rotation_angle: float | None = None,
        hand_keys: tuple[tuple[str, ...], str | None] = ((), None),
        labeler: AnyLabeler | None = None,
        progress: Progress | None = None,
    ) -> "Experiment":
        """Open the data and choose everything that does not depend on which model trains.

        Each dataset of a mixture has held-out episodes of its own; statistics are those of all training episodes.
        With a `base` checkpoint its configuration and processor are taken, so that its weights mean what they meant:
        its statistics for a robot that it knows, the dataset's for one that it does not; `views` are cameras of the
        dataset either way. A file `modality_config` says what the robot sees and does, instead of modality.json and
        even for a robot that the base knows. The preset is the base's, or tiny; `svms` changes fields of the SVMS
        configuration; a `labeler` of your own names its streams. Raises DataError, ConfigError or CheckpointError for
        what does not exist or fit.
        """
        chosen = preset_for(preset_name, base)
        parts = [Part(path=Path(dataset_path))] if isinstance(dataset_path, (Path, str)) else dataset_path
        mixture = open_mixture(parts, alpha=alpha, seed=seed, progress=progress)
        sources = tuple(_sources(mixture, validation, seed))
        dataset = mixture.datasets[0]
        rows = (*(known_robots(base) if base is not None else ()), *chosen.embodiment_ids, *EMBODIMENT_IDS)
        tag = known_tag(embodiment_tag or ROBOT_TAGS.get(dataset.robot_type, "new_embodiment"), rows)
        robot = robot_for(read_modality_config(modality_config, tag), dataset, views) if modality_config else None

        def described(limit: int) -> tuple[EmbodimentConfig, Statistics]:
            """This dataset's robot as a processor wants it."""
            found = robot or from_modality(dataset.modality, horizon=min(16, limit), views=views or None)
            chosen = [source.split.train for source in sources]
            return found, mixture.statistics(chosen, embodiment=found, progress=progress)

        svms = svms or {}
        if labeler is not None and (base is None or not read_config(base).use_sheaf_streams):
            named = streams_of(labeler)
            svms = {"stream_names": named, "n_streams": len(named)} | svms
        processor, config = processor_and_config(
            chosen, base, tag, described, svms, modality=dataset.modality, views=views, anew=robot is not None
        )
        _check_labels(labeler or Labeler(), config)
        processor = augmented(processor, color_jitter_params, random_rotation_angle)
        if min_max_embedding_keys:
            processor = processor.keeping_range(min_max_embedding_keys)
        for source in sources:
            _name_lost_commands(source, processor, progress)
        dtype = torch.bfloat16 if chosen.precision == "bf16" else torch.float32
        return cls(
            sources=sources,
            processor=processor,
            config=config,
            seed=seed,
            hand_keys=hand_keys,
            labeler=labeler or Labeler(),
            dtype=dtype,
        )

    @property
    def precision(self) -> Precision:
        """Of a forward pass that suits the loaded weights."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    def model(self, *, use_sheaf_streams: bool, base: Path | None = None) -> Gr00tN1d6:
        """A model with or without SVMS, from `base` or fresh; both variants of one seed start from the same weights."""
        found = begun(self.config, base, use_sheaf_streams=use_sheaf_streams, dtype=self.dtype, seed=self.seed)
        return self.scaled(found)

    @cached_property
    def hand(self) -> Hand:
        """Whose motion grounded targets tell. Raises DataError for a robot without one."""
        statistics = self.processor.statistics[self.processor.config.embodiment_tag]
        position, gripper = self.hand_keys
        return find_hand(self.dataset.modality, statistics, position=position, gripper=gripper)

    @cached_property
    def _target_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of every grounded target over the training episodes, every step once."""
        running = RunningSummary()
        for source in self.sources:
            for episode in source.split.train:
                running.update(self.hand.targets(source.dataset.lowdim(episode)))
        found = running.result(quantiles={})
        return torch.tensor(found["mean"]), torch.tensor(found["std"])

    def scaled(self, model: Gr00tN1d6) -> Gr00tN1d6:
        """The model, its heads of grounded targets knowing these data's scale unless they brought another."""
        heads = model.target_heads
        if heads is not None and not heads.is_scaled:
            heads.scale(*self._target_scale)
        return model

    def policy(self, model: Gr00tN1d6) -> Policy:
        """The model as a policy for this experiment's robot."""
        return Policy(model, self.processor)

    def first_samples(self, *, train: bool, features: FeatureCache | None = None, **rest: Any) -> SampleDataset:
        """Labelled steps of the first dataset's training or validation episodes, from pictures or cached features.

        `rest` goes to SampleDataset: stride, memory, deciding, progress.
        """
        return self._samples(self.sources[0], train, features, **rest)

    def samples(self, *, train: bool, features: Sequence[FeatureCache] = (), **rest: Any) -> Samples:
        """`first_samples` of all datasets, mixed by weight; `features` are none, or a cache for each of them."""
        pairs = zip(self.sources, features or (None,) * len(self.sources), strict=True)
        parts = [self._samples(source, train, cache, **rest) for source, cache in pairs]
        return parts[0] if len(parts) == 1 else MixedSamples(parts, [source.weight for source in self.sources])

    def pictures(self, source: Source) -> SampleDataset:
        """Every step of a dataset's training and validation episodes: what a cache of it is made from."""
        episodes = [*source.split.train, *source.split.validation]
        return SampleDataset(source.dataset, self.processor, episodes=episodes, seed=self.seed)

    def growing(self, model: Gr00tN1d6, source: Source, folder: Path, *, layer: int, **rest: Any) -> GrowingCache:
        """A cache of a dataset at `folder` that `model` fills as training goes; `rest` goes to `cache_key`."""
        key = cache_key(model, source.dataset, self.processor, layer=layer, **rest)
        return growing_cache(model, key, partial(self.pictures, source), folder)

    def _samples(self, source: Source, train: bool, features: FeatureCache | None, **rest: Any) -> SampleDataset:
        return SampleDataset(
            source.dataset,
            self.processor,
            episodes=source.split.train if train else source.split.validation,
            labeler=self.labeler,
            augment=train,
            seed=self.seed,
            features=features,
            hand=self.hand if self.config.grounded_targets else None,
            **rest,
        )


def _check_labels(labeler: AnyLabeler, config: Gr00tN1d6Config) -> None:
    """The labelled streams are the first of the model's. Raises ConfigError."""
    names = streams_of(labeler)
    if hasattr(labeler, "streams") and not isinstance(labeler, Labeler) and config.stream_names[: len(names)] != names:
        want = f"the model's streams, {', '.join(config.stream_names)}, in their order"
        hint = "Name them in svms: {stream_names: [...]}, or start from a base without SVMS"
        raise ConfigError("labelled streams", got=names, want=want, hint=hint)


def _name_lost_commands(source: Source, processor: Processor, progress: Progress | None) -> None:
    statistics, chosen = processor.statistics, source.split.train
    lost = lost_commands(source.dataset, processor.config, statistics, episodes=chosen, progress=progress)
    for finding in lost:
        log.warning("%s: %s: %s. %s", source.dataset.root, finding.where, finding.found, finding.todo)


def _sources(mixture: Mixture, validation: float, seed: int) -> Iterator[Source]:
    for dataset, weight, skipped in zip(mixture.datasets, mixture.weights, mixture.skipped, strict=True):
        for one in skipped:
            log.warning("%s: episode %d is left out: %s", dataset.root, one.episode, one.reason)
        everyone, broken = [*dataset.episodes, *(one.listed for one in skipped)], {one.episode for one in skipped}
        split = split_episodes(everyone, validation=validation, seed=seed, broken=broken)
        yield Source(dataset=dataset, split=split, weight=weight, skipped=skipped)


def processor_and_config(
    chosen: Preset,
    base: Path | None,
    tag: str,
    described: Described,
    svms: Mapping[str, object],
    *,
    modality: Modality,
    views: tuple[str, ...] = (),
    anew: bool = False,
) -> tuple[Processor, Gr00tN1d6Config]:
    """For robot `tag`: the base's with what it must learn of the robot, or the preset's without a base."""
    if base is None:
        return _new(chosen, tag, described, svms)
    processor = _looking(_taught(base, tag, described, anew=anew), modality, views)
    return processor, continued(base, chosen.config(processor.tokenizer), svms)


def begun(
    config: Gr00tN1d6Config, base: Path | None, *, use_sheaf_streams: bool, dtype: torch.dtype, seed: int
) -> Gr00tN1d6:
    """A model with or without SVMS, from `base` or fresh; both variants of one seed start from the same weights."""
    config = Gr00tN1d6Config.from_dict(config.to_dict() | {"use_sheaf_streams": use_sheaf_streams})
    torch.manual_seed(seed)
    if base is not None:
        return Gr00tN1d6.from_pretrained(base, config=config, dtype=dtype)
    plain = Gr00tN1d6(Gr00tN1d6Config.from_dict(config.to_dict() | {"use_sheaf_streams": False}))
    if not use_sheaf_streams:
        return plain.to(dtype)
    model = Gr00tN1d6(config)
    model.load_state_dict(plain.state_dict(), strict=False)
    return model.to(dtype)


def continued(base: Path, fresh: Gr00tN1d6Config, svms: Mapping[str, object]) -> Gr00tN1d6Config:
    """The base's own dimensions; a plain base gets the SVMS fields of the preset."""
    stored = read_config(base)
    own = stored if stored.use_sheaf_streams else fresh
    streams = {field.name: getattr(own, field.name) for field in fields(SvmsConfig)}
    return replace(stored, **(streams | dict(svms)))  # type: ignore[arg-type]


def _taught(base: Path, tag: str, described: Described, *, anew: bool) -> Processor:
    """The base's processor at work on robot `tag`, which joins the robots it knows if it is new, or taught `anew`."""
    robots = known_robots(base)
    old = Processor.load(base, embodiment_tag=tag if tag in robots else robots[0])
    if tag in robots and not anew:
        return old
    _check_tag(tag, old.config.embodiment_ids)
    embodiment, statistics = described(old.config.max_action_horizon)
    config = replace(old.config, embodiment_tag=tag, embodiments=old.config.embodiments | {tag: embodiment})
    return Processor(config, old.tokenizer, old.statistics | {tag: statistics})


def _new(
    chosen: Preset, tag: str, described: Described, svms: Mapping[str, object]
) -> tuple[Processor, Gr00tN1d6Config]:
    """The preset's processor and configuration for robot `tag`."""
    _check_tag(tag, chosen.embodiment_ids)
    tokenizer = load_tokenizer(chosen.tokenizer)
    config = chosen.config(tokenizer, **svms)
    embodiment, statistics = described(config.action_horizon)
    return Processor(chosen.processor_config(tag, embodiment, config), tokenizer, statistics), config


def _looking(processor: Processor, modality: Modality, views: tuple[str, ...]) -> Processor:
    """The processor with these cameras, all of them the dataset's; none leaves its own."""
    if not views:
        return processor
    tag, robot = processor.config.embodiment_tag, processor.config.embodiment
    chosen = from_modality(modality, views=views).video.modality_keys
    robots = processor.config.embodiments | {tag: replace(robot, video=replace(robot.video, modality_keys=chosen))}
    return Processor(replace(processor.config, embodiments=robots), processor.tokenizer, processor.statistics)


def _check_tag(tag: str, known: Mapping[str, int]) -> None:
    if tag not in known:
        want = f"one of {', '.join(known)}"
        raise DataError("--embodiment-tag", got=tag, want=want, hint="new_embodiment is free for any robot")
