"""Statistics that LeRobot 3.0 trains, edits, merges and appends with: of each episode, and of the whole dataset.

Every feature has min, max, mean, std, five quantiles and a count, cameras too: a policy looks up its cameras there, and
LeRobot can only append rows that have no more columns than ours. Numbers are read from the rows that were written, so
they hold for the new numbering. Of pictures, what the source says is kept and the rest is measured on some frames.

Features of more than one axis have none: LeRobot's own are of another shape than the feature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import dump_json, read_raw
from svms_gr00t.data.lerobot.metadata import Episode, Metadata
from svms_gr00t.data.lerobot.staging import Staging
from svms_gr00t.data.lerobot.summary import (
    LEROBOT_QUANTILES,
    RunningSummary,
    Summary,
    colour_counts,
    countable,
    counted,
    merged,
    picture_summary,
)
from svms_gr00t.data.lerobot.table import as_array, read_images
from svms_gr00t.data.lerobot.video import VideoReader
from svms_gr00t.data.lerobot.writer import sampled_steps

PICTURES = "pictures"
"""Folder of an unfinished conversion that keeps what was measured on pictures; removed at its end."""
_KINDS = {"min", "max", "mean", "std", "count", *LEROBOT_QUANTILES}
_NO_NUMBERS = {"video", "image", "string"}


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of each episode in the new order, and of all of them."""

    episodes: tuple[dict[str, Summary], ...]
    dataset: dict[str, Summary]


def v3_statistics(
    staging: Staging,
    source: Path,
    metadata: Metadata,
    features: Mapping[str, Mapping[str, Any]],
    files: Mapping[Path, Sequence[Episode]],
    given: Mapping[int, Mapping[str, Any]],
    task: Any,
) -> Statistics:
    """Statistics of the episodes in `files`, the new parquet files with one row group for each of theirs.

    `given` holds the source's own by old episode number. Raises DataError for NaN, nulls and unreadable pictures.
    """
    numeric = [name for name, f in features.items() if f["dtype"] not in _NO_NUMBERS and len(f["shape"]) == 1]
    cameras = [name for name, feature in features.items() if feature["dtype"] in ("video", "image")]
    totals = {name: RunningSummary() for name in numeric}
    rows: list[dict[str, Summary]] = []
    for path, group in files.items():
        file = pq.ParquetFile(path)
        for number, episode in enumerate(group):
            table = file.read_row_group(number, columns=numeric)
            row: dict[str, Summary] = {}
            for name in numeric:
                values = _finite(table[name], f"{metadata.data[episode.index]}, {name}")
                one = RunningSummary()
                one.update(values)
                totals[name].update(values)
                row[name] = counted(one)
            known = given.get(episode.index, {})
            row |= {name: _pictures(staging, source, metadata, episode, name, known.get(name)) for name in cameras}
            rows.append(row)
            task.advance()
    dataset = {name: counted(total) for name, total in totals.items()}
    dataset |= {name: merged([row[name] for row in rows]) for name in cameras}
    return Statistics(episodes=tuple(rows), dataset=dataset)


def _finite(column: pa.ChunkedArray, where: str) -> np.ndarray:
    values = as_array(column, where)
    if not (fine := countable(values)).all():
        step = int(np.argwhere(~fine)[0, 0])
        hint = "LeRobot's statistics would be NaN for the whole dataset; mend that file or take the episode out"
        raise DataError(where, got=f"NaN or infinity at step {step}", want="finite numbers", hint=hint)
    return values


def _pictures(
    staging: Staging, source: Path, metadata: Metadata, episode: Episode, name: str, given: Any
) -> dict[str, Any]:
    """Statistics of one camera in one episode; measured at most once, also when the conversion was interrupted."""
    known = _usable(given)
    if known.keys() >= _KINDS:
        return dict(known)

    def measure(path: Path) -> None:
        steps, column = sampled_steps(episode.length), metadata.clips.get((episode.index, name))
        if column is None:
            place: dict[str, Any] = {"length": episode.length, "only_episode": None, "root": source}
            counts = read_images(metadata.data[episode.index], name, steps, each=colour_counts, **place)
        else:
            reader = VideoReader(column.path)
            counts = reader.read([column.first + step for step in steps], colour_counts)
            reader.close()
        dump_json(path, picture_summary(counts))

    place = f"{PICTURES}/{name}/episode_{episode.index:06d}.json"
    staging.make(place, measure)
    return read_raw(staging.folder / place) | known


def _usable(given: Any) -> dict[str, Any]:
    """The source's statistics of a camera when they have LeRobot's form, (3, 1, 1) each and a count; else nothing."""
    known = {name: value for name, value in given.items() if name in _KINDS} if isinstance(given, dict) else {}
    try:
        values = {name: np.asarray(value, dtype=np.float64) for name, value in known.items()}
    except (TypeError, ValueError):
        return {}
    fits = all(value.shape == ((1,) if name == "count" else (3, 1, 1)) for name, value in values.items())
    finite = all(np.isfinite(value).all() for value in values.values())
    return known if fits and finite and "count" in known else {}
