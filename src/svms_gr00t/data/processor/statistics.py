"""Statistics of every state and action key of a dataset, as normalisation needs them.

Axes: H horizon, D elements of a column. The arithmetic is that of `RunningSummary`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.progress import Progress, Silent
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
