"""Files and folders appear whole; a writer that dies at any point loses neither the old nor the new one."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.lock import only_one
from svms_gr00t.core.files.whole import recover, whole_file, whole_folder
from svms_gr00t.groot.checkpoint.hub import locate
from svms_gr00t.groot.checkpoint.saving import checkpoint_folder

DYING = """
import os, sys
from pathlib import Path
from svms_gr00t.core.files.whole import whole_folder
folder, renames, real = Path(sys.argv[1]), int(sys.argv[2]), Path.rename
def rename(self, target):
    global renames
    if renames == 0:
        os._exit(9)
    renames -= 1
    return real(self, target)
Path.rename = rename
with whole_folder(folder) as partial:
    (partial / "a.json").write_text("new")
os._exit(9)
"""


def die_after(renames: int, folder: Path) -> None:
    """Replace `folder` in a process that is gone after so many renames."""
    done = subprocess.run([sys.executable, "-c", DYING, str(folder), str(renames)], check=False)
    assert done.returncode == 9


def old(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    with whole_folder(folder) as partial:
        (partial / "a.json").write_text("old")
        (partial / "processor_config.json").write_text("precious")
    return folder


@pytest.mark.parametrize(("renames", "left"), [(0, "old"), (1, "new"), (2, "new")])
def test_a_writer_that_dies_between_its_renames_loses_nothing(tmp_path: Path, renames: int, left: str) -> None:
    folder = old(tmp_path)
    die_after(renames, folder)
    assert folder.exists() is (renames != 1), "else this test kills at the wrong moment"
    assert locate(folder) == folder
    assert (folder / "a.json").read_text() == left
    with whole_folder(folder) as partial:
        (partial / "a.json").write_text("third")
    assert (folder / "a.json").read_text() == "third"
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "nothing of the dead one is left"


def test_the_next_writer_that_fails_does_not_lose_it_either(tmp_path: Path) -> None:
    folder = old(tmp_path)
    die_after(1, folder)

    def fail() -> None:
        with whole_folder(folder):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (folder / "a.json").read_text() == "new"


def test_the_old_one_comes_back_where_the_new_one_is_gone(tmp_path: Path) -> None:
    folder = old(tmp_path)
    folder.rename(tmp_path / ".run.old")
    with checkpoint_folder(folder) as partial:
        (partial / "b.json").write_text("new")
    assert (folder / "processor_config.json").read_text() == "precious", "files that a checkpoint keeps were lost"
    recover(tmp_path)  # a folder that nobody replaced stays as it is
    recover(Path("/"))
    assert (folder / "b.json").read_text() == "new"


def test_every_file_of_a_checkpoint_has_the_mode_of_any_other_new_file(tmp_path: Path) -> None:
    weights = {"w": torch.zeros(2)}
    save_file(weights, tmp_path / "bare.safetensors")
    assert stat.S_IMODE((tmp_path / "bare.safetensors").stat().st_mode) == 0o600, (
        "safetensors' own, on which this rests"
    )
    before = os.umask(0o027)
    try:
        with whole_folder(tmp_path / "run") as partial:
            save_file(weights, partial / "w.safetensors")
            (partial / "a.json").write_text("{}")
        with whole_file(tmp_path / "one.safetensors") as one:
            save_file(weights, one)
    finally:
        os.umask(before)
    files = [tmp_path / "one.safetensors", *(tmp_path / "run").iterdir()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o640}
    assert len(files) == 3


HOLDER = """
import sys
from pathlib import Path
from svms_gr00t.core.files.lock import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_by_one_process_until_that_dies(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=f"another process at work in it.*process {holder.pid}"), only_one(folder):
            pass
        holder.kill()
        holder.wait()
        with only_one(folder):
            (folder / "result").write_text("x")
            with pytest.raises(DataError, match=f"process {os.getpid()}"), only_one(folder):
                pass
    assert (folder / "result").exists()


def test_a_lock_leaves_no_folder_where_nothing_was_written(tmp_path: Path) -> None:
    with only_one(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    with only_one(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()
