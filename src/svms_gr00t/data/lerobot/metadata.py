"""The `meta/` folder of a LeRobot dataset (v2.0, v2.1, v3.0), checked and turned into places of files.

In 3.0 it is parquet tables, with many episodes to a data file and to a video: step k of an episode is frame
`from_timestamp * fps + k` of its shared video. Its rows are found by `episode_index` (`dataset_from_index` counts rows
over all files, so it is no row number). Task texts are a column or the pandas index, which parquet stores as `task` or
`__index_level_0__`.

Both versions keep one parquet file per episode and one video per episode and camera; they differ only in the statistics
files, which we recompute. Fields that we do not use are ignored, so `info` and `video_info` read alike.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import named, read_json, read_jsonl
from svms_gr00t.data.parquet import read_parquet
from svms_gr00t.data.paths import check_tree, safe_name

_LAX = ConfigDict(extra="ignore", frozen=True)
_HINT = "Fetch the dataset again, or write it with a LeRobot tool of version 2.0 or 2.1"


class Feature(BaseModel):
    """One entry of `features` in info.json."""

    model_config = _LAX
    dtype: str
    shape: list[int] = []
    names: Any = None
    info: Any = None
    """What LeRobot writes about a camera; `video_info` in its older sets."""
    video_info: Any = None

    @property
    def tabled(self) -> bool:
        """A camera whose pictures stand in the parquet files, as image files or as arrays with three colours."""
        array = len(self.shape) == 3 and 3 in (self.shape[0], self.shape[2]) and self.dtype != "video"
        return self.dtype == "image" or (array and not self.depth)

    @property
    def depth(self) -> bool:
        """A camera that measures distances: its numbers are no brightness."""
        said = [table for table in (self.info, self.video_info) if isinstance(table, dict)]
        return self.dtype == "depth" or any(t.get("is_depth_map") or t.get("video.is_depth_map") for t in said)


class Info(BaseModel):
    """The parts of `meta/info.json` that a reader needs."""

    model_config = _LAX
    codebase_version: str
    fps: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    features: dict[str, Feature]
    data_path: str
    video_path: str | None = None
    chunks_size: Annotated[int, Field(ge=1)] = 1000
    robot_type: str | None = None


class _EpisodeRow(BaseModel):
    model_config = _LAX
    episode_index: Annotated[int, Field(ge=0)]
    length: Annotated[int, Field(ge=0)]
    tasks: list[str] = []


class _TaskRow(BaseModel):
    model_config = _LAX
    task_index: Annotated[int, Field(ge=0)]
    task: str


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One demonstration."""

    index: int
    """Its number in the dataset, not necessarily its place in the list."""
    length: int
    """Number of steps."""
    tasks: tuple[str, ...]
    """Task texts that the metadata lists for it; some datasets add marks such as "valid"."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Where the pictures of one camera and episode are."""

    path: Path
    first: int = 0
    """Frame of the file that is step 0."""
    frames: int | None = None
    """Frames the file must have, None when episodes share it."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Everything `meta/` says, whatever the version of the format."""

    info: Info
    tasks: dict[int, str]
    """Task texts by index; may have more rows than info.json counts."""
    episodes: tuple[Episode, ...]
    data: Mapping[int, Path]
    """Parquet file of each episode."""
    clips: Mapping[tuple[int, str], Clip]
    """Video of each episode and video feature; none of a camera that only info.json knows."""
    shared: bool = False
    """True when a parquet file holds several episodes, told apart by `episode_index`."""


def fill_template(root: Path, template: str, values: Mapping[str, int | str]) -> Path:
    """`template` under `root` with `values` put in. Raises DataError for other fields or a path that leaves `root`."""
    where, hint = root / "meta" / "info.json", "Only the plain LeRobot path templates are allowed"
    try:
        fields = [(name, spec) for _, name, spec, _ in Formatter().parse(template) if name is not None]
        if any(name not in values or not re.fullmatch(r"(0?\d{1,2}d)?", spec or "") for name, spec in fields):
            raise ValueError("another field")
        relative = PurePosixPath(template.format(**values).replace("\\", "/"))
    except ValueError as error:
        want = f"a path with the fields {', '.join(values)}"
        raise DataError(where, got=f"the path template {template!r}", want=want, hint=hint) from error
    if relative.is_absolute() or ".." in relative.parts or ":" in str(relative):
        raise DataError(where, got=f"the path {str(relative)!r}", want="a path inside the dataset", hint=hint)
    return root.joinpath(*relative.parts)


def read_info(root: Path) -> Info:
    """`meta/info.json`. Raises DataError when the folder is not a LeRobot dataset, or is not safe to read or copy."""
    if not root.is_dir():
        raise DataError(
            root, got="no such folder", want="a LeRobot dataset", hint="Pass the folder that holds meta/info.json"
        )
    hint = "Pass the folder that holds meta/info.json"
    check_tree(root)
    info = read_json(Info, root / "meta" / "info.json", want="a LeRobot dataset", hint=hint)
    for name, feature in info.features.items():
        if feature.dtype == "video" or feature.tabled or feature.depth:  # cameras become folders
            safe_name(name, root / "meta" / "info.json")
    return info


def read_metadata(root: Path, info: Info) -> Metadata:
    """Metadata of whichever version the dataset has. Raises DataError for missing or broken files."""
    return read_v2(root, info) if version_of(root, info) == 2 else read_v3(root, info)


def read_v2(root: Path, info: Info) -> Metadata:
    """Metadata of versions 2.0 and 2.1. Raises DataError for missing or broken files."""
    rows = read_jsonl(_EpisodeRow, root / "meta" / "episodes.jsonl", want="the list of episodes", hint=_HINT)
    if not rows:
        raise DataError(root / "meta" / "episodes.jsonl", got="no rows", want="at least one episode", hint=_HINT)
    episodes = tuple(Episode(index=r.episode_index, length=r.length, tasks=tuple(r.tasks)) for r in rows)
    _unique(root / "meta" / "episodes.jsonl", "episode_index", [e.index for e in episodes])
    tasks = read_tasks(root / "meta" / "tasks.jsonl")
    data: dict[int, Path] = {}
    clips: dict[tuple[int, str], Clip] = {}
    for episode in episodes:
        place = {"episode_chunk": episode.index // info.chunks_size, "episode_index": episode.index}
        data[episode.index] = fill_template(root, info.data_path, place)
        for key in videos_of(info):
            path = fill_template(root, info.video_path or "", place | {"video_key": key})
            clips[episode.index, key] = Clip(path=path, frames=episode.length)
    return Metadata(info=info, tasks=tasks, episodes=episodes, data=data, clips=clips)


def read_tasks(path: Path) -> dict[int, str]:
    """Task texts by index, from tasks.jsonl. Raises DataError."""
    tasks = read_jsonl(_TaskRow, path, want="the list of task texts", hint=_HINT)
    _unique(path, "task_index", [t.task_index for t in tasks])
    return {t.task_index: t.task for t in tasks}


def videos_of(info: Info) -> list[str]:
    """Names of the video features, none when the dataset has no video path."""
    return [name for name, feature in info.features.items() if feature.dtype == "video" and info.video_path]


def version_of(root: Path, info: Info) -> Literal[2, 3]:
    """Major version of the format. Raises DataError for versions that no reader here knows."""
    major = re.match(r"v?([23])\.", info.codebase_version)
    if not major:
        where, hint = root / "meta" / "info.json", "Convert the dataset with a LeRobot release that writes v2.1 or v3.0"
        raise DataError(where, got=f"codebase_version {info.codebase_version!r}", want="v2.0, v2.1 or v3.0", hint=hint)
    return 2 if major[1] == "2" else 3


def _unique(where: Path, name: str, values: list[int]) -> None:
    if len(set(values)) != len(values):
        twice = next(v for v in values if values.count(v) > 1)
        raise DataError(where, got=f"{name} {twice} twice", want="each once", hint="Remove the wrong row")


_V3_HINT = "Fetch the dataset again, or convert it with a LeRobot release that writes v3.0"


def _rows(path: Path, *, want: str) -> list[dict[str, Any]]:
    table = read_parquet(path, most="meta_bytes", want=want, hint=_V3_HINT)
    places = [i for i, name in enumerate(table.column_names) if not name.startswith("stats/")]
    with named(path, want=want, hint=_V3_HINT):
        return table.select(places).to_pylist()


def read_v3(root: Path, info: Info) -> Metadata:
    """Metadata of version 3.0. Raises DataError for missing or broken files."""
    folder = root / "meta" / "episodes"
    files = sorted(folder.glob("chunk-*/*.parquet"))
    if not files:
        raise DataError(folder, got="no parquet file", want="the list of episodes", hint=_V3_HINT)
    episodes: list[Episode] = []
    data: dict[int, Path] = {}
    clips: dict[tuple[int, str], Clip] = {}
    for row in (row for file in files for row in _rows(file, want="the list of episodes")):
        with named(folder, want="LeRobot v3.0 columns", hint=_V3_HINT):
            episode, path, cameras = _episode_v3(root, info, row)
        episodes.append(episode)
        data[episode.index] = path
        clips |= {(episode.index, key): clip for key, clip in cameras.items()}
    if len(data) != len(episodes):
        raise DataError(folder, got="an episode_index twice", want="each once", hint=_V3_HINT)
    tasks = _tasks_v3(root / "meta" / "tasks.parquet")
    return Metadata(info=info, tasks=tasks, episodes=tuple(episodes), data=data, clips=clips, shared=True)


def _episode_v3(root: Path, info: Info, row: dict[str, Any]) -> tuple[Episode, Path, dict[str, Clip]]:
    tasks = tuple(str(task) for task in row.get("tasks") or ())
    episode = Episode(index=int(row["episode_index"]), length=int(row["length"]), tasks=tasks)
    place = {"chunk_index": int(row["data/chunk_index"]), "file_index": int(row["data/file_index"])}
    clips = {}
    for key in videos_of(info):
        if row.get(f"videos/{key}/file_index") is None:
            continue  # a camera that only info.json knows
        where = {name: int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index")}
        path = fill_template(root, info.video_path or "", where | {"video_key": key})
        clips[key] = Clip(path=path, first=round(float(row[f"videos/{key}/from_timestamp"]) * info.fps))
    return episode, fill_template(root, info.data_path, place), clips


def _tasks_v3(path: Path) -> dict[int, str]:
    older = path.with_suffix(".jsonl")  # LeRobot's own page on v3.0 still names it so
    if not path.is_file() and older.is_file():
        return read_tasks(older)
    rows = _rows(path, want="the list of task texts")
    name = next((n for n in ("task", "__index_level_0__") if rows and n in rows[0]), None)
    if name is None or "task_index" not in rows[0]:
        raise DataError(path, got="no task texts", want="the columns task and task_index", hint=_V3_HINT)
    with named(path, want="the columns task and task_index", hint=_V3_HINT):
        return {int(row["task_index"]): str(row[name]) for row in rows}
