"""What a policy is told about the world: camera frames, robot state and an instruction, for a batch of robots.

Axes: B robots, T past steps (1 for most robots), H and W pixels, D numbers of a state key.

Here is what an observation must be; how others write it down is read in `request.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Never

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.history import STEP
from svms_gr00t.data.lerobot.modality import Kind, Modality
from svms_gr00t.data.pictures import as_uint8_rgb
from svms_gr00t.data.processor.embodiment import EmbodimentConfig


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One observation of each of B robots. Raises DataError for wrong shapes, types, NaN or batch sizes."""

    video: dict[str, np.ndarray]
    """Camera -> uint8 (B, T, H, W, 3), RGB, upright."""
    state: dict[str, np.ndarray]
    """State key -> float32 (B, T, D) in physical units."""
    language: tuple[str, ...]
    """One instruction for each robot."""
    step: tuple[int, ...] | None = None
    """Step of each robot's environment since its episode began, where the caller said it."""

    def __post_init__(self) -> None:
        if not self.language or not all(isinstance(text, str) for text in self.language):
            _refuse("language", f"{self.language!r}", "one instruction string for each robot")
        for key, frames in self.video.items():
            check_frames(f"video.{key}", frames, len(self.language))
        for key, numbers in self.state.items():
            check_numbers(f"state.{key}", numbers, len(self.language))
        if self.step is not None and (len(self.step) != len(self.language) or min(self.step) < 0):
            _refuse(STEP, f"{self.step}", f"{len(self.language)} whole numbers from 0", "One for each robot")

    def __len__(self) -> int:
        """Number of robots."""
        return len(self.language)

    @classmethod
    def single(cls, *, video: Mapping[str, Any], state: Mapping[str, Any], language: str) -> "Observation":
        """One robot: frames (H, W, 3) and states (D,) of now, or (T, ...) of its past steps as well."""
        return cls(
            video={key: one_robot(np.asarray(frames), 3) for key, frames in video.items()},
            state={key: one_robot(_float32(np.asarray(numbers)), 1) for key, numbers in state.items()},
            language=(language,),
        )

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any], modality: Modality, language: Sequence[str]) -> "Observation":
        """B robots of now from a dataset's own columns, arrays or tensors, as LeRobot's batches hold them.

        Pictures are (B, H, W, 3) or (B, 3, H, W), bytes or fractions of one; vectors are (B, D). Columns that are not
        there are left out. Raises DataError for other shapes and types, and for another number of robots.
        """
        video, want = {}, f"({len(language)}, height, width, 3) or ({len(language)}, 3, height, width)"
        for key in modality.video:
            name = modality.column("video", key)
            if name not in columns:
                continue
            frames = as_uint8_rgb(name, _host(columns[name]), want=want)
            if frames.ndim != 4:
                _refuse(name, f"shape {frames.shape}", want)
            video[key] = frames[:, None]
        state = {key: values[:, None] for key, values in by_key(columns, modality, "state").items()}
        return cls(video=video, state=state, language=tuple(language))

    def check(self, config: EmbodimentConfig, *, video: bool = True) -> None:
        """Raises DataError, listing what the embodiment needs, when a key or a number of past steps is wrong."""
        parts = (("video", self.video, config.video), ("state", self.state, config.state))
        for kind, given, wanted in parts if video else parts[1:]:
            if missing := [key for key in wanted.modality_keys if key not in given]:
                got = f"no {', '.join(missing)} (only {', '.join(given) or 'nothing'})"
                _refuse(f"observation {kind}", got, f"keys {', '.join(wanted.modality_keys)}")
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
                step=None if self.step is None else self.step[i : i + 1],
            )
            for i, text in enumerate(self.language)
        ]


def one_robot(values: np.ndarray, axes: int) -> np.ndarray:
    """Values with `axes` axes, or one more for past steps, as those of one robot: (1, T, ...)."""
    return values[None] if values.ndim > axes else values[None, None]


def check_frames(where: str, frames: np.ndarray, batch: int, steps: int | str = "T") -> None:
    """Raises DataError unless these are pictures of `batch` robots at `steps` past steps ("T" is any number)."""
    want = frames_wanted(batch, steps)
    if frames.dtype != np.uint8:
        _refuse(where, f"{frames.dtype} {frames.shape}", want, "Frames are RGB, 0 .. 255, not scaled")
    if frames.ndim != 5 or not _leads(frames, batch, steps) or frames.shape[-1] != 3 or 0 in frames.shape:
        _refuse(where, f"{frames.dtype} {frames.shape}", want, "Axes are robot, past step, row, column, RGB")


def frames_wanted(batch: int, steps: int | str) -> str:
    """The form of one camera's pictures."""
    return f"uint8 ({batch}, {steps}, height, width, 3)"


def check_numbers(where: str, numbers: np.ndarray, batch: int, steps: int | str = "T") -> None:
    """Raises DataError unless these are finite states of `batch` robots at `steps` past steps ("T" is any number)."""
    want = f"float32 ({batch}, {steps}, numbers)"
    if numbers.dtype != np.float32:
        _refuse(where, f"{numbers.dtype} {numbers.shape}", want, "Convert it with .astype(np.float32)")
    if numbers.ndim != 3 or not _leads(numbers, batch, steps) or 0 in numbers.shape:
        _refuse(where, f"{numbers.dtype} {numbers.shape}", want, "Axes are robot, past step, number")
    if not np.isfinite(numbers).all():
        _refuse(where, "NaN or infinity", f"finite {want}", "Check the sensor that fills this key")


def _leads(values: np.ndarray, batch: int, steps: int | str) -> bool:
    return values.shape[0] == batch and steps in ("T", values.shape[1])


def _float32(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.float32) if numbers.dtype == np.float64 else numbers


def _refuse(where: str, got: str, want: str, hint: str = "See the modality config of the checkpoint") -> Never:
    raise DataError(where, got=got, want=want, hint=hint)


def by_key(columns: Mapping[str, Any], modality: Modality, kind: Kind) -> dict[str, np.ndarray]:
    """The named slices of state or action vectors (..., D), float32; columns that are not there are left out.

    Raises DataError for a vector that is too short.
    """
    found = {}
    for key, part in getattr(modality, kind).items():
        name = modality.column(kind, key)
        if name not in columns:
            continue
        values = np.asarray(_host(columns[name]), np.float32)
        if values.ndim < 1 or values.shape[-1] < part.end:
            _refuse(name, f"shape {values.shape}", f"{part.end} or more numbers, for {kind}.{key}")
        found[key] = values[..., part.start : part.end]
    return found


def _host(values: Any) -> Any:
    """A tensor's numbers where numpy can see them; anything else as it is."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values
