"""LeRobot v2.0 or v2.1 -> v3.0: episodes share parquet files and clips, metadata become tables. Nothing is re-encoded.

What v3.0 has no place for stays as it is: modality.json, extras/. Statistics and totals are made anew from the data, so
that LeRobot itself trains on the result, edits it, merges it and appends to it. The way back is `to_v21`.
"""

import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import dump_json, read_lines, read_raw
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.convert.remux import ClipHead, clip_head, join_clips
from svms_gr00t.data.convert.renumber import Numbers, numbers_of, renumbered
from svms_gr00t.data.convert.tables import read_table, with_fixed_lists, write_tables, write_tasks
from svms_gr00t.data.convert.v3_meta import (
    DATA_PATH,
    EPISODES,
    FILES_A_CHUNK,
    VIDEO_PATH,
    Place,
    v3_features,
    v3_info,
    write_episodes,
)
from svms_gr00t.data.convert.v3_statistics import PICTURES, v3_statistics
from svms_gr00t.data.lerobot.metadata import Episode, Metadata, read_info, read_v2, version_of, videos_of
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.lerobot.staging import Staging, check_free, content_of

_REPLACED = {"info.json", "stats.json", "tasks.jsonl", "episodes.jsonl", "episodes_stats.jsonl"}


@dataclass(frozen=True, kw_only=True)
class ToV3:
    """What was made."""

    root: Path
    """The new dataset."""
    notes: tuple[str, ...]
    """What differs from the source and its owner should know."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What is converted, and how its numbers change."""

    root: Path
    metadata: Metadata
    episodes: tuple[Episode, ...]
    """In their new order."""
    numbers: Numbers
    first: Mapping[int, int]
    """Row of the dataset that each episode begins at."""
    columns: pa.Schema | None = None
    """Of the new parquet files; None until the first episode has been looked at."""

    @classmethod
    def open(cls, root: Path, metadata: Metadata) -> "_Source":
        """Decide numbers and columns. Raises DataError for a broken first episode."""
        episodes = tuple(sorted(metadata.episodes, key=lambda episode: episode.index))
        begins = accumulate((e.length for e in episodes), initial=0)
        first = {e.index: begin for e, begin in zip(episodes, begins, strict=False)}
        given = cls(root=root, metadata=metadata, episodes=episodes, numbers=numbers_of(metadata), first=first)
        return replace(given, columns=given.table(episodes[0]).schema)

    def table(self, episode: Episode) -> pa.Table:
        """New rows of an episode. Raises DataError when they do not have the columns of the first one."""
        path = self.metadata.data[episode.index]
        table = read_table(path, length=episode.length)
        tasks = _task_columns(self.root, table.schema)
        fps = self.metadata.info.fps
        table = renumbered(table, path, episode, self.first[episode.index], self.numbers, fps=fps, tasks=tasks)
        try:
            table = with_fixed_lists(table, self.metadata.info.features)
            return table if self.columns is None else table.select(self.columns.names).cast(self.columns)
        except (KeyError, ValueError, pa.ArrowException) as error:
            want = "rows with the columns of the first episode and the widths in info.json"
            raise DataError(path, got=f"other rows ({error})", want=want, hint="Record or fetch it again") from error


def _task_columns(root: Path, columns: pa.Schema) -> list[str]:
    """Columns that hold task numbers: LeRobot's own, and the annotations of GR00T."""
    path = root / "meta" / "modality.json"
    modality = Modality.load(path) if path.is_file() else Modality()
    named = {modality.column("annotation", key) for key in modality.annotation}
    named |= {name for name in columns.names if name.startswith("annotation.")}
    whole = {item.name for item in columns if pa.types.is_integer(item.type)}
    return ["task_index", *sorted(named & whole)]


def convert_to_v3(
    source: Path, target: Path, *, data_mb: int = 100, video_mb: int = 200, progress: Progress | None = None
) -> ToV3:
    """Convert the dataset at `source`; the same call goes on with an interrupted one.

    A parquet file or clip grows to about `data_mb` or `video_mb`. Raises DataError for a broken source.
    """
    info = read_info(source)
    if version_of(source, info) != 2:
        hint = "It needs no conversion; convert_to_v21 goes the other way"
        raise DataError(source, got=f"version {info.codebase_version}", want="v2.0 or v2.1", hint=hint)
    metadata = read_v2(source, info)
    raw = read_raw(source / "meta" / "info.json")
    check_free(target)
    key = {"converter": "v3", "source": str(source.resolve()), "content": content_of(source, progress)}
    with Staging(target, key | {"data_mb": data_mb, "video_mb": video_mb}) as staging:
        return _make(staging, source, metadata, raw, data_mb, video_mb, progress or Silent())


def _make(
    staging: Staging,
    source: Path,
    metadata: Metadata,
    raw: dict[str, Any],
    data_mb: int,
    video_mb: int,
    progress: Progress,
) -> ToV3:
    """What is not there yet."""
    given = _Source.open(source, metadata)
    clips = metadata.clips
    cameras = [
        name for name in videos_of(metadata.info) if any(clips[e.index, name].path.is_file() for e in given.episodes)
    ]
    features, notes = v3_features(raw, cameras, given.columns)
    with progress.task("converting to v3.0", len(given.episodes) * (2 + len(cameras))) as task:
        data = _data(staging, given, data_mb, task)
        places = {name: _clips(staging, metadata, given.episodes, name, video_mb, task) for name in cameras}
        stats = {row["episode_index"]: row["stats"] for row in read_lines(source / "meta" / "episodes_stats.jsonl")}
        statistics = v3_statistics(staging, source, metadata, features, _by_file(staging, given, data), stats, task)
    copy_rest(source, staging.folder, given.numbers.episodes)
    meta = staging.folder / "meta"
    lengths, texts, fps = [e.length for e in given.episodes], given.numbers.texts, metadata.info.fps
    dump_json(meta / "info.json", v3_info(raw, features, lengths, len(texts), data_mb=data_mb, video_mb=video_mb))
    dump_json(meta / "stats.json", statistics.dataset)
    write_tasks(meta / "tasks.parquet", texts)
    listed = {row["episode_index"]: row for row in read_lines(source / "meta" / "episodes.jsonl")}
    write_episodes(staging.folder / EPISODES, given.episodes, listed, data, places, statistics.episodes, fps=fps)
    shutil.rmtree(staging.folder / PICTURES, ignore_errors=True)
    return ToV3(root=staging.finish(), notes=(*given.numbers.notes, *notes))


def _by_file(staging: Staging, given: _Source, data: Mapping[int, Place]) -> dict[Path, list[Episode]]:
    """The episodes of each new parquet file."""
    files: dict[Path, list[Episode]] = {}
    for episode in given.episodes:
        place = data[episode.index]
        path = staging.folder / DATA_PATH.format(chunk_index=place.chunk, file_index=place.file)
        files.setdefault(path, []).append(episode)
    return files


def _groups(sizes: Sequence[tuple[Episode, int, object]], limit_mb: int) -> Iterator[list[Episode]]:
    """Runs of episodes that share a file: same third element, sizes up to the limit."""
    group: list[Episode] = []
    total, last = 0, None
    for episode, size, kind in sizes:
        if group and (kind != last or total + size > limit_mb << 20):
            yield group
            group, total = [], 0
        group.append(episode)
        total, last = total + size, kind
    yield group


def _size(path: Path) -> int:
    if not path.is_file():
        hint = "Fetch the rest of the dataset"
        raise DataError(path, got="no such file", want="a file of the dataset", hint=hint)
    return path.stat().st_size


def _data(staging: Staging, given: _Source, limit: int, task: Any) -> dict[int, Place]:
    places: dict[int, Place] = {}
    sizes = [(e, _size(given.metadata.data[e.index]), None) for e in given.episodes]
    for number, group in enumerate(_groups(sizes, limit)):
        chunk, file = divmod(number, FILES_A_CHUNK)

        def write(path: Path, group: list[Episode] = group) -> None:
            write_tables(path, [given.table(e) for e in group])

        staging.make(DATA_PATH.format(chunk_index=chunk, file_index=file), write)
        places |= {e.index: Place(chunk=chunk, file=file) for e in group}
        task.advance(len(group))
    return places


def _clips(
    staging: Staging, metadata: Metadata, episodes: Sequence[Episode], camera: str, limit: int, task: Any
) -> dict[int, Place]:
    fps = Fraction(metadata.info.fps).limit_denominator(1001)
    places: dict[int, Place] = {}
    paths = {e.index: metadata.clips[e.index, camera].path for e in episodes}
    heads: list[tuple[Episode, int, ClipHead]] = []
    for e in episodes:
        size, (head, frames) = _size(paths[e.index]), clip_head(paths[e.index])
        if frames != e.length:
            hint = "Encode that clip again, or take the episode out of the list"
            raise DataError(paths[e.index], got=f"{frames} frames", want=f"{e.length}, one a step", hint=hint)
        heads.append((e, size, head))
    for number, group in enumerate(_groups(heads, limit)):
        chunk, file = divmod(number, FILES_A_CHUNK)
        starts = [sum(e.length for e in group[:k]) for k in range(len(group))]

        def write(path: Path, group: list[Episode] = group, starts: list[int] = starts) -> None:
            join_clips([paths[e.index] for e in group], starts, path, fps=fps)

        staging.make(VIDEO_PATH.format(video_key=camera, chunk_index=chunk, file_index=file), write)
        places |= {e.index: Place(chunk=chunk, file=file, first=s) for e, s in zip(group, starts, strict=True)}
        task.advance(len(group))
    return places


def copy_rest(
    source: Path,
    folder: Path,
    numbers: Mapping[int, int] | None = None,
    replaced: frozenset[str] = frozenset(_REPLACED),
) -> None:
    """Copy what no version moves: other files of meta/, and the extras under the new `numbers` of their episodes."""
    for file in sorted((source / "meta").iterdir()):
        if file.is_file() and file.name not in replaced:
            (folder / "meta").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / "meta" / file.name)
    extras = source / "extras"
    for path in sorted(extras.iterdir()) if extras.is_dir() else ():
        name, number = path.name, re.fullmatch(r"episode_(\d+)", path.name)
        if number is not None and numbers is not None:
            if int(number[1]) not in numbers:
                continue  # of an episode that is not in the list: its number may be another's now
            name = f"episode_{numbers[int(number[1])]:06d}"
        (folder / "extras").mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, folder / "extras" / name, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, folder / "extras" / path.name)


def chunks(episodes: int, size: int) -> int:
    """Number of chunk folders of v2.1."""
    return math.ceil(episodes / size)
