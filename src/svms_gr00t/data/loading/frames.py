"""Where a training step gets its pictures from: memory, a pack of resized frames on disk, or the clips themselves.

Axes: h and w pixels after the pipeline's first resize (deterministic, so it is done once where frames are kept).

    memory   every episode decoded once, before training; the fastest, for data that fits
    pack     the same on disk, memory-mapped and shared by all workers and all later runs
    clips    random access by the dataset's open decoders, nothing prepared, nothing kept
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel, ConfigDict

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.arrays import map_array, save_array
from svms_gr00t.core.files.documents import dump_json, read_json
from svms_gr00t.core.files.whole import whole_file
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.paths import safe_name
from svms_gr00t.data.processor.images import ImagePipeline

MEMORY_LIMIT = 2 << 30
"""Bytes of resized frames that may be kept in memory without being asked."""
_OPEN = 256


@runtime_checkable
class FrameStore(Protocol):
    """Resized frames by episode, camera and step."""

    def frames(self, episode: int, view: str, steps: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """Frames at `steps`, any order, repeats allowed. Raises DataError when they cannot be read."""
        ...


class ClipFrames:
    """Decodes the frames that are asked for; the dataset keeps its most recent decoders open."""

    def __init__(self, dataset: LeRobotDataset, images: ImagePipeline) -> None:
        self._dataset, self._images = dataset, images

    def frames(self, episode: int, view: str, steps: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """Seek, decode and resize."""
        return self._dataset.frames(episode, view, steps, self._images.resize)


class MemoryFrames:
    """All frames of the episodes, decoded in order once."""

    def __init__(
        self,
        dataset: LeRobotDataset,
        images: ImagePipeline,
        episodes: Sequence[int],
        views: Sequence[str],
        progress: Progress | None = None,
    ) -> None:
        self._frames: dict[tuple[int, str], np.ndarray] = {}
        with (progress or Silent()).task("reading demonstrations", len(episodes)) as task:
            for episode in episodes:
                for view in views:
                    self._frames[episode, view] = _decoded(dataset, images, episode, view)
                task.advance()

    def frames(self, episode: int, view: str, steps: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """A view of the kept array, or a copy of several frames."""
        return _picked(self._frames[episode, view], steps)


class _PackKey(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    dataset: str
    short_side: int


class PackedFrames:
    """Resized frames as one memory-mapped array for each episode and camera, written at first use.

    A file appears when it is complete, so an interrupted preparation goes on where it stopped. Raises DataError when
    the folder holds the frames of other data or of another size.
    """

    def __init__(
        self,
        dataset: LeRobotDataset,
        images: ImagePipeline,
        episodes: Sequence[int],
        views: Sequence[str],
        folder: Path,
        progress: Progress | None = None,
    ) -> None:
        self._folder = folder
        self._open: OrderedDict[tuple[int, str], np.ndarray] = OrderedDict()
        self._claim(_PackKey(dataset=dataset.fingerprint(), short_side=images.short_side))
        with (progress or Silent()).task("packing frames", len(episodes)) as task:
            for episode in episodes:
                for view in views:
                    path = self._path(episode, view)
                    if not path.is_file():
                        save_array(path, _decoded(dataset, images, episode, view))
                task.advance()

    def _claim(self, key: _PackKey) -> None:
        path = self._folder / "key.json"
        if not path.is_file():
            with whole_file(path) as partial:
                dump_json(partial, key.model_dump())
            return
        hint = f"Delete {self._folder} or choose another folder"
        found = read_json(_PackKey, path, want="the key of a frame pack", hint=hint)
        if found != key:
            raise DataError(path, got=f"frames of {found}", want=f"{key}", hint=hint)

    def _path(self, episode: int, view: str) -> Path:
        return self._folder / safe_name(view, self._folder) / f"episode_{episode:06d}.npy"

    def frames(self, episode: int, view: str, steps: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """A view of the mapped file, or a copy of several frames."""
        key = (episode, view)
        if key not in self._open:
            self._open[key] = _mapped(self._path(episode, view))
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return _picked(self._open[key], steps)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_open": OrderedDict()}  # mapped arrays would travel to other processes as copies


def frame_store(
    dataset: LeRobotDataset,
    images: ImagePipeline,
    episodes: Sequence[int],
    views: Sequence[str],
    *,
    where: str | Path = "auto",
    progress: Progress | None = None,
) -> FrameStore:
    """The store that `where` names: "memory", "clips", "auto" (memory when it fits) or the folder of a pack."""
    if where == "auto":
        where = "memory" if resized_bytes(dataset, images, episodes, views) <= MEMORY_LIMIT else "clips"
    if where == "memory":
        return MemoryFrames(dataset, images, episodes, views, progress)
    if where == "clips":
        return ClipFrames(dataset, images)
    return PackedFrames(dataset, images, episodes, views, Path(where), progress)


def resized_bytes(dataset: LeRobotDataset, images: ImagePipeline, episodes: Sequence[int], views: Sequence[str]) -> int:
    """Bytes that the resized frames of these episodes and cameras take."""
    steps = sum(dataset.episode(index).length for index in episodes)
    total = 0
    for view in views:
        shape = dataset.info.features[dataset.modality.column("video", view)].shape
        sides = sorted(shape)[1:] if len(shape) == 3 else [480, 640]  # the channel axis is the short one
        total += steps * 3 * images.short_side * round(images.short_side * max(sides) / max(min(sides), 1))
    return total


def _mapped(path: Path) -> UInt8[np.ndarray, "T h w 3"]:
    want, hint = "uint8 (steps, height, width, 3)", f"Delete {path.parent} and pack again"
    array = map_array(path, want=want, hint=hint)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
        raise DataError(path, got=f"{array.dtype} {array.shape}", want=want, hint=hint)
    return array


def _picked(frames: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    return frames[steps[0] : steps[0] + 1] if len(steps) == 1 else frames[list(steps)]


def _decoded(dataset: LeRobotDataset, images: ImagePipeline, episode: int, view: str) -> np.ndarray:
    return dataset.frames(episode, view, range(dataset.episode(episode).length), images.resize)
