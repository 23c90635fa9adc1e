"""Numbers without holes: LeRobot 3.0 takes an episode or a task by its place in a table, not by the number beside it.

An episode 5 that is fourth in the list would be read as episode 3, a task likewise, and nobody would be told. Episodes
keep their order. Two tasks of the same text become one: the text is what LeRobot looks a task up by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot.metadata import Episode, Metadata
from svms_gr00t.data.lerobot.table import as_array


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Old numbers to new ones."""

    episodes: Mapping[int, int]
    tasks: Mapping[int, int]
    texts: tuple[str, ...]
    """Task texts by new number."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the owner should know; none when every number stays."""
        kinds = (("episodes", self.episodes), ("tasks", self.tasks))
        return tuple(
            f"{kind} renumbered without holes: {', '.join(f'{a} -> {b}' for a, b in moved[:4])}"
            + (f" and {len(moved) - 4} more" if len(moved) > 4 else "")
            for kind, numbers in kinds
            if (moved := [(a, b) for a, b in numbers.items() if a != b])
        )


def numbers_of(metadata: Metadata) -> Numbers:
    """New numbers for the episodes and tasks of a dataset."""
    episodes = sorted(episode.index for episode in metadata.episodes)
    texts = tuple(dict.fromkeys(metadata.tasks[index] for index in sorted(metadata.tasks)))
    places = {text: place for place, text in enumerate(texts)}
    return Numbers(
        episodes={index: place for place, index in enumerate(episodes)},
        tasks={index: places[metadata.tasks[index]] for index in sorted(metadata.tasks)},
        texts=texts,
    )


def renumbered(
    table: pa.Table, where: Path, episode: Episode, first: int, numbers: Numbers, *, fps: float, tasks: Sequence[str]
) -> pa.Table:
    """Rows of one episode with its new numbers, its first row being row `first` of the dataset.

    `tasks` names the columns that hold task numbers. Columns that LeRobot needs and that count steps are added where
    they are missing. Raises DataError for a missing `task_index` and for a task that is not in the list.
    """
    steps = np.arange(episode.length)
    columns = {"episode_index": np.full(episode.length, numbers.episodes[episode.index]), "index": first + steps}
    known = set(table.column_names)
    if "task_index" not in known:
        hint = "LeRobot finds the instruction of a step by it"
        raise DataError(where, got="no column task_index", want="the task of every step", hint=hint)
    columns |= {name: _tasks(table[name], f"{where}, {name}", numbers) for name in tasks if name in known}
    columns |= {"frame_index": steps} if "frame_index" not in known else {}
    columns |= {"timestamp": (steps / fps).astype(np.float32)} if "timestamp" not in known else {}
    for name, values in columns.items():
        if name not in known:
            table = table.append_column(name, pa.array(values))
        elif not np.array_equal(values, as_array(table[name], f"{where}, {name}")[:, 0]):
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.array(values))
    return table


def _tasks(column: pa.ChunkedArray, where: str, numbers: Numbers) -> np.ndarray:
    old = as_array(column, where)[:, 0]
    if unknown := sorted(set(old.tolist()) - set(numbers.tasks)):
        got, want = f"task {unknown[0]}", f"one of {sorted(numbers.tasks)[:8]}"
        raise DataError(where, got=got, want=want, hint="Complete the list of tasks in meta/")
    return np.array([numbers.tasks[int(task)] for task in old], dtype=np.int64)
