"""Damaged clips, pictures, tables, HDF5 files and arrays: refused in a sentence, or read; never much time or memory."""

import io
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from campaign import campaign, damaged
from PIL import Image
from toy_dataset import pictures

from svms_gr00t.core.files.arrays import map_array, save_array
from svms_gr00t.data.convert.hdf5 import convert_hdf5
from svms_gr00t.data.lerobot.table import read_columns, read_images
from svms_gr00t.data.lerobot.video import VideoReader, encode_video
from svms_gr00t.data.parquet import read_parquet
from svms_gr00t.data.processor.images import ImagePipeline


def test_clips(tmp_path: Path) -> None:
    path, images = tmp_path / "clip.mp4", ImagePipeline(short_side=28)
    encode_video(path, pictures(12), fps=20)

    def read() -> None:
        reader = VideoReader(path)
        try:
            reader.read([0, len(reader) - 1, len(reader) // 2], images.resize)
        finally:
            reader.close()

    tally = campaign("mp4", partial(damaged, path.read_bytes()), path.write_bytes, read, trials=60)
    assert 0 < tally.refused < tally.trials, "some are refused, and some are read"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures(tmp_path: Path, kind: str) -> None:
    path, stream = tmp_path / "rows.parquet", io.BytesIO()
    Image.fromarray(pictures(1)[0]).save(stream, kind)

    def write(data: bytes) -> None:
        pq.write_table(pa.table({"camera": [{"bytes": data}]}), path)

    def read() -> None:
        read_images(path, "camera", [0], length=1, only_episode=None, root=tmp_path)

    assert campaign(kind, partial(damaged, stream.getvalue()), write, read).refused


def table() -> bytes:
    rows = [[float(i), 2.0, 3.0] for i in range(40)]
    columns: dict[str, Any] = {
        "state": pa.array(rows),
        "fixed": pa.array(rows, pa.list_(pa.float32(), 3)),
        "index": np.arange(40),
        "task": ["open the drawer", "close the door"] * 20,
        "camera": [{"bytes": b"x" * 40, "path": "a.png"}] * 40,
    }
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"

    def numbers() -> None:
        read_columns(path, ["state", "fixed", "index"], length=40)

    assert campaign("parquet, numbers", partial(damaged, table()), path.write_bytes, numbers, trials=60).refused
    everything = campaign(
        "parquet, all columns", partial(damaged, table()), path.write_bytes, lambda: read_parquet(path).to_pylist()
    )
    assert everything.refused


def test_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="converting HDF5 needs the convert extra (h5py)")
    path, target = tmp_path / "demo.hdf5", tmp_path / "set"
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo.attrs["ep_meta"] = '{"lang": "open the drawer"}'
        demo["actions"], obs = np.zeros((4, 7)), demo.create_group("obs")
        for name, width in {"ee_pos": 3, "ee_ori": 3, "gripper_states": 2}.items():
            obs[name] = np.ones((4, width))
        for name in ("agentview_rgb", "eye_in_hand_rgb"):
            obs.create_dataset(name, data=pictures(4, size=16), compression="gzip")

    def read() -> None:
        try:
            convert_hdf5(path, target, instruction="go")
        finally:
            for made in (target, *tmp_path.glob(".set*")):
                shutil.rmtree(made, ignore_errors=True)

    assert campaign("HDF5", partial(damaged, path.read_bytes()), path.write_bytes, read, trials=25).refused


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    save_array(path, np.arange(48, dtype=np.float32).reshape(4, 12))

    def read() -> None:
        np.array(map_array(path, want="an array", hint="Delete it"))

    assert campaign(".npy", partial(damaged, path.read_bytes()), path.write_bytes, read, trials=150).refused
