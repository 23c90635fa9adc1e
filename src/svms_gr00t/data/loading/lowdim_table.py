"""The numbers of all steps of a dataset as one flat float32 array, so that no parquet file is opened while training.

Axes: N steps of the chosen episodes one after the other, D numbers of all state and action keys.

With a folder the array is written there once, under a name made of the data and the choice, and memory-mapped by every
worker and every later run; without one it stays in memory.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32
from pydantic import BaseModel, ConfigDict

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.arrays import map_array, save_array
from svms_gr00t.core.files.documents import dump_json, read_json
from svms_gr00t.core.files.whole import whole_file
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.lerobot.dataset import LeRobotDataset


class _Layout(BaseModel):
    """What the flat array holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    first: dict[int, int]
    """Row of step 0, by episode, in file order."""
    steps: int
    columns: dict[str, tuple[int, int]]
    """"state.<key>" and "action.<key>" -> their columns."""
    texts: list[str]
    """Distinct instructions."""


@dataclass(frozen=True, kw_only=True)
class LowDimTable:
    """State, actions and instruction of any step by two lookups."""

    values: Float32[np.ndarray, "N D"]
    """All keys side by side, physical units."""
    text: Int32[np.ndarray, " N"]
    """Number of the instruction in force at each step."""
    layout: _Layout

    @classmethod
    def build(
        cls,
        dataset: LeRobotDataset,
        episodes: Sequence[int],
        *,
        folder: Path | None = None,
        progress: Progress | None = None,
    ) -> "LowDimTable":
        """Read every episode once, or map what an earlier run wrote. Raises DataError for an unreadable episode."""
        if folder is None:
            return cls._read(dataset, episodes, progress)
        choice = json.dumps([dataset.fingerprint(), list(episodes)]).encode()
        stem = folder / f"lowdim_{hashlib.sha256(choice).hexdigest()[:16]}"
        layout, values, text = (stem.with_name(stem.name + end) for end in (".json", ".values.npy", ".text.npy"))
        if not layout.is_file():  # written last: when it is there, the arrays are complete
            table = cls._read(dataset, episodes, progress)
            save_array(values, table.values)
            save_array(text, table.text)
            with whole_file(layout) as partial:
                dump_json(partial, table.layout.model_dump())
        hint = f"Delete {stem}.*"
        found = read_json(_Layout, layout, want="the layout of a table", hint=hint)
        width = max((end for _, end in found.columns.values()), default=0)
        return cls(
            values=_mapped(values, (found.steps, width), "f4", hint),
            text=_mapped(text, (found.steps,), "i4", hint),
            layout=found,
        )

    @classmethod
    def _read(cls, dataset: LeRobotDataset, episodes: Sequence[int], progress: Progress | None) -> "LowDimTable":
        rows, texts = [], []
        numbers: dict[str, int] = {}
        first, columns, steps = {}, {}, 0
        with (progress or Silent()).task("reading numbers", len(episodes)) as task:
            for index in episodes:
                episode, said = dataset.rows(index)
                edges = np.cumsum([0, *(part.shape[1] for part in episode.values())]).tolist()
                columns = {key: (edges[i], edges[i + 1]) for i, key in enumerate(episode)}
                rows.append(np.concatenate(list(episode.values()), axis=1))
                texts.append([numbers.setdefault(text, len(numbers)) for text in said])
                first[index] = steps
                steps += len(rows[-1])
                task.advance()
        layout = _Layout(first=first, steps=steps, columns=columns, texts=list(numbers))
        text = np.array([number for part in texts for number in part], dtype=np.int32)
        return cls(values=np.concatenate(rows), text=text, layout=layout)

    def rows(self, episode: int, steps: np.ndarray | int, kind: str) -> dict[str, np.ndarray]:
        """Numbers of each "state" or "action" key at one step (D,), or at several (n, D)."""
        picked = self.values[self.layout.first[episode] + steps]
        prefix = f"{kind}."
        return {
            key.removeprefix(prefix): picked[..., first:last]
            for key, (first, last) in self.layout.columns.items()
            if key.startswith(prefix)
        }

    def examples(self) -> list[tuple[dict[str, int], int]]:
        """An episode and step of each distinct instruction, and how many steps it is in force."""
        _, rows, counts = np.unique(self.text, return_index=True, return_counts=True)
        first = list(self.layout.first.items())
        found = []
        for row, times in zip(rows[np.argsort(rows)], counts[np.argsort(rows)], strict=True):
            episode, start = max((item for item in first if item[1] <= row), key=lambda item: item[1])
            found.append(({"episode": episode, "step": int(row) - start}, int(times)))
        return found

    def instruction(self, episode: int, step: int) -> str:
        """The instruction in force at a step."""
        return self.layout.texts[int(self.text[self.layout.first[episode] + step])]


def _mapped(path: Path, shape: tuple[int, ...], kind: str, hint: str) -> np.ndarray:
    """An array that is as its layout says. Raises DataError for another."""
    array, want = map_array(path, want="an array of the table", hint=hint), f"{np.dtype(kind)} {shape}"
    if (array.dtype, array.shape) != (np.dtype(kind), shape):
        raise DataError(path, got=f"{array.dtype} {array.shape}", want=want, hint=hint)
    return array
