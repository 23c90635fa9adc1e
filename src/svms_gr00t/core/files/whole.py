"""Files and folders that are complete under their name, or not there at all.

    .NAME.partial   being written; what a killed writer left is thrown away by the next one
    .NAME.old       what NAME held, while a replaced folder has neither: `recover` goes on from there

A folder cannot be replaced in one step: the old one is renamed away, then the new one takes its name.
"""

import contextlib
import errno
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

log = logging.getLogger(__name__)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""How a full disk, a used-up quota and a bounded file size are told."""


def no_room(error: BaseException) -> bool:
    """Whether this says that nothing more can be written, in whichever library's class: no input is to blame then."""
    return getattr(error, "errno", None) in NO_ROOM


@contextmanager
def written(path: Path) -> Iterator[None]:
    """What keeps the block from writing `path`, such as a full disk, comes out as an OSError that names a file."""
    try:
        yield
    except SafetensorError as error:  # it tells a full disk in words: "... (os error 28)"
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise
    except Exception as error:
        if not no_room(error):
            raise
        code: int = error.errno  # type: ignore[attr-defined]  # a codec's own class
        raise OSError(code, os.strerror(code), str(path)) from error


def partial_of(path: Path) -> Path:
    """The name under which `path` is written."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """A file that appears, or replaces the old one, when the block ends without an error; makes parent folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path)
    mode = _usual_mode(partial)
    try:
        with written(path):
            yield partial
        partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path | str) -> Iterator[Path]:
    """A folder that appears, or replaces the old one, only when the block ends without an error.

    Its files get the mode of any new file, and are on the disk before they take the name.
    """
    folder = Path(folder).absolute()
    partial, old = partial_of(folder), _old(folder)
    recover(folder)
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with written(folder):
            yield partial
            _settle(partial)
        if folder.exists():
            folder.rename(old)
        with contextlib.suppress(FileNotFoundError):  # a reader that came between the two renames did it for us
            partial.rename(folder)
    finally:
        recover(folder)
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)


def recover(folder: Path | str) -> None:
    """Finish the replacement of `folder` if its writer died between the two renames. Call it before reading one."""
    folder = Path(folder).absolute()
    if not folder.name or folder.exists() or not (old := _old(folder)).is_dir():
        return
    # The old one is renamed only when the new one is complete. OSError: another reader was faster, or it is read-only.
    for whole in (partial_of(folder), old):
        with contextlib.suppress(OSError):
            whole.rename(folder)
            log.warning("%s was being replaced when its writer died; the %s one is there.", folder, _age(whole, old))
            return


def _age(whole: Path, old: Path) -> str:
    return "old" if whole == old else "new"


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _usual_mode(path: Path) -> int:
    """Mode of a file that is made anew at `path`: safetensors makes its own private, others do not."""
    path.unlink(missing_ok=True)
    path.touch()
    return stat.S_IMODE(path.stat().st_mode)


def _settle(folder: Path) -> None:
    probe = folder / ".mode"
    mode = _usual_mode(probe)
    probe.unlink()
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
