"""An HDF5 array declares its size in a few bytes: it is compared with what the file holds; pictures come in blocks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_disk import full_disk
from peak import peak_of
from toy_dataset import pictures

from svms_gr00t.cli.console import ended
from svms_gr00t.core.errors import DataError
from svms_gr00t.core.sizes import RAISED
from svms_gr00t.data.convert.hdf5 import convert_hdf5
from svms_gr00t.data.convert.hdf5_file import Film

h5py = pytest.importorskip("h5py", reason="converting HDF5 needs the convert extra (h5py)")
MB, STEPS = 1 << 20, 6
STATES = {"ee_pos": 3, "ee_ori": 3, "gripper_states": 2}


def libero(path: Path, change: Any = None, steps: int = STEPS, size: int = 48) -> Path:
    """A small file as LIBERO writes it."""
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"], obs = np.zeros((steps, 7)), demo.create_group("obs")
        for name, width in STATES.items():
            obs[name] = np.zeros((steps, width))
        clip = {"chunks": (1, size, size, 3), "compression": "gzip"}
        for seed, name in enumerate(("agentview_rgb", "eye_in_hand_rgb")):
            obs.create_dataset(name, data=pictures(steps, seed=seed, size=size), **clip)
        if change is not None:
            change(demo)
    return path


def replaced(group: Any, name: str, **made: Any) -> None:
    del group[name]
    group.create_dataset(name, **made)


DECLARED: dict[str, Any] = {
    "actions": lambda demo: replaced(demo, "actions", shape=(10**10, 7), dtype="f8", chunks=(1000, 7)),
    "states": lambda demo: replaced(demo["obs"], "ee_pos", shape=(10**10, 3), dtype="f8", chunks=(1000, 3)),
    "pictures": lambda demo: replaced(
        demo["obs"], "agentview_rgb", shape=(10**6, 448, 448, 3), dtype="u1", chunks=(1, 448, 448, 3)
    ),
    "one picture": lambda demo: replaced(
        demo["obs"], "agentview_rgb", shape=(STEPS, 10**5, 10**5, 3), dtype="u1", chunks=(1, 100, 100, 3)
    ),
    "rewards": lambda demo: demo.create_dataset("rewards", shape=(10**10,), dtype="f8", chunks=(1000,)),
}


@pytest.mark.parametrize("what", DECLARED)
def test_what_was_never_written_is_not_read(tmp_path: Path, what: str) -> None:
    path = libero(tmp_path / "demo.hdf5", DECLARED[what])
    assert path.stat().st_size < 100_000

    def refused() -> None:
        with pytest.raises(DataError, match=r"declares [\d,]+ bytes and holds 0"):
            convert_hdf5(path, tmp_path / "set", instruction="go")

    assert peak_of(refused) < 30 * MB
    assert not (tmp_path / "set").exists()


def test_numbers_that_pack_well_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def many(demo: Any) -> None:
        rows = np.zeros((200_000, 7))
        replaced(demo, "actions", data=rows, chunks=(1000, 7), compression="gzip")
        for name, width in STATES.items():
            replaced(demo["obs"], name, data=rows[:, :width], chunks=(1000, width), compression="gzip")

    path = libero(tmp_path / "demo.hdf5", many)
    monkeypatch.setenv(RAISED, "array_bytes=12e6")  # each of them is below that
    with pytest.raises(DataError, match=r"arrays of 24,000,000 bytes.*--limit array_bytes=24000000"):
        convert_hdf5(path, tmp_path / "set", instruction="go")


def test_a_block_of_pictures_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = np.zeros((100, 64, 64, 3), np.uint8)
    made = {"data": clip, "chunks": clip.shape, "compression": "gzip"}
    path = libero(tmp_path / "demo.hdf5", lambda demo: replaced(demo["obs"], "agentview_rgb", **made))
    monkeypatch.setenv(RAISED, "array_bytes=1e6")
    with pytest.raises(DataError, match=r"blocks of 1,228,800 bytes"):
        convert_hdf5(path, tmp_path / "set", instruction="go")


def test_values_of_other_kinds_are_named(tmp_path: Path) -> None:
    for made in ({"data": [b"text"] * STEPS}, {"data": np.zeros(STEPS, [("a", "f8")])}):
        path = libero(tmp_path / "demo.hdf5", lambda demo, made=made: replaced(demo["obs"], "ee_pos", **made))
        with pytest.raises(DataError, match="values of type"):
            convert_hdf5(path, tmp_path / "set", instruction="go")
    path = libero(tmp_path / "demo.hdf5", lambda demo: demo.create_group("rewards"))
    with pytest.raises(DataError, match="a group"):
        convert_hdf5(path, tmp_path / "set", instruction="go")


def test_a_demonstration_is_never_whole_in_memory(tmp_path: Path) -> None:
    path, frames = tmp_path / "film.hdf5", np.zeros((400, 256, 256, 3), np.uint8)
    frames[:, 3, 5] = np.arange(400)[:, None] % 251
    with h5py.File(path, "w") as file:
        file.create_dataset("film", data=frames, chunks=(7, 256, 256, 3), compression="gzip")
    with h5py.File(path) as file:
        film = Film("here", file["film"], lambda pictures: pictures[:, ::-1])
        assert film.shape == frames.shape
        np.testing.assert_array_equal(film[[3, 1]], frames[[3, 1], ::-1])
        assert peak_of(lambda: [picture.max() for picture in film]) < 25 * MB
        for number, picture in enumerate(film):
            np.testing.assert_array_equal(picture, frames[number, ::-1])
        assert peak_of(lambda: np.asarray(file["film"])) > 70 * MB, "mutant: read at once"


@pytest.mark.parametrize("room", [200, 1_000, 2_500])
def test_a_full_disk_is_not_the_files_fault(tmp_path: Path, room: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever file it is that finds no room, its name is said; with room the same command goes on."""
    path = libero(tmp_path / "demo.hdf5")

    def convert() -> int:
        with full_disk(room):
            convert_hdf5(path, tmp_path / "out", instruction="open it", fps=20)
        return 0

    assert ended(convert, []) == 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert "Make room there, then run the same command again" in said
    assert str(tmp_path) in said
    assert "demo.hdf5" not in said
    assert convert_hdf5(path, tmp_path / "out", instruction="open it", fps=20).episodes == 1
