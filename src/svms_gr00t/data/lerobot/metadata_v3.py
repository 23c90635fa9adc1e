"""The `meta/` folder of a LeRobot v3.0 dataset: parquet tables, many episodes to a data file and to a video.

Step k of an episode is frame `from_timestamp * fps + k` of its shared video. Its rows are found by `episode_index`
(`dataset_from_index` counts rows over all files, so it is no row number). Task texts are a column or the pandas index,
which parquet stores as `task` or `__index_level_0__`.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot.metadata import Clip, Episode, Info, Metadata, fill_template, read_tasks, videos_of

_HINT = "Fetch the dataset again, or convert it with a LeRobot release that writes v3.0"


def _rows(path: Path, *, want: str) -> list[dict[str, Any]]:
    try:
        table = pq.ParquetFile(path).read()
    except FileNotFoundError as error:
        raise DataError(path, got="no such file", want=want, hint=_HINT) from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(path, got=f"an unreadable parquet file ({error})", want=want, hint=_HINT) from error
    return table.select([name for name in table.column_names if not name.startswith("stats/")]).to_pylist()


def read_v3(root: Path, info: Info) -> Metadata:
    """Metadata of version 3.0. Raises DataError for missing or broken files."""
    folder = root / "meta" / "episodes"
    files = sorted(folder.glob("chunk-*/*.parquet"))
    if not files:
        raise DataError(folder, got="no parquet file", want="the list of episodes", hint=_HINT)
    episodes: list[Episode] = []
    data: dict[int, Path] = {}
    clips: dict[tuple[int, str], Clip] = {}
    for row in (row for file in files for row in _rows(file, want="the list of episodes")):
        try:
            episode, path, cameras = _episode(root, info, row)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                folder, got=f"a row without a usable {error}", want="LeRobot v3.0 columns", hint=_HINT
            ) from error
        episodes.append(episode)
        data[episode.index] = path
        clips |= {(episode.index, key): clip for key, clip in cameras.items()}
    if len(data) != len(episodes):
        raise DataError(folder, got="an episode_index twice", want="each once", hint=_HINT)
    tasks = _tasks(root / "meta" / "tasks.parquet")
    return Metadata(info=info, tasks=tasks, episodes=tuple(episodes), data=data, clips=clips, shared=True)


def _episode(root: Path, info: Info, row: dict[str, Any]) -> tuple[Episode, Path, dict[str, Clip]]:
    tasks = tuple(str(task) for task in row.get("tasks") or ())
    episode = Episode(index=int(row["episode_index"]), length=int(row["length"]), tasks=tasks)
    place = {"chunk_index": int(row["data/chunk_index"]), "file_index": int(row["data/file_index"])}
    clips = {}
    for key in videos_of(info):
        where = {name: int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index")}
        path = fill_template(root, info.video_path or "", where | {"video_key": key})
        clips[key] = Clip(path=path, first=round(float(row[f"videos/{key}/from_timestamp"]) * info.fps))
    return episode, fill_template(root, info.data_path, place), clips


def _tasks(path: Path) -> dict[int, str]:
    older = path.with_suffix(".jsonl")  # LeRobot's own page on v3.0 still names it so
    if not path.is_file() and older.is_file():
        return read_tasks(older)
    rows = _rows(path, want="the list of task texts")
    name = next((n for n in ("task", "__index_level_0__") if rows and n in rows[0]), None)
    if name is None or "task_index" not in rows[0]:
        raise DataError(path, got="no task texts", want="the columns task and task_index", hint=_HINT)
    return {int(row["task_index"]): str(row[name]) for row in rows}
