"""Write demonstrations as a LeRobot v2.1 dataset with the GR00T additions, all or nothing.

Axes: T steps of an episode, D elements of a column, H and W pixels.

    meta/{info,modality,stats,provenance}.json, meta/{tasks,episodes,episodes_stats}.jsonl
    data/chunk-000/episode_000000.parquet        videos/chunk-000/<column>/episode_000000.mp4
    extras/episode_000000/<name>.json            whatever the recorder wants to keep beside an episode

The dataset grows under a temporary name beside its target and `finish()` renames it. Equal calls write equal bytes,
also when they were interrupted: with a resume key the finished episodes are kept, and `done` says how many there are.
"""

import json
import shutil
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Shaped

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import dump_json, dump_jsonl, read_raw
from svms_gr00t.core.files.whole import whole_file, written
from svms_gr00t.data.lerobot.modality import Kind, Modality
from svms_gr00t.data.lerobot.staging import Staging, check_free, publish
from svms_gr00t.data.lerobot.summary import RunningSummary, colour_counts, countable, counted, picture_summary
from svms_gr00t.data.lerobot.table import read_columns
from svms_gr00t.data.lerobot.video import encode_video
from svms_gr00t.data.paths import safe_name
from svms_gr00t.data.pictures import Frames

INSTRUCTION_COLUMN = "annotation.human.action.task_description"
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
CHUNK = 1000
_JOURNAL = "journal.jsonl"
_SAMPLED_FRAMES = 32  # pictures of an episode that its image statistics look at

_SCALARS = {
    "timestamp": pa.float32(),
    "frame_index": pa.int64(),
    "episode_index": pa.int64(),
    "index": pa.int64(),
    "task_index": pa.int64(),
    INSTRUCTION_COLUMN: pa.int64(),
    "next.reward": pa.float32(),
    "next.done": pa.bool_(),
}


class LeRobotWriter:
    """Collects episodes; `finish()` makes the dataset appear. A `with` block finishes, or cleans up after an error."""

    def __init__(
        self,
        root: Path | str,
        *,
        fps: float | int,
        robot_type: str,
        modality: Modality,
        lowdim: dict[str, list[str]],
        videos: dict[str, tuple[int, int]],
        provenance: dict[str, Any],
        float_type: Literal["float32", "float64"] = "float32",
        resume: Mapping[str, Any] | None = None,
    ) -> None:
        """Start a dataset at `root`: `lowdim` names the elements of each column, `videos` gives (H, W) of each feature.

        `resume` says what is written, from what: the same value goes on where an interrupted writer stopped.
        Raises DataError when `root` is in use, `modality` speaks of columns that will not be there, or another job
        was interrupted there.
        """
        self.root = Path(root)
        check_free(self.root)
        for name in videos:
            safe_name(name, self.root)
        _check_modality(self.root, modality, lowdim, videos)
        self._fps, self._robot, self._modality = whole_rate(fps), robot_type, modality
        self._lowdim, self._videos, self._provenance = lowdim, videos, provenance
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._episode_stats: list[dict[str, Any]] = []
        self._totals = {name: RunningSummary() for name in [*lowdim, *_SCALARS]}
        self._frames, self._float = 0, np.dtype(float_type)
        self._staging: Staging | None = None
        self._folder: Path | None = self.root.with_name(f".{self.root.name}.{uuid.uuid4().hex[:8]}.partial")
        if resume is not None:
            self._staging = Staging(self.root, resume)
            self._folder = self._staging.folder
            try:
                self._take_up(self._staging.home / _JOURNAL)
            except BaseException:
                self._staging.close()
                raise
        self._folder.mkdir(parents=True, exist_ok=True)

    @property
    def done(self) -> int:
        """Episodes written so far."""
        return len(self._episodes)

    def extras(self, index: int, name: str) -> dict[str, Any]:
        """What `add_episode` kept beside a finished episode. Raises DataError when it is damaged."""
        return read_raw(self._open() / "extras" / f"episode_{index:06d}" / f"{safe_name(name, self.root)}.json")

    def _take_up(self, journal: Path) -> None:
        """Read back what an interrupted writer finished, up to a damaged or half-written line."""
        lines = journal.read_bytes().split(b"\n") if journal.is_file() else []
        whole = []
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                break
            whole.append(line)
            index, length = row["episode_index"], row["length"]
            self._tasks.setdefault(row["tasks"][0], len(self._tasks))
            path = self._open() / DATA_PATH.format(episode_chunk=index // CHUNK, episode_index=index)
            for name, rows in read_columns(path, list(self._totals), length=length).items():
                self._totals[name].update(np.ascontiguousarray(rows))  # a sum in another order has other last bits
            self._episode_stats.append({"episode_index": index, "stats": row.pop("stats")})
            self._episodes.append(row)
            self._frames += length
        with whole_file(journal) as partial:
            partial.write_bytes(b"".join(line + b"\n" for line in whole))

    def __enter__(self) -> "LeRobotWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        elif self._folder is not None:
            self.finish()

    def abort(self) -> None:
        """Throw away what was written, unless it can be resumed; the target name stays free."""
        if self._staging is not None:
            if not self._episodes:
                shutil.rmtree(self._staging.home, ignore_errors=True)
            self._staging.close()
        elif self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def add_episode(
        self,
        columns: dict[str, Shaped[np.ndarray, "_T _D"]],
        videos: Mapping[str, Frames],
        instruction: str,
        extras: dict[str, Any] | None = None,
        *,
        success: bool = True,
    ) -> int:
        """Write one demonstration and return its index; its last step is done, with reward 1 when it is a `success`.

        Raises DataError for missing or unknown columns, other sizes, NaN or an empty instruction.
        """
        folder, index = self._open(), len(self._episodes)
        columns = {name: np.ascontiguousarray(rows, self._float) for name, rows in columns.items()}
        length = self._check_episode(columns, videos, instruction)
        task = self._tasks.setdefault(instruction, len(self._tasks))
        steps = np.arange(length)
        scalars = {
            "timestamp": (steps / self._fps).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(length, index),
            "index": steps + self._frames,
            "task_index": np.full(length, task),
            INSTRUCTION_COLUMN: np.full(length, task),
            "next.reward": ((steps == length - 1) * float(success)).astype(np.float32),
            "next.done": steps == length - 1,
        }
        place = {"episode_chunk": index // CHUNK, "episode_index": index}
        _write_parquet(folder / DATA_PATH.format(**place), columns, scalars)
        for name, frames in videos.items():
            encode_video(folder / VIDEO_PATH.format(video_key=name, **place), frames, fps=self._fps)
        for name, value in (extras or {}).items():
            dump_json(folder / "extras" / f"episode_{index:06d}" / f"{safe_name(name, self.root)}.json", value)
        self._note_statistics(index, columns | {k: v[:, None] for k, v in scalars.items()}, videos)
        self._episodes.append({"episode_index": index, "tasks": [instruction], "length": length})
        self._frames += length
        if self._staging is not None:
            line = json.dumps(self._episodes[-1] | {"stats": self._episode_stats[-1]["stats"]}, ensure_ascii=False)
            with (self._staging.home / _JOURNAL).open("ab") as file:
                file.write(f"{line}\n".encode())
        return index

    def finish(self) -> Path:
        """Write the metadata and rename the folder to its final name. Raises DataError when no episode was added."""
        folder = self._open()
        if not self._episodes:
            self.abort()
            raise DataError(self.root, got="no episodes", want="at least one", hint="Call add_episode before finish")
        meta = folder / "meta"
        dump_json(meta / "info.json", self._info())
        dump_json(meta / "modality.json", self._modality.to_dict())
        dump_json(meta / "stats.json", {name: total.result() for name, total in self._totals.items()})
        dump_json(meta / "provenance.json", self._provenance)
        dump_jsonl(meta / "tasks.jsonl", [{"task_index": i, "task": task} for task, i in self._tasks.items()])
        dump_jsonl(meta / "episodes.jsonl", self._episodes)
        dump_jsonl(meta / "episodes_stats.jsonl", self._episode_stats)
        try:
            publish(folder, self.root) if self._staging is None else self._staging.finish()
        except DataError:
            self.abort()
            raise
        self._folder = None
        return self.root

    def _open(self) -> Path:
        assert self._folder is not None, "the writer is finished"
        return self._folder

    def _check_episode(self, columns: dict[str, np.ndarray], videos: Mapping[str, Frames], instruction: str) -> int:
        where = f"{self.root}, episode {len(self._episodes)}"
        want: dict[str, tuple[int, ...]] = {name: (len(names),) for name, names in self._lowdim.items()}
        want |= {name: (*size, 3) for name, size in self._videos.items()}
        given: dict[str, Frames] = {**columns, **videos}
        got = {name: tuple(value.shape[1:]) for name, value in given.items()}
        if got != want:
            name = next(n for n in [*want, *got] if got.get(n) != want.get(n))
            found, need = (f"{table[name]} a step" if name in table else "nothing" for table in (got, want))
            hint = "Record what the writer was opened with"
            raise DataError(f"{where}, {name}", got=found, want=need, hint=hint)
        lengths = {len(value) for value in given.values()}
        if len(lengths) != 1 or 0 in lengths:
            hint = "Give every column and camera the same number of steps"
            raise DataError(where, got=f"lengths {sorted(lengths)}", want="one length above 0", hint=hint)
        for name, value in columns.items():
            if not countable(value).all():
                found = "numbers that float32 cannot hold" if np.isfinite(value).all() else "NaN or infinity"
                raise DataError(f"{where}, {name}", got=found, want="finite numbers", hint="Drop this episode")
        if not instruction.strip():
            raise DataError(where, got="an empty instruction", want="a sentence", hint="Say what the robot does")
        return lengths.pop()

    def _note_statistics(self, index: int, columns: dict[str, np.ndarray], videos: Mapping[str, Frames]) -> None:
        stats: dict[str, dict[str, Any]] = {}
        for name, rows in columns.items():
            episode = RunningSummary()
            episode.update(rows)
            self._totals[name].update(rows)
            stats[name] = counted(episode)
        for name, frames in videos.items():
            counts = [colour_counts(frames[[step]]) for step in sampled_steps(len(frames))]
            stats[name] = picture_summary(np.concatenate(counts))
        self._episode_stats.append({"episode_index": index, "stats": stats})

    def _info(self) -> dict[str, Any]:
        features: dict[str, Any] = {
            name: {"dtype": self._float.name, "shape": [len(names)], "names": names}
            for name, names in self._lowdim.items()
        }
        for name, (height, width) in self._videos.items():
            video: dict[str, Any] = {
                "video.fps": self._fps,
                "video.height": height,
                "video.width": width,
                "video.channels": 3,
            }
            video |= {
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "has_audio": False,
            }
            shape = {"shape": [height, width, 3], "names": ["height", "width", "channels"]}
            features[name] = {"dtype": "video", **shape, "info": video}
        for name, kind in _SCALARS.items():
            dtype = {"float": "float32"}.get(str(kind), str(kind))
            features[name] = {"dtype": dtype, "shape": [1], "names": None}
        count = len(self._episodes)
        return {
            "codebase_version": "v2.1",
            "robot_type": self._robot,
            "total_episodes": count,
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "total_videos": count * len(self._videos),
            "total_chunks": -(-count // CHUNK),
            "chunks_size": CHUNK,
            "fps": self._fps,
            "splits": {"train": f"0:{count}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH,
            "features": features,
        }


def _check_modality(
    where: Path, modality: Modality, lowdim: dict[str, list[str]], videos: dict[str, tuple[int, int]]
) -> None:
    """Every name in `modality` must be a column or feature that the writer makes."""
    hint = "Make modality and the writer's columns agree"
    slices: tuple[tuple[Kind, Mapping[str, Any]], ...] = (("state", modality.state), ("action", modality.action))
    for kind, entries in slices:
        for key, entry in entries.items():
            column = modality.column(kind, key)
            width = len(lowdim.get(column, ()))
            if entry.end > width:
                got, want = f"{kind}.{key} ending at {entry.end}", f"at most the {width} elements of {column}"
                raise DataError(where, got=got, want=want, hint=hint)
    for name, size in videos.items():
        if size[0] % 2 or size[1] % 2:
            hint = "Render the camera at an even size"
            raise DataError(where, got=f"{name} of {size[0]} x {size[1]}", want="even sizes (4:2:0 video)", hint=hint)
    named: dict[str, Collection[str]] = {modality.column("video", key): videos for key in modality.video}
    named |= {modality.column("annotation", key): dict.fromkeys(_SCALARS) for key in modality.annotation}
    for column, known in named.items():
        if column not in known:
            raise DataError(where, got=f"modality.json naming {column}", want=f"one of {', '.join(known)}", hint=hint)


def whole_rate(fps: float | int) -> float | int:
    """Steps a second as info.json holds them: a whole number is an integer there, or LeRobot cannot append."""
    return int(fps) if float(fps).is_integer() else float(fps)


def sampled_steps(length: int) -> list[int]:
    """The steps whose pictures the image statistics of an episode look at."""
    return list(range(0, length, -(-length // _SAMPLED_FRAMES)))


def _write_parquet(path: Path, columns: dict[str, np.ndarray], scalars: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table: dict[str, pa.Array] = {}
    for name, rows in columns.items():
        flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
        offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1])
        table[name] = pa.ListArray.from_arrays(offsets, flat)
    for name, values in scalars.items():
        table[name] = pa.array(values).cast(_SCALARS[name])
    with written(path):
        pq.write_table(pa.table(table), path)
