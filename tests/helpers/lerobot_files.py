"""LeRobot folders changed, written in the layout of 3.0, and compared byte for byte."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from toy_dataset import LENGTHS

from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.video import encode_video


def change_json(path: Path, **fields: Any) -> None:
    value = json.loads(path.read_text())
    value.update(fields)
    path.write_text(json.dumps(value))


def as_v3(root: Path) -> Path:
    """The same demonstrations in the layout of LeRobot 3.0: one parquet file, one video, parquet tables in meta."""
    target = root.with_name("v3")
    old = LeRobotDataset.open(root)
    shutil.copytree(root / "meta", target / "meta")
    for name in ("episodes.jsonl", "tasks.jsonl", "episodes_stats.jsonl"):
        (target / "meta" / name).unlink()
    (target / "data/chunk-000").mkdir(parents=True)
    tables = [pq.read_table(root / f"data/chunk-000/episode_{i:06d}.parquet") for i in range(3)]
    pq.write_table(pa.concat_tables(tables), target / "data/chunk-000/file-000.parquet")
    key = "observation.images.front"
    frames = np.concatenate([old.frames(e.index, "front", range(e.length)) for e in old.episodes])
    encode_video(target / f"videos/{key}/chunk-000/file-000.mp4", frames, fps=20)
    starts = np.cumsum([0, *LENGTHS])
    place = {f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": 0, "stats/action/min": [0.0]}
    place |= {"data/chunk_index": 0, "data/file_index": 0, "dataset_from_index": 0}
    rows = [
        {"episode_index": e.index, "length": e.length, "tasks": list(e.tasks), **place}
        | {f"videos/{key}/from_timestamp": float(start) / 20, f"videos/{key}/to_timestamp": 0.0}
        for e, start in zip(old.episodes, starts, strict=False)
    ]
    (target / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), target / "meta/episodes/chunk-000/file-000.parquet")
    tasks = {"task_index": list(old.tasks), "__index_level_0__": list(old.tasks.values())}
    pq.write_table(pa.table(tasks), target / "meta/tasks.parquet")
    data, video = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", "videos/{video_key}/chunk-"
    video += "{chunk_index:03d}/file-{file_index:03d}.mp4"
    change_json(target / "meta/info.json", codebase_version="v3.0", data_path=data, video_path=video)
    return target


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def each_table(root: Path, change: Any) -> None:
    """Every data file rewritten as `change` makes it of its table."""
    for path in sorted(root.glob("data/*/*.parquet")):
        pq.write_table(change(pq.read_table(path)), path)


def rename_columns(root: Path, names: dict[str, str]) -> None:
    """The same dataset with other names of columns, in its files and in info.json."""
    each_table(root, lambda table: table.rename_columns([names.get(name, name) for name in table.column_names]))
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"] = {names.get(name, name): feature for name, feature in info["features"].items()}
    path.write_text(json.dumps(info))


def change_feature(root: Path, name: str, **fields: Any) -> None:
    """Some fields of one feature in info.json."""
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"][name] |= fields
    path.write_text(json.dumps(info))
