"""Which cameras, states, actions and instruction a robot has, in the order in which the model sees them.

The JSON form is that of `modality_configs` in an N1.6 `processor_config.json`: enumeration names in capitals, null for
an absent list. Source: GR00T N1.6 modality configs; RoboCasa's public converter for `robocasa_panda_omron`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.files.documents import filled
from svms_gr00t.data.lerobot.modality import Modality

EMBODIMENT_IDS: dict[str, int] = {
    "oxe_google": 0,
    "oxe_widowx": 1,
    "libero_panda": 2,
    "unitree_g1": 8,
    "new_embodiment": 10,
    "robocasa_panda_omron": 13,
    "oxe_droid": 16,
    "gr1": 20,
    "behavior_r1_pro": 24,
}
"""Row of the embodiment-specific weights of the released checkpoint."""


def known_tag(tag: str, known: Iterable[str]) -> str:
    """The tag among `known` that `tag` means: itself, or in other letters (ROBOCASA_PANDA_OMRON); else `tag`."""
    names = set(known)
    alike = [name for name in names if name.lower() == tag.lower()]
    return alike[0] if tag not in names and len(alike) == 1 else tag


Representation = Literal["absolute", "relative", "delta"]
ActionType = Literal["eef", "non_eef"]
ActionFormat = Literal["default", "xyz+rot6d", "xyz+rotvec"]
_NAMES: dict[str, tuple[str, ...]] = {
    "rep": ("absolute", "relative", "delta"),
    "type": ("eef", "non_eef"),
    "format": ("default", "xyz+rot6d", "xyz+rotvec"),
}


_FARTHEST = 100_000
_HINT = "Use a processor_config.json of GR00T N1.6 or of this package"


def _refuse_no_object(value: Any, where: str) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(where, got=value, want="a JSON object", hint=_HINT)


def _upper(value: str) -> str:
    return value.upper().replace("+", "_")


@dataclass(frozen=True, kw_only=True)
class ActionConfig:
    """What the numbers of one action key mean."""

    rep: Representation = "absolute"
    """relative: the model learns the difference from the state. absolute and delta pass through unchanged."""
    type: ActionType = "non_eef"
    """eef: a pose, whose difference is taken in the reference frame."""
    format: ActionFormat = "default"
    """How a pose is written."""
    state_key: str | None = None
    """State that relative actions refer to; None means the state of the same name."""

    def __post_init__(self) -> None:
        if self.rep == "relative" and self.type == "eef" and self.format == "default":
            hint = "Say how the pose is written"
            raise ConfigError("action format", got=self.format, want="xyz+rot6d or xyz+rotvec", hint=hint)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "ActionConfig":
        """Accepts names (XYZ_ROT6D) and values (xyz+rot6d). Raises ConfigError or DataError for others."""
        _refuse_no_object(value, "action_configs")
        chosen: dict[str, Any] = {"state_key": value.get("state_key")}
        for field, options in _NAMES.items():
            by_name = {_upper(option): option for option in options}
            given = _upper(str(value.get(field, options[0] if field != "type" else "non_eef")))
            if given not in by_name:
                hint = "See the action_configs of that embodiment"
                raise ConfigError(f"action_configs.{field}", got=value[field], want=" or ".join(by_name), hint=hint)
            chosen[field] = by_name[given]
        return filled(cls, chosen, "action_configs", hint=_HINT)

    def to_dict(self) -> dict[str, Any]:
        """The N1.6 JSON form."""
        names = {field: _upper(getattr(self, field)) for field in _NAMES}
        return {**names, "state_key": self.state_key}


@dataclass(frozen=True, kw_only=True)
class ModalityConfig:
    """What is read of one modality at one step."""

    delta_indices: tuple[int, ...] = (0,)
    """Steps relative to the current one; an action horizon of 16 is 0..15."""
    modality_keys: tuple[str, ...]
    """Keys in the order of concatenation."""
    sin_cos_embedding_keys: tuple[str, ...] = ()
    """States written as sines and cosines when the processor enables it."""
    mean_std_embedding_keys: tuple[str, ...] = ()
    """Keys normalised by mean and deviation instead of range."""
    action_configs: tuple[ActionConfig, ...] = ()
    """One for each action key; empty means absolute numbers."""

    def __post_init__(self) -> None:
        if not self.modality_keys or len(set(self.modality_keys)) != len(self.modality_keys):
            hint = "Name each key once"
            raise ConfigError("modality_keys", got=self.modality_keys, want="distinct keys, at least one", hint=hint)
        if not self.delta_indices or max(map(abs, self.delta_indices)) > _FARTHEST:
            want = f"at least one step, none more than {_FARTHEST:,} away"
            raise ConfigError("delta_indices", got=self.delta_indices, want=want, hint="(0,) is the current step")
        if self.action_configs and len(self.action_configs) != len(self.modality_keys):
            got, want = len(self.action_configs), f"one for each of {len(self.modality_keys)} keys"
            raise ConfigError("action_configs", got=got, want=want, hint="Or leave it out for absolute actions")

    @property
    def horizon(self) -> int:
        """Number of steps read."""
        return len(self.delta_indices)

    @property
    def names(self) -> tuple[str, ...]:
        """What one observation holds, in the model's order: every key at the first offset, then at the next."""
        named = [(key, offset) for offset in self.delta_indices for key in self.modality_keys]
        return tuple(f"{key} ({offset:+d})" if offset else key for key, offset in named)

    def action(self, key: str) -> ActionConfig:
        """Meaning of one action key."""
        return self.action_configs[self.modality_keys.index(key)] if self.action_configs else ActionConfig()

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], where: str = "modality_configs") -> "ModalityConfig":
        """Read the N1.6 JSON form. Raises ConfigError for unknown or missing fields, DataError for other types."""
        _refuse_no_object(value, where)
        known = [field.name for field in fields(cls)]
        if unknown := set(value) - set(known):
            raise ConfigError(where, got=sorted(unknown), want=f"only {', '.join(known)}", hint="Remove the others")
        if not isinstance(value.get("modality_keys"), list | tuple):
            raise ConfigError(where, got=value.get("modality_keys"), want="a list modality_keys", hint="Name the keys")
        given: dict[str, Any] = {name: () if value.get(name) is None else value[name] for name in known}
        if isinstance(given["action_configs"], list | tuple):
            given["action_configs"] = [vars(ActionConfig.from_dict(action)) for action in given["action_configs"]]
        return filled(cls, given, where, hint=_HINT)

    def to_dict(self) -> dict[str, Any]:
        """The N1.6 JSON form."""
        return {
            "delta_indices": list(self.delta_indices),
            "modality_keys": list(self.modality_keys),
            "sin_cos_embedding_keys": list(self.sin_cos_embedding_keys) or None,
            "mean_std_embedding_keys": list(self.mean_std_embedding_keys) or None,
            "action_configs": [action.to_dict() for action in self.action_configs] or None,
        }


@dataclass(frozen=True, kw_only=True)
class EmbodimentConfig:
    """All modalities of one robot."""

    video: ModalityConfig
    """Cameras."""
    state: ModalityConfig
    """Proprioception."""
    action: ModalityConfig
    """Commands; as many delta indices as the horizon."""
    language: ModalityConfig
    """The instruction; its key starts with "annotation."."""

    def __post_init__(self) -> None:
        for key in self.action.modality_keys:
            action = self.action.action(key)
            reference = action.state_key or key
            if action.rep == "relative" and reference not in self.state.modality_keys:
                want = f"a state_key among {', '.join(self.state.modality_keys)}"
                raise ConfigError(f"action {key}", got=reference, want=want, hint="Relative actions need their state")

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], where: str = "modality_configs") -> "EmbodimentConfig":
        """Read the N1.6 JSON form. Raises ConfigError for unknown or missing modalities, DataError for other types."""
        _refuse_no_object(value, where)
        names = [field.name for field in fields(cls)]
        if set(value) != set(names):
            raise ConfigError(where, got=sorted(value), want=", ".join(names), hint="Each embodiment needs these four")
        return cls(**{name: ModalityConfig.from_dict(value[name], f"{where}.{name}") for name in names})

    def to_dict(self) -> dict[str, Any]:
        """The N1.6 JSON form."""
        return {field.name: getattr(self, field.name).to_dict() for field in fields(self)}


def _steps(horizon: int) -> tuple[int, ...]:
    return tuple(range(horizon))


_OMRON_ACTIONS = ("end_effector_position", "end_effector_rotation", "gripper_close", "base_motion", "control_mode")
_OMRON_STATES = (
    *("end_effector_position_relative", "end_effector_rotation_relative", "gripper_qpos"),
    *("base_position", "base_rotation"),
)

ROBOCASA_PANDA_OMRON = EmbodimentConfig(
    video=ModalityConfig(modality_keys=("res256_image_side_0", "res256_image_side_1", "res256_image_wrist_0")),
    state=ModalityConfig(modality_keys=_OMRON_STATES),
    action=ModalityConfig(
        delta_indices=_steps(16), modality_keys=_OMRON_ACTIONS, action_configs=(ActionConfig(),) * len(_OMRON_ACTIONS)
    ),
    language=ModalityConfig(modality_keys=("annotation.human.action.task_description",)),
)
"""RoboCasa's Panda on an Omron base: its actions already are differences, so they pass through."""


def from_modality(
    modality: Modality,
    *,
    horizon: int = 16,
    views: Sequence[str] | None = None,
    states: Sequence[str] | None = None,
    actions: Sequence[str] | None = None,
) -> EmbodimentConfig:
    """Absolute actions and every key of a dataset's modality.json, or the named ones in the order given.

    Raises DataError when a name is not in the dataset, or when it lacks a camera, state, action or instruction.
    """
    language = modality.instruction_key
    if language is None:
        hint = "Add annotation human.action.task_description to modality.json"
        raise DataError("modality.json", got="no instruction column", want="an annotation of the task", hint=hint)
    chosen = {
        "video": _choose("video", modality.video, views),
        "state": _choose("state", modality.state, states),
        "action": _choose("action", modality.action, actions),
    }
    return EmbodimentConfig(
        video=ModalityConfig(modality_keys=chosen["video"]),
        state=ModalityConfig(modality_keys=chosen["state"]),
        action=ModalityConfig(
            delta_indices=_steps(horizon),
            modality_keys=chosen["action"],
            action_configs=(ActionConfig(),) * len(chosen["action"]),
        ),
        language=ModalityConfig(modality_keys=(f"annotation.{language}",)),
    )


def _choose(kind: str, present: Mapping[str, Any], names: Sequence[str] | None) -> tuple[str, ...]:
    chosen = tuple(present if names is None else names)
    missing = [name for name in chosen if name not in present]
    if missing or not chosen:
        want = f"names among {', '.join(present) or 'none'}" if missing else f"at least one {kind} key"
        got = f"{kind} {', '.join(missing) or 'keys: none'}"
        raise DataError("modality.json", got=got, want=want, hint="See the dataset's meta/modality.json")
    return chosen
