"""Every choice of the processor as one value, and its JSON form, that of N1.6's `processor_config.json`.

    {"processor_class": ..., "processor_kwargs": {"modality_configs": {tag: ...}, ...}, "svms": {what only we need}}

Readers of N1.6 ignore the last part. Source: files that GR00T N1.6 writes beside a checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from svms_gr00t.core.errors import CheckpointError, ConfigError
from svms_gr00t.core.files.documents import filled, read_json, validate
from svms_gr00t.data.processor.embodiment import EMBODIMENT_IDS, EmbodimentConfig, known_tag
from svms_gr00t.data.processor.images import ColorJitter, ImagePipeline
from svms_gr00t.data.processor.normalize import by_range

_PLAIN = (
    *("max_state_dim", "max_action_dim", "max_action_horizon", "use_percentiles", "clip_outliers"),
    *("apply_sincos_state_encoding", "use_relative_action", "formalize_language", "model_name", "model_type"),
)
_IMAGES = (
    *("shortest_image_edge", "crop_fraction", "color_jitter_params", "random_rotation_angle"),
    *("image_crop_size", "image_target_size", "use_albumentations"),
)
_JITTER = ("brightness", "contrast", "saturation", "hue")
_WIDEST = 100_000
_HINT = "Use a processor_config.json of GR00T N1.6 or of this package"


_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_Sides = Annotated[list[PositiveInt], Field(min_length=1)]


class _Kwargs(BaseModel):
    """`processor_kwargs`; what is not named here must be empty."""

    model_config = _STRICT
    modality_configs: dict[str, Any]
    max_state_dim: int | None = None
    max_action_dim: int | None = None
    max_action_horizon: int | None = None
    use_percentiles: bool | None = None
    clip_outliers: bool | None = None
    apply_sincos_state_encoding: bool | None = None
    use_relative_action: bool | None = None
    formalize_language: bool | None = None
    model_name: str | None = None
    model_type: str | None = None
    shortest_image_edge: int | None = None
    crop_fraction: float | None = None
    color_jitter_params: dict[str, float | None] | None = None
    random_rotation_angle: float | None = None
    image_crop_size: _Sides | None = None
    image_target_size: _Sides | None = None


class _Ours(BaseModel):
    """`svms`."""

    model_config = _STRICT
    embodiment_tag: str | None = None
    image_target: int | None = None
    min_max_embedding_keys: dict[str, list[str]] = {}
    clock_steps: NonNegativeInt = 0


class _File(BaseModel):
    """`processor_config.json`."""

    model_config = _STRICT
    processor_kwargs: _Kwargs
    svms: _Ours = _Ours()


@dataclass(frozen=True, kw_only=True)
class ProcessorConfig:
    """What turns observations into model inputs, and model outputs into actions."""

    embodiment_tag: str
    """The robot at work, one of `embodiments`; upper and lower case are one."""
    embodiments: dict[str, EmbodimentConfig]
    """Known robots; a checkpoint may hold several."""
    embodiment_ids: dict[str, int] = field(default_factory=lambda: dict(EMBODIMENT_IDS))
    """Row of the embodiment-specific weights for each tag."""
    images: ImagePipeline = field(default_factory=ImagePipeline)
    """Sizes and augmentation of camera frames."""
    max_state_dim: int = 29
    """The model's state width (128 in the released checkpoint)."""
    max_action_dim: int = 29
    """The model's action width (128 in the released checkpoint)."""
    max_action_horizon: int = 16
    """The model's horizon (50 in the released checkpoint)."""
    use_percentiles: bool = False
    """Normalise by q01 and q99 instead of min and max."""
    min_max_embedding_keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Tag -> keys ("action.base_motion") that keep min and max where `use_percentiles` would cut rare commands off."""
    clip_outliers: bool = True
    """Cut normalised numbers to [-1, 1]."""
    apply_sincos_state_encoding: bool = False
    """Write the listed states as sines and cosines."""
    use_relative_action: bool = True
    """Honour relative actions; off treats them as absolute."""
    clock_steps: int = 0
    """Above 0 the last number of the state tells the time: steps since the episode began, over so many, at most 1."""
    formalize_language: bool = True
    """Lower case and no punctuation, as the released checkpoint was trained."""
    model_name: str = "nvidia/Eagle-Block2A-2B-v2"
    """Backbone name, kept for readers of N1.6."""
    model_type: str = "eagle"
    """Backbone kind, kept for readers of N1.6."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "embodiment_tag", known_tag(self.embodiment_tag, self.embodiments))
        tag, known = self.embodiment_tag, ", ".join(self.embodiments) or "none"
        if tag not in self.embodiments:
            raise ConfigError("embodiment_tag", got=tag, want=f"one of {known}", hint="Or add its EmbodimentConfig")
        if tag not in self.embodiment_ids:
            hint = "new_embodiment is free for any robot"
            raise ConfigError("embodiment_ids", got=sorted(self.embodiment_ids), want=f"an id for {tag}", hint=hint)
        for name in ("max_state_dim", "max_action_dim", "max_action_horizon"):
            if not 1 <= getattr(self, name) <= _WIDEST:
                want = f"at least 1, at most {_WIDEST:,}"
                raise ConfigError(name, got=getattr(self, name), want=want, hint="Take the model's own")
        for robot, names in self.min_max_embedding_keys.items():
            _check_keys(self.embodiments, robot, names)

    @property
    def embodiment(self) -> EmbodimentConfig:
        """The robot at work."""
        return self.embodiments[self.embodiment_tag]

    @property
    def embodiment_id(self) -> int:
        """Its row of the embodiment-specific weights."""
        return self.embodiment_ids[self.embodiment_tag]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, without the ids (they have their own file)."""
        kwargs: dict[str, Any] = {
            "modality_configs": {tag: config.to_dict() for tag, config in self.embodiments.items()},
            "image_crop_size": None,
            "image_target_size": None,
            "use_albumentations": True,
            "random_rotation_angle": self.images.max_angle or None,
            "color_jitter_params": {name: getattr(self.images.jitter, name) for name in _JITTER},
            "shortest_image_edge": self.images.short_side,
            "crop_fraction": self.images.crop_fraction,
        }
        kwargs |= {name: getattr(self, name) for name in _PLAIN}
        ours: dict[str, Any] = {"embodiment_tag": self.embodiment_tag, "image_target": self.images.target}
        if self.min_max_embedding_keys:
            ours["min_max_embedding_keys"] = {tag: list(names) for tag, names in self.min_max_embedding_keys.items()}
        if self.clock_steps:
            ours["clock_steps"] = self.clock_steps
        return {"processor_class": "Gr00tN1d6Processor", "processor_kwargs": kwargs, "svms": ours}

    @classmethod
    def from_dict(
        cls,
        value: Mapping[str, Any],
        *,
        embodiment_tag: str | None = None,
        embodiment_ids: Mapping[str, int] | None = None,
        where: object = "processor_config.json",
    ) -> "ProcessorConfig":
        """Read the JSON form; the tag may be left out when the file names it or holds only one.

        Raises CheckpointError for settings that this code does not have, ConfigError for values that cannot be.
        """
        file = validate(_File, value, where, hint=_HINT, fault=CheckpointError)
        kwargs, ours = value["processor_kwargs"], file.svms
        unknown = [name for name in kwargs if name not in (*_PLAIN, *_IMAGES, "modality_configs") and kwargs[name]]
        if unknown:
            raise CheckpointError(where, got=", ".join(unknown), want="only settings of N1.6", hint=_HINT)
        configs = {
            tag: EmbodimentConfig.from_dict(config, f"modality_configs.{tag}")
            for tag, config in kwargs["modality_configs"].items()
        }
        tag = embodiment_tag or ours.embodiment_tag or (next(iter(configs)) if len(configs) == 1 else None)
        if tag is None:
            want = f"an embodiment tag among {', '.join(configs)}"
            raise CheckpointError(where, got="several embodiments", want=want, hint="Pass embodiment_tag")
        plain = {name: kwargs[name] for name in _PLAIN if kwargs.get(name) is not None}
        ids = dict(embodiment_ids) if embodiment_ids is not None else dict(EMBODIMENT_IDS)
        ids = filled(dict[str, int], ids, "embodiment_id.json", hint=_HINT, fault=CheckpointError)
        plain |= {"min_max_embedding_keys": {t: tuple(n) for t, n in ours.min_max_embedding_keys.items()}}
        plain |= {"clock_steps": ours.clock_steps}
        images = _images(kwargs, ours.image_target)
        return cls(embodiment_tag=tag, embodiments=configs, embodiment_ids=ids, images=images, **plain)

    def by_range(self, statistics: Mapping[str, Any]) -> dict[str, Any]:
        """Statistics of all robots with the percentiles of `min_max_embedding_keys` moved out to minimum and maximum.

        So that what is saved means the same to every reader: N1.6 knows no such list, but the numbers. Without
        `use_percentiles` nothing is moved.
        """
        result = {tag: dict(kinds) for tag, kinds in statistics.items()}
        for tag, names in self.min_max_embedding_keys.items() if self.use_percentiles else ():
            for kind, key in (name.split(".", 1) for name in names):
                summary = result.get(tag, {}).get(kind, {}).get(key)
                if summary is not None:
                    result[tag][kind] = {**result[tag][kind], key: by_range(summary)}
        return result


def _check_keys(robots: Mapping[str, EmbodimentConfig], tag: str, names: Sequence[str]) -> None:
    """Every name is a state or action key of that robot, and normalised by a range."""
    where, hint = "min_max_embedding_keys", "Name them as in modality.json: action.base_motion"
    if tag not in robots:
        raise ConfigError(where, got=tag, want=f"robots among {', '.join(robots)}", hint=hint)
    for name in names:
        kind, _, key = name.partition(".")
        known = {"state": robots[tag].state, "action": robots[tag].action}
        ranged = [f"{k}.{n}" for k, m in known.items() for n in m.modality_keys if n not in m.mean_std_embedding_keys]
        if name not in ranged:
            spread = kind in known and key in known[kind].mean_std_embedding_keys
            got = f"{name}, which is normalised by mean and deviation" if spread else name
            raise ConfigError(where, got=got, want=f"keys among {', '.join(ranged)}", hint=hint)


def known_robots(folder: Path | str) -> tuple[str, ...]:
    """Embodiment tags that a checkpoint folder has settings for. Raises CheckpointError when it names none."""
    file = Path(folder) / "processor_config.json"
    value = read_json(_File, file, want="processor settings of N1.6", hint=_HINT, fault=CheckpointError)
    tags = tuple(value.processor_kwargs.modality_configs)
    if not tags:
        raise CheckpointError(file, got="no modality_configs", want="at least one robot", hint=_HINT)
    return tags


def _images(kwargs: Mapping[str, Any], target: int | None) -> ImagePipeline:
    given = kwargs.get("color_jitter_params") or dict.fromkeys(_JITTER, 0.0)
    short, fraction = kwargs.get("shortest_image_edge"), kwargs.get("crop_fraction")
    resized, cropped = kwargs.get("image_target_size"), kwargs.get("image_crop_size")
    # Older N1.6 files say the same by sizes: crop to image_crop_size, then back to image_target_size.
    if short is None and resized:
        short = min(resized)
    if fraction is None and resized and cropped:
        fraction = min(cropped) / min(resized)
    return ImagePipeline(
        short_side=256 if short is None else int(short),
        crop_fraction=0.95 if fraction is None else float(fraction),
        target=target,
        jitter=ColorJitter(**{name: float(given.get(name) or 0.0) for name in _JITTER}),
        max_angle=float(kwargs.get("random_rotation_angle") or 0.0),
    )
