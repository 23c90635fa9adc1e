"""`meta/modality.json`: which slice of which column is called what (the GR00T flavour of LeRobot).

    state|action.<key>  -> columns[original_key][start:end]     default column `observation.state` | `action`
    video.<key>         -> video feature original_key           default `observation.images.<key>`
    annotation.<key>    -> column of task indices, original_key default `annotation.<key>`
    annotation.watched  -> column of truth values: a demonstration was shown, at the beginning of the episode

Source: the data preparation guide of Isaac-GR00T N1.6. Never slice by position elsewhere: two public 12-D action orders
are both called RoboCasa, and only this file tells them apart.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from svms_gr00t.core.files.documents import read_json, validate

Kind = Literal["state", "action", "video", "annotation"]

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
_HINT = "See docs/data.md for the fields of modality.json"
_ROTATION = r"^(axis_angle|quaternion|rotation_6d|matrix|euler_angles_(rpy|ryp|pry|pyr|yrp|ypr))$"

# Where datasets keep the instruction, best first: GR00T's own name, then RoboCasa365's.
_INSTRUCTION_KEYS = ("human.action.task_description", "human.task_description", "human.coarse_action")


WATCHED_KEY = "watched"
"""The annotation whose column is true at steps that a robot was shown and did not do itself."""


class LowDim(BaseModel):
    """One named slice of a numeric column."""

    model_config = _STRICT
    start: Annotated[int, Field(ge=0)]
    """First element, inclusive."""
    end: Annotated[int, Field(ge=1)]
    """Last element, exclusive."""
    original_key: str | None = None
    """Parquet column; None means the default of its kind."""
    rotation_type: Annotated[str, Field(pattern=_ROTATION)] | None = None
    """How a rotation is written, None for plain numbers."""
    absolute: bool = True
    """False when the values are differences from the current state."""
    dtype: str = "float64"
    """Stored number type, for information; we read float32 and float64 alike."""
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Known [low, high] of the values."""

    @model_validator(mode="after")
    def _ordered(self) -> "LowDim":
        if self.end <= self.start:
            raise ValueError("an end greater than start")
        return self

    @property
    def width(self) -> int:
        """Number of elements in the slice."""
        return self.end - self.start


class Source(BaseModel):
    """A video or annotation under its dataset name."""

    model_config = _STRICT
    original_key: str | None = None
    """Feature or column; None means the default of its kind."""


class Modality(BaseModel):
    """The whole file. Key order is kept: it is the order of concatenation when nothing else says so."""

    model_config = _STRICT
    state: dict[str, LowDim] = {}
    action: dict[str, LowDim] = {}
    video: dict[str, Source] = {}
    annotation: dict[str, Source] = {}

    @classmethod
    def load(cls, path: Path) -> "Modality":
        """Read the file. Raises DataError when it is missing, broken or has unknown fields."""
        want = "the GR00T description of the columns, meta/modality.json"
        hint = "Write one that names the slices of observation.state and action, the cameras and the instruction column"
        return read_json(cls, path, want=want, hint=hint)

    @classmethod
    def from_dict(cls, value: dict[str, Any], where: object = "modality") -> "Modality":
        """Check a mapping of the file's form. Raises DataError."""
        return validate(cls, value, where, hint=_HINT)

    def to_dict(self) -> dict[str, Any]:
        """The shortest mapping that reads back as this value."""
        return self.model_dump(exclude_defaults=True)

    def column(self, kind: Kind, key: str) -> str:
        """Dataset column or video feature of `kind.key`. Raises KeyError for an unknown key."""
        entries: dict[str, Any] = getattr(self, kind)
        if key not in entries:
            raise KeyError(f"{kind}.{key} is not in modality.json; it has {', '.join(entries) or 'none'}")
        defaults = {"state": "observation.state", "action": "action"}
        prefixes = {"video": "observation.images.", "annotation": "annotation."}
        return entries[key].original_key or defaults.get(kind) or prefixes[kind] + key

    @property
    def instruction_key(self) -> str | None:
        """The annotation that holds the instruction, or None when the dataset names none."""
        for key in _INSTRUCTION_KEYS:
            if key in self.annotation:
                return key
        return next((key for key in self.annotation if key.endswith(("task_description", "instruction"))), None)
