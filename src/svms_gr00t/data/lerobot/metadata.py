"""The `meta/` folder of a LeRobot v2.0 or v2.1 dataset, checked and turned into places of files.

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
from svms_gr00t.data.files import read_json, read_jsonl

_LAX = ConfigDict(extra="ignore", frozen=True)
_HINT = "Fetch the dataset again, or write it with a LeRobot tool of version 2.0 or 2.1"


class Feature(BaseModel):
    """One entry of `features` in info.json."""

    model_config = _LAX
    dtype: str
    shape: list[int] = []
    names: Any = None


class Info(BaseModel):
    """The parts of `meta/info.json` that a reader needs."""

    model_config = _LAX
    codebase_version: str
    fps: Annotated[float, Field(gt=0)]
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
    """Video of each episode and video feature."""
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
    """`meta/info.json`. Raises DataError when the folder is not a LeRobot dataset."""
    if not root.is_dir():
        raise DataError(
            root, got="no such folder", want="a LeRobot dataset", hint="Pass the folder that holds meta/info.json"
        )
    hint = "Pass the folder that holds meta/info.json"
    return read_json(Info, root / "meta" / "info.json", want="a LeRobot dataset", hint=hint)


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
