"""The metadata of a v3.0 dataset: info.json with true totals, and the table of episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from svms_gr00t.data.convert.stats_columns import flatten
from svms_gr00t.data.lerobot.metadata import Episode
from svms_gr00t.data.lerobot.summary import Summary
from svms_gr00t.data.lerobot.writer import whole_rate

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
FILES_A_CHUNK = 1000
_DROPPED = ("total_chunks", "total_videos")
_TYPES = {"float": "float32", "double": "float64", "halffloat": "float16"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something ended up: chunk and file number, and the first frame in a clip."""

    chunk: int
    file: int
    first: int = 0


def v3_features(
    raw: Mapping[str, Any], cameras: Sequence[str], columns: pa.Schema
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Features of exactly what the dataset holds, and notes on what info.json said otherwise.

    LeRobot reads every feature and nothing else, so one without data or data without a feature is refused there.
    """
    fps, features, notes = whole_rate(raw["fps"]), {}, []
    for name, feature in raw["features"].items():
        if name not in (cameras if feature["dtype"] == "video" else columns.names):
            notes.append(f"{name} is only in info.json: left out")
            continue
        entry = {"names": None} | feature
        if feature["dtype"] == "video":
            entry["names"] = feature.get("names") or ["height", "width", "channels"]
            if video := entry.pop("video_info", entry.get("info")):
                entry["info"] = video | ({"video.fps": fps} if "video.fps" in video else {})
        features[name] = entry | ({} if feature["dtype"] == "video" else {"fps": fps})
    for item in columns:
        if item.name not in features:
            width = item.type.list_size if pa.types.is_fixed_size_list(item.type) else 1
            kind = str(getattr(item.type, "value_type", item.type))
            features[item.name] = {"dtype": _TYPES.get(kind, kind), "shape": [width], "names": None, "fps": fps}
            notes.append(f"{item.name} was not in info.json: added")
    return features, tuple(notes)


def v3_info(
    raw: Mapping[str, Any],
    features: Mapping[str, Any],
    lengths: Sequence[int],
    tasks: int,
    *,
    data_mb: int,
    video_mb: int,
) -> dict[str, Any]:
    """info.json; what v3.0 has no place for stays."""
    info = {name: value for name, value in raw.items() if name not in _DROPPED}
    cameras = any(feature["dtype"] == "video" for feature in features.values())
    info |= {"codebase_version": "v3.0", "data_path": DATA_PATH, "video_path": VIDEO_PATH if cameras else None}
    info |= {"fps": whole_rate(raw["fps"]), "robot_type": raw.get("robot_type"), "chunks_size": FILES_A_CHUNK}
    info |= {"total_episodes": len(lengths), "total_frames": sum(lengths), "total_tasks": tasks}
    info |= {"splits": {"train": f"0:{len(lengths)}"}}
    info |= {"data_files_size_in_mb": data_mb, "video_files_size_in_mb": video_mb}
    return info | {"features": dict(features)}


def write_episodes(
    path: Path,
    episodes: Sequence[Episode],
    listed: Mapping[int, Mapping[str, Any]],
    data: Mapping[int, Place],
    clips: Mapping[str, Mapping[int, Place]],
    statistics: Sequence[Mapping[str, Summary]],
    *,
    fps: float,
) -> None:
    """The table of episodes, in their new order; `listed` is what the source said of each by its old number."""
    rows, begin = [], 0
    for number, (e, stats) in enumerate(zip(episodes, statistics, strict=True)):
        place = data[e.index]
        row = {**listed[e.index], "episode_index": number}
        row |= {"data/chunk_index": place.chunk, "data/file_index": place.file}
        row |= {"dataset_from_index": begin, "dataset_to_index": begin + e.length}
        for camera, places in clips.items():
            where = places[e.index]
            row |= {f"videos/{camera}/chunk_index": where.chunk, f"videos/{camera}/file_index": where.file}
            row[f"videos/{camera}/from_timestamp"] = where.first / fps
            row[f"videos/{camera}/to_timestamp"] = (where.first + e.length) / fps
        row |= flatten(stats) | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        rows.append(row)
        begin += e.length
    names = list(dict.fromkeys(name for row in rows for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)
