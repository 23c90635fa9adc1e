"""Exact statistics of the rows of a column, one episode at a time.

Axes: T steps of an episode, D elements of a column, H and W pixels.

Mean and variance merge by Chan, Golub and LeVeque (1979): with counts m, n and d = mean_n - mean_m,
    mean = mean_m + d n / (m + n),    M2 = M2_m + M2_n + d^2 m n / (m + n),    std = sqrt(M2 / (m + n)).
Quantiles are exact too (numpy's linear interpolation): the float32 values are kept, 4 bytes each, 180 MB for a million
steps of 44 numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from svms_gr00t.core.errors import DataError

Summary = dict[str, list[Any]]
"""min, max, mean, std, q01 and q99: (D,) numbers each, (H, D) for relative actions."""
QUANTILES = {"q01": 0.01, "q99": 0.99}
LEROBOT_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
"""What LeRobot from 0.4 on keeps of each episode; its own appended rows must have the same columns."""


class RunningSummary:
    """Statistics of the rows seen so far."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._m2 = np.zeros(0)
        self._chunks: list[np.ndarray] = []

    def update(self, rows: Shaped[np.ndarray, "T D"]) -> None:
        """Take in the rows of one episode. Raises DataError for NaN, infinity or another width."""
        if len(rows) == 0:
            return
        if not countable(rows).all():
            raise DataError("statistics", got="NaN or infinity", want="finite numbers", hint="Drop that episode")
        if self.count and rows.shape[1] != len(self._mean):
            got, want = f"rows of {rows.shape[1]} numbers", f"{len(self._mean)} as before"
            raise DataError("statistics", got=got, want=want, hint="Episodes of one dataset share their columns")
        block = rows.astype(np.float64)
        n, mean = len(block), block.mean(axis=0)
        m2 = np.square(block - mean).sum(axis=0)
        if self.count:
            total, delta = self.count + n, mean - self._mean
            mean = self._mean + delta * (n / total)
            m2 = self._m2 + m2 + np.square(delta) * (self.count * n / total)
        self.count, self._mean, self._m2 = self.count + n, mean, m2
        self._chunks.append(rows.astype(np.float32))

    def result(self, quantiles: Mapping[str, float] = QUANTILES) -> Summary:
        """The summary with these quantiles. Raises DataError when no row was seen."""
        if not self.count:
            raise DataError("statistics", got="no rows", want="at least one step", hint="Choose at least one episode")
        self._chunks = [np.concatenate(self._chunks)]  # one buffer, so that a second call is cheap
        values = self._chunks[0]
        columns = {"min": values.min(axis=0), "max": values.max(axis=0)}
        columns |= {"mean": self._mean, "std": np.sqrt(self._m2 / self.count)}
        for name, quantile in quantiles.items():
            columns[name] = np.array([np.quantile(column.astype(np.float64), quantile) for column in values.T])
        return {name: [float(number) for number in column] for name, column in columns.items()}


def counted(summary: RunningSummary) -> Summary:
    """LeRobot's form of an episode's or dataset's column: five quantiles and the number of rows."""
    return {**summary.result(LEROBOT_QUANTILES), "count": [summary.count]}


def countable(rows: np.ndarray) -> np.ndarray:
    """Where numbers are finite in float32: those of float64 that are larger overflow in statistics and when read."""
    with np.errstate(over="ignore"):
        return np.isfinite(rows.astype(np.float32))


def colour_counts(frames: UInt8[np.ndarray, "T H W 3"]) -> Int[np.ndarray, "T 3 256"]:
    """How often each value of each colour occurs in every picture."""
    planes = frames.transpose(0, 3, 1, 2).reshape(len(frames), 3, -1)
    return np.stack([[np.bincount(plane, minlength=256) for plane in picture] for picture in planes])


def picture_summary(counts: Int[np.ndarray, "T 3 256"]) -> Summary:
    """LeRobot's statistics of pictures, whose colours are counted: in [0, 1], shape (3, 1, 1), exact over all pixels.

    A colour has 256 values, so its histogram holds everything. Raises DataError when there is no picture.
    """
    if not counts.size:
        raise DataError("statistics", got="no pictures", want="at least one step", hint="Choose at least one episode")
    columns = [_histogram_summary(colour) for colour in counts.sum(axis=0)]
    return {**{name: [[[column[name]]] for column in columns] for name in columns[0]}, "count": [len(counts)]}


def _histogram_summary(counts: Shaped[np.ndarray, "256"]) -> dict[str, float]:
    """Statistics of one colour from how often each of its values occurs."""
    values, total, below = np.arange(256) / 255, int(counts.sum()), np.cumsum(counts)
    mean = float(counts @ values / total)
    seen = values[counts > 0]
    result = {"min": float(seen[0]), "max": float(seen[-1]), "mean": mean}
    result["std"] = float(np.sqrt(counts @ np.square(values - mean) / total))
    for name, quantile in LEROBOT_QUANTILES.items():  # numpy's linear interpolation between the two values around it
        place = quantile * (total - 1)
        low, high = (values[np.searchsorted(below, k, side="right")] for k in (np.floor(place), np.ceil(place)))
        result[name] = float(low + (high - low) * (place - np.floor(place)))
    return result


def merged(summaries: Sequence[Mapping[str, Any]]) -> Summary:
    """Statistics of several parts from those of each, as LeRobot merges: exact but for the quantiles.

    Quantiles become means weighed by count, for which no part holds more.
    """
    parts = {name: np.array([part[name] for part in summaries], dtype=np.float64) for name in summaries[0]}
    counts = parts.pop("count").reshape(-1, *(1,) * (parts["mean"].ndim - 1))
    share = counts / counts.sum()
    mean = (parts["mean"] * share).sum(axis=0)
    std = np.sqrt(((np.square(parts["std"]) + np.square(parts["mean"] - mean)) * share).sum(axis=0))
    result = {"min": parts["min"].min(axis=0), "max": parts["max"].max(axis=0), "mean": mean, "std": std}
    result |= {name: (parts[name] * share).sum(axis=0) for name in parts if name in LEROBOT_QUANTILES}
    return {**{name: value.tolist() for name, value in result.items()}, "count": [int(counts.sum())]}
