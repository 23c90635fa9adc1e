"""LeRobot v3.0 -> v2.1: an own parquet file and an own clip for each episode. Pictures and numbers stay what they are.

Clips are cut at keyframes by copying packets; where an episode does not begin with one, that part is encoded without
loss. The way back is `to_v3`.
"""

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import dump_json, dump_jsonl, read_raw
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.convert.remux import cut_clip
from svms_gr00t.data.convert.stats_columns import PREFIX, unflatten
from svms_gr00t.data.convert.tables import read_rows, read_table, with_plain_lists, write_tables
from svms_gr00t.data.convert.to_v3 import chunks, copy_rest
from svms_gr00t.data.lerobot.metadata import Episode, Metadata, read_info, read_v3, version_of, videos_of
from svms_gr00t.data.lerobot.staging import Staging, check_free, content_of
from svms_gr00t.data.lerobot.writer import CHUNK, DATA_PATH, VIDEO_PATH

_OWN = ("data/", "videos/", "meta/", PREFIX, "dataset_from_index", "dataset_to_index")
_REPLACED = frozenset({"info.json", "tasks.parquet", "tasks.jsonl"})
_DROPPED = ("data_files_size_in_mb", "video_files_size_in_mb")


@dataclass(frozen=True, kw_only=True)
class ToV21:
    """What was made."""

    root: Path
    """The new dataset."""
    encoded: int
    """Clips that this run could not copy and encoded without loss."""


def convert_to_v21(source: Path, target: Path, *, progress: Progress | None = None) -> ToV21:
    """Convert the dataset at `source`; the same call goes on with an interrupted one.

    Raises DataError for a broken source.
    """
    info = read_info(source)
    if version_of(source, info) != 3:
        hint = "v2.0 and v2.1 need no conversion; convert_to_v3 goes the other way"
        raise DataError(source, got=f"version {info.codebase_version}", want="v3.0", hint=hint)
    metadata = read_v3(source, info)
    raw = read_raw(source / "meta" / "info.json")
    check_free(target)
    key = {"converter": "v2.1", "source": str(source.resolve()), "content": content_of(source, progress)}
    with Staging(target, key) as staging:
        return _make(staging, source, metadata, raw, progress or Silent())


def _make(staging: Staging, source: Path, metadata: Metadata, raw: dict[str, Any], progress: Progress) -> ToV21:
    """What is not there yet."""
    episodes = sorted(metadata.episodes, key=lambda episode: episode.index)
    known = {camera for _, camera in metadata.clips}
    cameras = [camera for camera in videos_of(metadata.info) if camera in known]
    with progress.task("converting to v2.1", len(episodes)) as task:
        encoded = sum(_episode_files(staging, metadata, group, cameras, task) for group in _by_file(metadata, episodes))
    copy_rest(source, staging.folder, replaced=_REPLACED)
    _write_meta(staging.folder / "meta", source, raw, metadata, episodes, cameras)
    return ToV21(root=staging.finish(), encoded=encoded)


def _by_file(metadata: Metadata, episodes: list[Episode]) -> list[list[Episode]]:
    groups: dict[Path, list[Episode]] = defaultdict(list)
    for episode in episodes:
        groups[metadata.data[episode.index]].append(episode)
    return list(groups.values())


def _episode_files(staging: Staging, metadata: Metadata, group: list[Episode], cameras: list[str], task: Any) -> int:
    """Parquet files and clips of the episodes of one shared parquet file; the number of clips encoded again."""
    fps, encoded = Fraction(metadata.info.fps).limit_denominator(1001), 0
    for episode in group:
        place = {"episode_chunk": episode.index // CHUNK, "episode_index": episode.index}

        def write(path: Path, episode: Episode = episode) -> None:
            table = read_table(metadata.data[episode.index], episode=episode.index, length=episode.length)
            write_tables(path, [with_plain_lists(table, metadata.info.features)])

        staging.make(DATA_PATH.format(**place), write)
        for camera in cameras:
            clip, copied = metadata.clips[episode.index, camera], list[bool]()

            def cut(path: Path, clip: Any = clip, length: int = episode.length, copied: list[bool] = copied) -> None:
                copied.append(cut_clip(clip.path, clip.first, length, path, fps=fps))

            staging.make(VIDEO_PATH.format(video_key=camera, **place), cut)
            encoded += copied == [False]
        task.advance()
    return encoded


def _write_meta(
    meta: Path, source: Path, raw: dict[str, Any], metadata: Metadata, episodes: list[Episode], cameras: list[str]
) -> None:
    info = {name: value for name, value in raw.items() if name not in _DROPPED}
    info |= {"codebase_version": "v2.1", "data_path": DATA_PATH, "video_path": VIDEO_PATH if cameras else None}
    info |= {"total_chunks": chunks(len(episodes), CHUNK), "total_videos": len(episodes) * len(cameras)}
    features = raw["features"].items()
    info |= {"chunks_size": CHUNK, "features": {name: _without_rate(feature) for name, feature in features}}
    dump_json(meta / "info.json", info)
    dump_jsonl(meta / "tasks.jsonl", [{"task_index": i, "task": text} for i, text in metadata.tasks.items()])
    rows = sorted(read_rows(source / "meta" / "episodes"), key=lambda row: row["episode_index"])
    dump_jsonl(meta / "episodes.jsonl", [{k: v for k, v in row.items() if not k.startswith(_OWN)} for row in rows])
    stats = [{"episode_index": row["episode_index"], "stats": unflatten(row)} for row in rows]
    if any(row["stats"] for row in stats):
        dump_jsonl(meta / "episodes_stats.jsonl", stats)


def _without_rate(feature: dict[str, Any]) -> dict[str, Any]:
    """Only v3.0 repeats the frame rate in features that are no videos."""
    drop = feature["dtype"] != "video"
    return {name: value for name, value in feature.items() if not (drop and name == "fps")}
