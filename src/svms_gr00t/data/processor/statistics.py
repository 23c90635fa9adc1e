"""Statistics of every state and action key of a dataset, as normalisation needs them.

Axes: H horizon, D elements of a column. The arithmetic is that of `RunningSummary`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.lerobot.summary import RunningSummary, Summary
from svms_gr00t.data.processor.embodiment import EmbodimentConfig
from svms_gr00t.data.processor.relative import relative_chunks, relative_keys

Statistics = dict[str, dict[str, Summary]]
"""{"state": {key: Summary}, "action": {key: Summary}, "relative_action": {key: Summary} when there are such keys}."""


class RunningStatistics:
    """Statistics of all keys over the episodes seen so far, of one dataset or of several of one robot."""

    def __init__(self, embodiment: EmbodimentConfig | None = None) -> None:
        """With an `embodiment`, its relative action keys are summarised too, by horizon step."""
        self._embodiment = embodiment
        self._relative = relative_keys(embodiment) if embodiment else ()
        self._absolute: dict[str, RunningSummary] = {}
        self._steps: dict[str, list[RunningSummary]] = {}

    def update(self, rows: Mapping[str, np.ndarray]) -> None:
        """Take in one episode, as `LeRobotDataset.lowdim` gives it. Raises DataError for what has no statistics."""
        for name, values in rows.items():
            self._absolute.setdefault(name, RunningSummary()).update(values)
        for key in self._relative:
            assert self._embodiment is not None
            chunks = relative_chunks(rows, self._embodiment, key)
            running = self._steps.setdefault(key, [RunningSummary() for _ in chunks])
            for step, values in zip(running, chunks, strict=True):
                step.update(values)

    def result(self) -> Statistics:
        """The statistics. Raises DataError when nothing was seen, or no episode reaches the end of the horizon."""
        if not self._absolute:
            raise DataError("statistics", got="no episodes", want="at least one", hint="Choose at least one episode")
        result: Statistics = {"state": {}, "action": {}}
        for name, summary in self._absolute.items():
            kind, key = name.split(".", 1)
            result[kind][key] = summary.result()
        for key, steps in self._steps.items():
            if not all(step.count for step in steps):
                got, want = "only episodes shorter than the horizon", "one that reaches its end"
                raise DataError(f"statistics relative_action.{key}", got=got, want=want, hint="Choose a shorter one")
            rows = [step.result() for step in steps]
            result.setdefault("relative_action", {})[key] = {name: [row[name] for row in rows] for name in rows[0]}
        return result


def compute_statistics(
    dataset: Any,
    episodes: Sequence[int] | None = None,
    *,
    embodiment: EmbodimentConfig | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Statistics of every state and action key of a `LeRobotDataset` over `episodes` (None: all).

    With an `embodiment`, its relative actions are summarised too. Raises DataError from the dataset, and when
    `episodes` is empty.
    """
    chosen = [e.index for e in dataset.episodes] if episodes is None else list(episodes)
    running = RunningStatistics(embodiment)
    with (progress or Silent()).task("statistics", len(chosen)) as task:
        for index in chosen:
            running.update(dataset.lowdim(index))
            task.advance()
    return running.result()


_KINDS = ("min", "max", "mean", "std", "q01", "q99")


def statistics_by_key(columns: Mapping[str, Mapping[str, Any]], modality: Modality) -> Statistics:
    """Statistics of every state and action key, cut from those of whole columns: LeRobot's meta/stats.json.

    Columns hold min, max, mean, std and, where they have them, q01 and q99, as lists, arrays or tensors of D numbers.
    Raises DataError for a column that is not there, and for one of fewer numbers than the modality names.
    """
    result: Statistics = {"state": {}, "action": {}}
    for kind in ("state", "action"):
        for key, part in getattr(modality, kind).items():
            name = modality.column(kind, key)  # type: ignore[arg-type]
            if name not in columns:
                got, hint = f"only {', '.join(columns) or 'nothing'}", "Give the statistics of the same dataset"
                raise DataError("statistics", got=got, want=f"the column {name}", hint=hint)
            found = {stat: np.asarray(columns[name][stat], np.float64) for stat in _KINDS if stat in columns[name]}
            if short := [stat for stat, values in found.items() if values.ndim != 1 or len(values) < part.end]:
                got, hint = f"shape {found[short[0]].shape}", "Give the statistics of the same dataset"
                raise DataError(f"statistics {name}.{short[0]}", got=got, want=f"({part.end} or more,)", hint=hint)
            result[kind][key] = {stat: values[part.start : part.end].tolist() for stat, values in found.items()}
    return result
