"""LeRobot v2.0 or v2.1 -> v3.0: episodes share parquet files and clips, metadata become tables. Nothing is re-encoded.

Everything that v3.0 has no place for stays as it is: modality.json, stats.json, extras/. The way back is `to_v21`.
"""

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.convert.remux import ClipHead, clip_head, join_clips
from svms_gr00t.data.convert.stats_columns import flatten
from svms_gr00t.data.convert.tables import read_table, with_fixed_lists, write_tables, write_tasks
from svms_gr00t.data.files import dump_json, read_lines, read_raw
from svms_gr00t.data.lerobot.metadata import Episode, Metadata, read_info, read_v2, version_of, videos_of
from svms_gr00t.data.lerobot.staging import Staging

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
_FILES_A_CHUNK = 1000
_REPLACED = {"info.json", "tasks.jsonl", "episodes.jsonl", "episodes_stats.jsonl"}
_DROPPED = ("total_chunks", "total_videos")


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where something ended up: chunk and file number, and the first frame in a clip."""

    chunk: int
    file: int
    first: int = 0


def convert_to_v3(
    source: Path, target: Path, *, data_mb: int = 100, video_mb: int = 200, progress: Progress | None = None
) -> Path:
    """Convert the dataset at `source`; the same call goes on with an interrupted one.

    A parquet file or clip grows to about `data_mb` or `video_mb`. Raises DataError for a broken source.
    """
    info = read_info(source)
    if version_of(source, info) != 2:
        hint = "It needs no conversion; convert_to_v21 goes the other way"
        raise DataError(source, got=f"version {info.codebase_version}", want="v2.0 or v2.1", hint=hint)
    metadata = read_v2(source, info)
    episodes = sorted(metadata.episodes, key=lambda episode: episode.index)
    raw = read_raw(source / "meta" / "info.json")
    key = {"converter": "v3", "source": str(source.resolve()), "info": raw, "data_mb": data_mb, "video_mb": video_mb}
    staging = Staging(target, key)
    cameras = [name for name in videos_of(info) if any(metadata.clips[e.index, name].path.is_file() for e in episodes)]
    with (progress or Silent()).task("converting to v3.0", len(episodes) * (1 + len(cameras))) as task:
        data = _data(staging, metadata, episodes, data_mb, task)
        clips = {name: _clips(staging, metadata, episodes, name, video_mb, task) for name in cameras}
    copy_rest(source, staging.folder)
    dump_json(staging.folder / "meta" / "info.json", _info(raw, cameras, data_mb, video_mb))
    write_tasks(staging.folder / "meta" / "tasks.parquet", metadata.tasks)
    _episodes(source, staging.folder / EPISODES, metadata, episodes, data, clips)
    return staging.finish()


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


def _data(staging: Staging, metadata: Metadata, episodes: list[Episode], limit: int, task: Any) -> dict[int, _Place]:
    places: dict[int, _Place] = {}
    sizes = [(e, _size(metadata.data[e.index]), None) for e in episodes]
    for number, group in enumerate(_groups(sizes, limit)):
        chunk, file = divmod(number, _FILES_A_CHUNK)

        def write(path: Path, group: list[Episode] = group) -> None:
            tables = [read_table(metadata.data[e.index], length=e.length) for e in group]
            write_tables(path, [with_fixed_lists(table, metadata.info.features) for table in tables])

        staging.make(DATA_PATH.format(chunk_index=chunk, file_index=file), write)
        places |= {e.index: _Place(chunk=chunk, file=file) for e in group}
        task.advance(len(group))
    return places


def _clips(
    staging: Staging, metadata: Metadata, episodes: list[Episode], camera: str, limit: int, task: Any
) -> dict[int, _Place]:
    fps = Fraction(metadata.info.fps).limit_denominator(1001)
    places: dict[int, _Place] = {}
    paths = {e.index: metadata.clips[e.index, camera].path for e in episodes}
    heads: list[tuple[Episode, int, ClipHead]] = []
    for e in episodes:
        size, (head, frames) = _size(paths[e.index]), clip_head(paths[e.index])
        if frames != e.length:
            hint = "Encode that clip again, or take the episode out of the list"
            raise DataError(paths[e.index], got=f"{frames} frames", want=f"{e.length}, one a step", hint=hint)
        heads.append((e, size, head))
    for number, group in enumerate(_groups(heads, limit)):
        chunk, file = divmod(number, _FILES_A_CHUNK)
        starts = [sum(e.length for e in group[:k]) for k in range(len(group))]

        def write(path: Path, group: list[Episode] = group, starts: list[int] = starts) -> None:
            join_clips([paths[e.index] for e in group], starts, path, fps=fps)

        staging.make(VIDEO_PATH.format(video_key=camera, chunk_index=chunk, file_index=file), write)
        places |= {e.index: _Place(chunk=chunk, file=file, first=s) for e, s in zip(group, starts, strict=True)}
        task.advance(len(group))
    return places


def _info(raw: dict[str, Any], cameras: list[str], data_mb: int, video_mb: int) -> dict[str, Any]:
    """info.json of v3.0; the version that it came from is kept for the way back."""
    info = {name: value for name, value in raw.items() if name not in _DROPPED}
    info |= {"codebase_version": "v3.0", "data_path": DATA_PATH, "video_path": VIDEO_PATH if cameras else None}
    info |= {"data_files_size_in_mb": data_mb, "video_files_size_in_mb": video_mb}
    features = {}
    for name, feature in raw["features"].items():
        absent = feature["dtype"] == "video" and name not in cameras  # a camera that only info.json knows
        rate = {} if feature["dtype"] == "video" else {"fps": raw["fps"]}
        if not absent:
            features[name] = feature | rate
    return info | {"features": features}


def _episodes(
    source: Path,
    path: Path,
    metadata: Metadata,
    episodes: list[Episode],
    data: dict[int, _Place],
    clips: dict[str, dict[int, _Place]],
) -> None:
    stats = {row["episode_index"]: row["stats"] for row in read_lines(source / "meta" / "episodes_stats.jsonl")}
    listed = {row["episode_index"]: row for row in read_lines(source / "meta" / "episodes.jsonl")}
    rows, begin = [], 0
    for e in episodes:
        place = data[e.index]
        row = {**listed[e.index], "data/chunk_index": place.chunk, "data/file_index": place.file}
        row |= {"dataset_from_index": begin, "dataset_to_index": begin + e.length}
        for camera, places in clips.items():
            where, fps = places[e.index], metadata.info.fps
            row |= {f"videos/{camera}/chunk_index": where.chunk, f"videos/{camera}/file_index": where.file}
            row[f"videos/{camera}/from_timestamp"] = where.first / fps
            row[f"videos/{camera}/to_timestamp"] = (where.first + e.length) / fps
        row |= flatten(stats.get(e.index, {})) | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        rows.append(row)
        begin += e.length
    names = list(dict.fromkeys(name for row in rows for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)


def copy_rest(source: Path, folder: Path, replaced: frozenset[str] = frozenset(_REPLACED)) -> None:
    """Copy what no version moves: other files of meta/ and the extras."""
    for file in sorted((source / "meta").iterdir()):
        if file.is_file() and file.name not in replaced:
            (folder / "meta").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / "meta" / file.name)
    if (source / "extras").is_dir():
        shutil.copytree(source / "extras", folder / "extras", dirs_exist_ok=True)


def chunks(episodes: int, size: int) -> int:
    """Number of chunk folders of v2.1."""
    return math.ceil(episodes / size)
