"""How far a predicted action chunk is from the recorded one, so that keys with different units can be compared.

Axes: N chunks, H horizon, D elements of a key.

    normalised error   (prediction - truth) / half range of the element: the model's own [-1, 1] units
    physical error     |prediction - truth| in the key's unit
    binary keys        (gripper, mode) also as accuracy: the same side of the midpoint of the recorded range
    rotation keys      (as modality.json says, or where asked for) also as the geodesic angle between both, in radians

Elements that never change in the data carry no information and are left out; steps after an episode's end are masked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.data.processor.rotations import some_rotation

KeyKind = Literal["continuous", "binary", "rotation"]
BINARY_KEYS = ("gripper_close", "control_mode")


@dataclass(frozen=True, kw_only=True)
class KeySpec(JsonRecord):
    """How the errors of one action key are read."""

    kind: KeyKind
    half_range: tuple[float, ...]
    """(max - min) / 2 of each element in the training data; 0 marks an element that never changes."""
    midpoint: tuple[float, ...]
    """(max + min) / 2: the threshold of binary keys."""
    radians: float = 1.0
    """Radians for one unit of an axis-angle key; RoboCasa's delta rotations are in units of 0.5."""
    rotation: str = "axis_angle"
    """How a rotation key writes its rotation, in the words of modality.json."""

    @property
    def varying(self) -> Bool[ndarray, " D"]:
        """Elements that change in the data."""
        return np.array(self.half_range) > 1e-8


def key_specs(
    statistics: Mapping[str, Mapping[str, Any]],
    *,
    kinds: Mapping[str, KeyKind] | None = None,
    radians: float = 1.0,
    rotations: Mapping[str, str] | None = None,
) -> dict[str, KeySpec]:
    """Specs from `statistics["action"]` ({key: {"min": [...], "max": [...]}}).

    Keys named in BINARY_KEYS are binary and keys in `rotations` (key -> how it is written) are rotations unless `kinds`
    says otherwise. Raises ConfigError for unknown keys in `kinds`.
    """
    rotations = {key: form for key, form in (rotations or {}).items() if key in statistics}
    if unknown := sorted((kinds or {}).keys() - statistics.keys()):
        raise ConfigError("kinds", got=unknown, want=f"keys among {sorted(statistics)}", hint="Name action keys")
    known: dict[str, KeyKind] = {**dict.fromkeys(BINARY_KEYS, "binary"), **dict.fromkeys(rotations, "rotation")}
    known |= kinds or {}
    specs = {}
    for key, summary in statistics.items():
        low, high = np.asarray(summary["min"], dtype=float), np.asarray(summary["max"], dtype=float)
        specs[key] = KeySpec(
            kind=known.get(key, "continuous"),
            half_range=tuple(((high - low) / 2).tolist()),
            midpoint=tuple(((high + low) / 2).tolist()),
            radians=radians,
            rotation=rotations.get(key, "axis_angle"),
        )
    return specs


def valid_steps(length: int, steps: Sequence[int], horizon: int) -> Bool[ndarray, "N H"]:
    """True where a chunk that starts at `steps[n]` still lies inside an episode of `length` steps."""
    return np.asarray(steps)[:, None] + np.arange(horizon) < length


def cut_chunk(actions: Float[ndarray, "T D"], start: int, horizon: int) -> Float[ndarray, "H D"]:
    """`horizon` rows from `start`; past the end the last row repeats (and `valid_steps` masks it)."""
    return actions[np.minimum(start + np.arange(horizon), len(actions) - 1)]


@dataclass(frozen=True, kw_only=True)
class ChunkErrors:
    """Errors of N chunks for one key; NaN where masked or undefined."""

    squared: Float[ndarray, "N H"]
    """Normalised squared error, mean over varying elements."""
    absolute: Float[ndarray, "N H"]
    """Normalised absolute error, mean over varying elements."""
    physical: Float[ndarray, "N H"]
    """Absolute error in the key's unit, mean over all elements."""
    correct: Float[ndarray, "N H"]
    """Binary keys: share of elements on the right side of the midpoint."""
    angle: Float[ndarray, "N H"]
    """Rotation keys: geodesic distance in radians, in [0, π]."""


def chunk_errors(
    predicted: Float[ndarray, "N H D"], recorded: Float[ndarray, "N H D"], mask: Bool[ndarray, "N H"], spec: KeySpec
) -> ChunkErrors:
    """Errors of every chunk and step. `mask` is True where the recording has a step."""
    p, r = predicted.astype(np.float64), recorded.astype(np.float64)
    nothing = np.full(mask.shape, np.nan)
    squared = absolute = nothing
    if spec.varying.any():
        scaled = ((p - r) / np.where(spec.varying, spec.half_range, 1.0))[..., spec.varying]
        squared, absolute = np.square(scaled).mean(-1), np.abs(scaled).mean(-1)
    correct, angle = nothing, nothing
    if spec.kind == "binary":
        correct = ((p > spec.midpoint) == (r > spec.midpoint)).mean(-1)
    if spec.kind == "rotation":
        scale = spec.radians if spec.rotation == "axis_angle" else 1.0
        angle = geodesic(p * scale, r * scale, spec.rotation)
    kept = {"squared": squared, "absolute": absolute, "physical": np.abs(p - r).mean(-1), "correct": correct}
    return ChunkErrors(**{name: np.where(mask, value, np.nan) for name, value in (kept | {"angle": angle}).items()})


def geodesic(a: Float[ndarray, "*n D"], b: Float[ndarray, "*n D"], form: str = "axis_angle") -> Float[ndarray, "*n"]:
    """Angle of the rotation that takes one to the other, in [0, π]. Raises ConfigError for an unknown form or width."""
    turn = _rotation(a.reshape(-1, a.shape[-1]), form).inv() * _rotation(b.reshape(-1, b.shape[-1]), form)
    return turn.magnitude().reshape(a.shape[:-1])


_ROTATION_WIDTH = {"axis_angle": 3, "quaternion": 4, "rotation_6d": 6, "matrix": 9}


def _rotation(rows: Float[ndarray, "n D"], form: str) -> Rotation:
    """Quaternions are x, y, z, w; Euler angles turn about fixed axes in the order of their letters (r is x)."""
    want = 3 if form.startswith("euler_angles_") else _ROTATION_WIDTH.get(form)
    if want != rows.shape[-1]:
        got, hint = (
            f"{form} of {rows.shape[-1]} elements",
            "Check rotation_type in modality.json, or ask for other keys",
        )
        raise ConfigError("rotation key", got=got, want=f"one of {sorted(_ROTATION_WIDTH)} or Euler angles", hint=hint)
    if form == "axis_angle":
        return Rotation.from_rotvec(rows)
    if form == "quaternion":
        lost = np.linalg.norm(rows, axis=-1, keepdims=True) < 1e-9  # a policy may answer zero, which is no rotation
        return Rotation.from_quat(np.where(lost, [0.0, 0.0, 0.0, 1.0], rows))
    if form == "rotation_6d":
        return Rotation.from_matrix(some_rotation(rows))  # a policy may answer parallel rows, too
    if form == "matrix":
        return Rotation.from_matrix(rows.reshape(-1, 3, 3))
    letters = form.removeprefix("euler_angles_").translate(str.maketrans("rpy", "xyz"))
    return Rotation.from_euler(letters, rows)


def pooled(errors: Mapping[str, ndarray], specs: Mapping[str, KeySpec]) -> ndarray:
    """Mean over keys, each weighing its varying elements; equals the mean over all varying elements."""
    weights = {key: int(specs[key].varying.sum()) for key in errors if specs[key].varying.any()}
    if not weights:
        want, hint = "an action element that varies", "Use statistics of the training episodes"
        raise ConfigError("statistics", got="constants only", want=want, hint=hint)
    return np.sum([weights[key] * errors[key] for key in weights], axis=0) / sum(weights.values())


def known_mean(values: ndarray, axis: int | None = None) -> Any:
    """Mean over what was measured: NaN is skipped, and all-NaN stays NaN without a warning."""
    measured = np.isfinite(values)
    count = measured.sum(axis)
    total = np.where(measured, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def number(value: Any) -> float | None:
    """A float for JSON; None for NaN."""
    return None if not np.isfinite(value) else float(value)
