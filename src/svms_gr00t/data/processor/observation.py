"""What a policy is told about the world: camera frames, robot state and an instruction, for a batch of robots.

Axes: B robots, T past steps (1 for N1.6), H and W pixels, D numbers of a state key.
Source of the flat and nested forms: the N1.6 policy server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Never

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.processor.embodiment import EmbodimentConfig

_FLAT = "Flat keys are video.<camera>, state.<key> and annotation.<key>"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One observation of each of B robots. Raises DataError for wrong shapes, types, NaN or batch sizes."""

    video: dict[str, np.ndarray]
    """Camera -> uint8 (B, T, H, W, 3), RGB, upright."""
    state: dict[str, np.ndarray]
    """State key -> float32 (B, T, D) in physical units."""
    language: tuple[str, ...]
    """One instruction for each robot."""

    def __post_init__(self) -> None:
        if not self.language or not all(isinstance(text, str) for text in self.language):
            _refuse("language", f"{self.language!r}", "one instruction string for each robot")
        for key, frames in self.video.items():
            _check_frames(f"video.{key}", frames, len(self.language))
        for key, numbers in self.state.items():
            _check_numbers(f"state.{key}", numbers, len(self.language))

    def __len__(self) -> int:
        """Number of robots."""
        return len(self.language)

    @classmethod
    def single(cls, *, video: Mapping[str, Any], state: Mapping[str, Any], language: str) -> "Observation":
        """One robot now: frames (H, W, 3) and states (D,)."""
        return cls(
            video={key: np.asarray(frame)[None, None] for key, frame in video.items()},
            state={key: _float32(np.asarray(numbers))[None, None] for key, numbers in state.items()},
            language=(language,),
        )

    @classmethod
    def from_flat(cls, values: Mapping[str, Any], *, language_key: str | None = None) -> "Observation":
        """From `video.x`, `state.y` and `annotation.z` keys; `language_key` picks among several annotations."""
        texts = {key: text for key, text in values.items() if key.startswith(("annotation.", "language."))}
        parts: dict[str, dict[str, Any]] = {"video": {}, "state": {}}
        for key, value in values.items():
            kind, _, name = key.partition(".")
            if kind in parts and name:
                parts[kind][name] = value
            elif key not in texts:
                _refuse("observation", f"key {key!r}", "keys video.*, state.* and annotation.*", _FLAT)
        return cls.from_nested({**parts, "language": texts}, language_key=language_key)

    @classmethod
    def from_nested(cls, values: Mapping[str, Any], *, language_key: str | None = None) -> "Observation":
        """From {"video": {...}, "state": {...}, "language": {key: [[text]]}}, the wire form of N1.6."""
        if missing := [kind for kind in ("video", "state", "language") if not isinstance(values.get(kind), Mapping)]:
            _refuse("observation", f"no mapping {', '.join(missing)}", "video, state and language", _FLAT)
        return cls(
            video={key: np.asarray(frames) for key, frames in values["video"].items()},
            state={key: _float32(np.asarray(numbers)) for key, numbers in values["state"].items()},
            language=_texts(values["language"], language_key),
        )

    def check(self, config: EmbodimentConfig, *, video: bool = True) -> None:
        """Raises DataError, listing what the embodiment needs, when a key or a number of past steps is wrong."""
        parts = (("video", self.video, config.video), ("state", self.state, config.state))
        for kind, given, wanted in parts if video else parts[1:]:
            if missing := [key for key in wanted.modality_keys if key not in given]:
                got = f"no {', '.join(missing)} (only {', '.join(given) or 'nothing'})"
                _refuse(f"observation {kind}", got, f"keys {', '.join(wanted.modality_keys)}", _FLAT)
            for key in wanted.modality_keys:
                if given[key].shape[1] != wanted.horizon:
                    got, want = f"{given[key].shape[1]} steps", f"{wanted.horizon} (delta {wanted.delta_indices})"
                    _refuse(f"observation {kind}.{key}", got, want)

    def split(self) -> "list[Observation]":
        """One observation for each robot, batch size 1."""
        return [
            Observation(
                video={key: frames[i : i + 1] for key, frames in self.video.items()},
                state={key: numbers[i : i + 1] for key, numbers in self.state.items()},
                language=(text,),
            )
            for i, text in enumerate(self.language)
        ]


def _refuse(where: str, got: str, want: str, hint: str = "See the modality config of the checkpoint") -> Never:
    raise DataError(where, got=got, want=want, hint=hint)


def _check_frames(where: str, frames: np.ndarray, batch: int) -> None:
    want = f"uint8 ({batch}, T, H, W, 3)"
    if frames.dtype != np.uint8:
        _refuse(where, f"{frames.dtype} {frames.shape}", want, "Frames are 0..255, not scaled")
    if frames.ndim != 5 or frames.shape[0] != batch or frames.shape[-1] != 3 or 0 in frames.shape:
        _refuse(where, f"{frames.dtype} {frames.shape}", want, "Axes are robot, past step, row, column, RGB")


def _check_numbers(where: str, numbers: np.ndarray, batch: int) -> None:
    want = f"float32 ({batch}, T, D)"
    if numbers.dtype != np.float32 or numbers.ndim != 3 or numbers.shape[0] != batch or 0 in numbers.shape:
        _refuse(where, f"{numbers.dtype} {numbers.shape}", want, "Axes are robot, past step, number")
    if not np.isfinite(numbers).all():
        _refuse(where, "NaN or infinity", "finite numbers", "Check the sensor that fills this key")


def _float32(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.float32) if numbers.dtype == np.float64 else numbers


def _texts(language: Mapping[str, Any], key: str | None) -> tuple[str, ...]:
    if key is None and len(language) == 1:
        key = next(iter(language))
    if key is None or key not in language:
        want = f"the instruction under {key}" if key else "exactly one instruction key"
        _refuse("observation language", f"keys {', '.join(language) or 'none'}", want, _FLAT)
    value = language[key]
    if isinstance(value, str):
        return (value,)
    # The wire nests texts as (B, T); the last step is the instruction in force.
    return tuple(str(text) if isinstance(text, str) else str(text[-1]) for text in value)
