"""Physical numbers to the model's range and back, each forward with its inverse, in float64.

Axes: any leading axes, then D elements; bounds are (D,), or (H, D) for relative actions (one row a horizon step).

    min-max   y = 2 (x - low) / (high - low) - 1     a constant element (high = low) becomes 0, and comes back as low
    mean/std  y = (x - mean) / std                   a constant element becomes 0, and comes back as mean
    sin/cos   y = [sin x, cos x]                     comes back in (-pi, pi]

The inverse of min-max clips to [-1, 1] first, as N1.6 does: a prediction never leaves the range seen in training.
Constant is what rounding leaves of a constant, too (`still`): N1.6 would blow those last bits up to the whole range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from svms_gr00t.core.errors import DataError

STILL = 1e-6
"""A range, or a deviation, of at most this share of the values (or of 1, where they are smaller) is no motion."""
_HINT = "Compute statistics over the dataset that you train on"


def still(low: np.ndarray | float, high: np.ndarray | float) -> Bool[np.ndarray, "*n"]:
    """Elements whose range [low, high] is empty but for rounding: float32 resolves 1e-7 of a value."""
    return np.asarray(np.subtract(high, low) <= STILL * np.maximum(1.0, np.maximum(np.abs(low), np.abs(high))))


@runtime_checkable
class Normalizer(Protocol):
    """One invertible map of a key's numbers."""

    @property
    def width(self) -> int:
        """Numbers in."""
        ...

    @property
    def encoded_width(self) -> int:
        """Numbers out."""
        ...

    def encode(self, x: Float[np.ndarray, "*n D"]) -> Float[np.ndarray, "*n E"]: ...

    def decode(self, y: Float[np.ndarray, "*n E"]) -> Float[np.ndarray, "*n D"]: ...


@dataclass(frozen=True, kw_only=True)
class MinMax:
    """Affine map of [low, high] to [-1, 1]."""

    low: np.ndarray
    """Value that becomes -1."""
    high: np.ndarray
    """Value that becomes 1."""
    clip: bool = True
    """Cut what lies outside to -1 or 1 when encoding."""

    @property
    def width(self) -> int:
        return self.low.shape[-1]

    encoded_width = width

    def encode(self, x: Float[np.ndarray, "*n D"]) -> Float[np.ndarray, "*n D"]:
        varies, span = self._span
        y = 2 * (x - self.low) / span - 1
        y = y if varies is None else np.where(varies, y, 0.0)
        return np.minimum(np.maximum(y, -1), 1) if self.clip else y

    @cached_property
    def _span(self) -> tuple[np.ndarray | None, np.ndarray]:
        """Where the range is not empty (None: everywhere), and its length there."""
        varies = ~still(self.low, self.high)
        return None if varies.all() else varies, np.where(varies, self.high - self.low, 1.0)

    def decode(self, y: Float[np.ndarray, "*n D"]) -> Float[np.ndarray, "*n D"]:
        return (y.clip(-1, 1).astype(np.float64) + 1) / 2 * (self.high - self.low) + self.low


@dataclass(frozen=True, kw_only=True)
class MeanStd:
    """Zero mean and unit variance."""

    mean: np.ndarray
    """Value that becomes 0."""
    std: np.ndarray
    """Distance that becomes 1."""
    clip: bool = False
    """Cut what lies further than one deviation when encoding (N1.6 does so for actions)."""

    @property
    def width(self) -> int:
        return self.mean.shape[-1]

    encoded_width = width

    def encode(self, x: Float[np.ndarray, "*n D"]) -> Float[np.ndarray, "*n D"]:
        varies = self.std > STILL * np.maximum(1.0, np.abs(self.mean))
        y = np.where(varies, (x - self.mean) / np.where(varies, self.std, 1.0), 0.0)
        return y.clip(-1, 1) if self.clip else y

    def decode(self, y: Float[np.ndarray, "*n D"]) -> Float[np.ndarray, "*n D"]:
        return y.astype(np.float64) * self.std + self.mean


@dataclass(frozen=True, kw_only=True)
class SinCos:
    """Angles in radians as points on the circle: all sines, then all cosines."""

    width: int
    """Number of angles."""

    @property
    def encoded_width(self) -> int:
        return 2 * self.width

    def encode(self, x: Float[np.ndarray, "*n D"]) -> Float[np.ndarray, "*n E"]:
        return np.concatenate([np.sin(x), np.cos(x)], axis=-1)

    def decode(self, y: Float[np.ndarray, "*n E"]) -> Float[np.ndarray, "*n D"]:
        sines, cosines = np.split(y.astype(np.float64), 2, axis=-1)
        return np.arctan2(sines, cosines)


def min_max(summary: Mapping[str, Any], where: str, *, percentiles: bool, clip: bool) -> MinMax:
    """From the statistics of one key; `percentiles` takes q01 and q99 for the bounds. Raises DataError."""
    low, high = (_column(summary, name, where) for name in (("q01", "q99") if percentiles else ("min", "max")))
    if low.shape != high.shape or (high < low).any():
        raise DataError(where, got="a maximum below its minimum", want="min <= max for each element", hint=_HINT)
    return MinMax(low=low, high=high, clip=clip)


def by_range(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The statistics of a key that even readers of percentiles normalise by its whole range: q01, q99 = min, max."""
    return {**summary, "q01": summary["min"], "q99": summary["max"]}


def mean_std(summary: Mapping[str, Any], where: str, *, clip: bool = False) -> MeanStd:
    """From the statistics of one key. Raises DataError."""
    mean, std = _column(summary, "mean", where), _column(summary, "std", where)
    if mean.shape != std.shape or (std < 0).any():
        raise DataError(where, got="a negative or missing deviation", want="std >= 0 for each element", hint=_HINT)
    return MeanStd(mean=mean, std=std, clip=clip)


def sin_cos(summary: Mapping[str, Any], where: str) -> SinCos:
    """Only the width is taken from the statistics. Raises DataError."""
    return SinCos(width=_column(summary, "min", where).shape[-1])


def _column(summary: Mapping[str, Sequence[Any]], name: str, where: str) -> np.ndarray:
    if name not in summary:
        raise DataError(where, got=f"statistics {', '.join(summary) or 'none'}", want=name, hint=_HINT)
    try:
        column = np.asarray(summary[name], dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{where}.{name}", got="ragged or non-numeric values", want="numbers", hint=_HINT) from error
    if column.ndim == 0 or column.size == 0 or not np.isfinite(column).all():
        raise DataError(f"{where}.{name}", got="no values, NaN or infinity", want="finite numbers", hint=_HINT)
    return column
