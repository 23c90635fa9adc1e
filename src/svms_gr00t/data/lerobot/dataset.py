"""Read LeRobot datasets (v2.0, v2.1, v3.0) in their GR00T flavour: named numbers, pictures, instruction.

Axes: T steps of an episode, D elements of a key, n frames asked for, H and W pixels.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot.fingerprint import fingerprint
from svms_gr00t.data.lerobot.metadata import Episode, Info, Metadata, read_info, read_metadata, version_of, videos_of
from svms_gr00t.data.lerobot.modality import WATCHED_KEY, Kind, LowDim, Modality
from svms_gr00t.data.lerobot.table import read_columns, read_images
from svms_gr00t.data.lerobot.video import VideoCache
from svms_gr00t.data.pictures import Each, as_they_are


@dataclass(frozen=True, kw_only=True)
class LeRobotDataset:
    """A dataset opened for reading; numbers and pictures are read when asked for. Copies may go to other processes."""

    root: Path
    """Folder that holds meta/, data/ and videos/."""
    modality: Modality
    """Names of the slices, cameras and annotations."""
    metadata: Metadata
    """Episodes, tasks and files."""
    _videos: VideoCache = field(default_factory=VideoCache, repr=False, compare=False)

    @classmethod
    def open(
        cls, root: Path | str, *, modality: Modality | None = None, empty_episodes: bool = False
    ) -> "LeRobotDataset":
        """Read the metadata; `modality` stands in for meta/modality.json.

        Raises DataError when something is missing, broken or of an unknown version, and for episodes without steps
        unless `empty_episodes` lets them pass.
        """
        root = Path(root)
        info = read_info(root)
        version_of(root, info)  # before what is missing from an unknown version is blamed on something else
        modality = modality or Modality.load(root / "meta" / "modality.json")
        _check_features(root, info, modality)
        metadata = read_metadata(root, info)
        empty = [episode.index for episode in metadata.episodes if episode.length < 1]
        if empty and not empty_episodes:
            hint = "Remove it from the list of episodes"
            raise DataError(f"{root}, episode {empty[0]}", got="0 steps", want="at least one", hint=hint)
        return cls(root=root, modality=modality, metadata=metadata)

    @property
    def info(self) -> Info:
        """The checked info.json."""
        return self.metadata.info

    @property
    def fps(self) -> float:
        """Steps a second."""
        return self.info.fps

    @property
    def robot_type(self) -> str:
        """The robot's name, "unknown" when the dataset does not say."""
        return self.info.robot_type or "unknown"

    @property
    def tasks(self) -> dict[int, str]:
        """Task texts by task index."""
        return self.metadata.tasks

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """All demonstrations, in file order."""
        return self.metadata.episodes

    @property
    def views(self) -> tuple[str, ...]:
        """Camera names, modality.json's video keys."""
        return tuple(self.modality.video)

    @cached_property
    def _by_index(self) -> dict[int, Episode]:
        return {episode.index: episode for episode in self.episodes}

    def episode(self, index: int) -> Episode:
        """The episode with this number. Raises DataError when there is none."""
        if index not in self._by_index:
            got, want = f"episode {index}", f"one of the {len(self.episodes)} episodes (numbers {self._span})"
            raise DataError(self.root, got=got, want=want, hint="Choose episodes that the dataset has")
        return self._by_index[index]

    @property
    def _span(self) -> str:
        return f"{min(self._by_index)} to {max(self._by_index)}"

    def without(self, episodes: Collection[int]) -> "LeRobotDataset":
        """The same dataset without these episodes."""
        kept = tuple(episode for episode in self.episodes if episode.index not in episodes)
        return replace(self, metadata=replace(self.metadata, episodes=kept))

    def only(self, episodes: Collection[int]) -> "LeRobotDataset":
        """The same dataset with these episodes only. Raises DataError for a number that it does not have."""
        for index in episodes:
            self.episode(index)
        return self.without(self._by_index.keys() - set(episodes))

    def check_episode(self, index: int) -> None:
        """Read its rows, its instruction and the length of its clips. Raises DataError for the first fault."""
        if self.episode(index).length < 1:
            hint = "Remove it from the list of episodes"
            raise DataError(f"{self.root}, episode {index}", got="0 steps", want="at least one", hint=hint)
        self.rows(index)
        for view in self.views:
            self.frames(index, view, [])

    def columns(self, index: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Parquet columns of one episode as (T, D) arrays of their stored type. Raises DataError."""
        episode = self.episode(index)
        only = index if self.metadata.shared else None
        return read_columns(self.metadata.data[index], names, length=episode.length, only_episode=only)

    def lowdim(self, index: int) -> dict[str, Float32[np.ndarray, "_T _D"]]:
        """Every `state.<key>` and `action.<key>` of one episode in physical units, modality.json's order.

        Raises DataError for missing or broken files, slices beyond the column, NaN and infinity.
        """
        return self._lowdim(index, self.columns(index, self._number_columns))

    def rows(self, index: int) -> tuple[dict[str, Float32[np.ndarray, "_T _D"]], list[str]]:
        """`lowdim` and `instructions` of one episode, whose file is opened once. Raises DataError as they do."""
        columns = self.columns(index, [*self._number_columns, self._text_column])
        return self._lowdim(index, columns), self._instructions(index, columns)

    @property
    def _number_columns(self) -> list[str]:
        keys: list[tuple[Kind, str]] = [("state", key) for key in self.modality.state]
        keys += [("action", key) for key in self.modality.action]
        return [self.modality.column(*name) for name in keys]

    @property
    def _text_column(self) -> str:
        key = self.modality.instruction_key
        return "task_index" if key is None else self.modality.column("annotation", key)

    def _lowdim(self, index: int, columns: dict[str, np.ndarray]) -> dict[str, Float32[np.ndarray, "_T _D"]]:
        slices: dict[tuple[Kind, str], LowDim] = {("state", key): entry for key, entry in self.modality.state.items()}
        slices |= {("action", key): entry for key, entry in self.modality.action.items()}
        result = {}
        for (kind, key), entry in slices.items():
            name = self.modality.column(kind, key)
            column, where = columns[name], f"{self.metadata.data[index]}, {name}"
            if column.shape[1] < entry.end:
                got, want = f"{column.shape[1]} numbers", f"the {entry.end} that {kind}.{key} ends at"
                raise DataError(where, got=got, want=want, hint="Correct meta/modality.json")
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, which is refused below
                values = np.ascontiguousarray(column[:, entry.start : entry.end], dtype=np.float32)
            if not np.isfinite(values).all():
                step = int(np.argwhere(~np.isfinite(values))[0, 0])
                hint = f"Leave out episode {index} or mend the file"
                raise DataError(where, got=f"NaN or infinity at step {step}", want="finite numbers", hint=hint)
            result[f"{kind}.{key}"] = values
        return result

    def frames(
        self, index: int, view: str, steps: Sequence[int], each: Each = as_they_are
    ) -> Shaped[np.ndarray, "n *picture"]:
        """Pictures of camera `view` at `steps`, any order, repeats allowed; `each` is done to one at a time.

        Raises DataError for an unknown camera or step, a missing or broken video, or one of another length.
        """
        episode = self.episode(index)
        if view not in self.modality.video:
            want = f"one of {', '.join(self.views) or 'no cameras'}"
            raise DataError(self.root, got=f"camera {view!r}", want=want, hint="See video in meta/modality.json")
        if bad := [step for step in steps if not 0 <= step < episode.length]:
            got, want = f"step {bad[0]}", f"steps 0 to {episode.length - 1}"
            raise DataError(f"{self.root}, episode {index}", got=got, want=want, hint="Ask for steps of the episode")
        column = self.modality.column("video", view)
        feature = self.info.features[column]
        if feature.tabled:
            only = index if self.metadata.shared else None
            place: dict[str, Any] = {"length": episode.length, "only_episode": only, "root": self.root}
            return read_images(self.metadata.data[index], column, steps, shape=feature.shape, each=each, **place)
        clip = self.metadata.clips.get((index, column))
        if clip is None:
            want, hint = (
                f"a video of {column}",
                "Take that camera out of meta/modality.json, or fetch the dataset again",
            )
            raise DataError(f"{self.root}, episode {index}", got="none in the list of episodes", want=want, hint=hint)
        reader = self._videos.open(clip.path)
        needed = clip.first + episode.length if clip.frames is None else clip.frames
        if len(reader) < needed or (clip.frames is not None and len(reader) != needed):
            want = f"{needed}, as many as there are steps"
            raise DataError(clip.path, got=f"{len(reader)} frames", want=want, hint="Fetch or encode that video again")
        return reader.read([clip.first + step for step in steps], each)

    def instructions(self, index: int) -> list[str]:
        """The instruction at every step: modality.json's annotation, else the column task_index.

        Raises DataError when a task index is not in the list of tasks.
        """
        return self._instructions(index, self.columns(index, [self._text_column]))

    def _instructions(self, index: int, columns: dict[str, np.ndarray]) -> list[str]:
        name = self._text_column
        indices = columns[name][:, 0]
        for step, task in enumerate(indices):
            if int(task) not in self.tasks or task != int(task):
                where, hint = f"{self.metadata.data[index]}, {name}, step {step}", "Complete the list of tasks in meta/"
                raise DataError(where, got=f"task index {task}", want=f"one of {sorted(self.tasks)[:8]}", hint=hint)
        return [self.tasks[int(task)] for task in indices]

    def watched(self, index: int) -> int:
        """Steps that an episode begins with and that the robot was shown, not did: true in the annotation "watched".

        They are a past to remember; nothing is learned or judged of what was done there. Raises DataError unless they
        come first and others follow.
        """
        if WATCHED_KEY not in self.modality.annotation:
            return 0
        name = self.modality.column("annotation", WATCHED_KEY)
        shown = self.columns(index, [name])[name][:, 0] != 0
        count = int(shown.sum())
        if shown[count:].any() or count == len(shown):
            last = int(np.flatnonzero(shown)[-1])
            got = f"{count} watched steps of {len(shown)}, the last at step {last}"
            where, hint = f"{self.metadata.data[index]}, {name}, episode {index}", "Cut that episode, or leave it out"
            raise DataError(where, got=got, want="watched steps first, then others", hint=hint)
        return count

    def instruction(self, index: int, step: int) -> str:
        """The instruction at one step."""
        return self.instructions(index)[step]

    def fingerprint(self) -> str:
        """A hash that names the data: "content:..." for sets up to 2 GiB, else "sampled:..." (see `fingerprint`)."""
        cameras = {self.modality.column("video", key) for key in self.modality.video}
        clips = {clip.path for (_, camera), clip in self.metadata.clips.items() if camera in cameras}
        pictures = [name for name, feature in self.info.features.items() if feature.tabled]
        return fingerprint(self.root, set(self.metadata.data.values()), clips, pictures)


def _check_features(root: Path, info: Info, modality: Modality) -> None:
    """Every camera that modality.json names must be a video feature with a path, or pictures in the parquet files."""
    videos = videos_of(info)
    known = [name for name, feature in info.features.items() if feature.tabled or name in videos]
    for key in modality.video:
        column = modality.column("video", key)
        if column in info.features and info.features[column].depth:
            where, hint = (
                root / "meta" / "modality.json",
                "Take it out of video; a model of colours cannot read distances",
            )
            got = f"camera {key} from {column}, a depth map"
            raise DataError(where, got=got, want="a camera of colours", hint=hint)
        if column not in known:
            feature = info.features.get(column)
            where, hint = root / "meta" / "modality.json", "Correct original_key, or encode the pictures as videos"
            got = f"camera {key} from {column}, which is {'no feature' if feature is None else feature.dtype}"
            raise DataError(where, got=got, want=f"a video feature ({', '.join(known) or 'none here'})", hint=hint)


def spread(episodes: Sequence[int], limit: int) -> tuple[int, ...]:
    """At most `limit` of them, evenly spread; 0 means all."""
    if not limit or len(episodes) <= limit:
        return tuple(episodes)
    return tuple(episodes[int(i)] for i in np.linspace(0, len(episodes) - 1, limit).round())
