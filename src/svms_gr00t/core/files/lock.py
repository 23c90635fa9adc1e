"""One process at a time: `flock` on a file, which the system gives back when its process dies.

only_one   refuses at once: two runs in one folder are a mistake
in_turn    waits: both want the same piece done, and the second finds it done
"""

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from svms_gr00t.core.errors import DataError

log = logging.getLogger(__name__)
NAME = ".lock"


@contextmanager
def only_one(folder: Path | str) -> Iterator[None]:
    """Hold `folder`, made if need be. Afterwards it is as the block left it, and gone if it was made and left empty.

    Raises DataError at once when another process holds it.
    """
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NAME).open("a+", encoding="utf-8") as file:
        _hold(folder, file)
        try:
            yield
        finally:
            with suppress(OSError):
                (folder / NAME).unlink()  # still held: whoever opened it in vain sees that it is gone
                if made:
                    folder.rmdir()


@contextmanager
def in_turn(file: Path | str) -> Iterator[None]:
    """Hold `file`, which is made if need be and stays; whoever comes meanwhile waits."""
    with Path(file).open("a", encoding="utf-8") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems have no locks
            log.warning("%s cannot be locked (%s): let one process at a time work there.", file, error)
        yield


def _hold(folder: Path, file: TextIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = os.path.samestat(os.fstat(file.fileno()), os.stat(folder / NAME))  # else its holder just deleted it
    except (BlockingIOError, FileNotFoundError):
        free = False
    except OSError as error:  # some network file systems have no locks
        log.warning("%s cannot be locked (%s): start nothing else there.", folder, error)
        return
    if not free:
        file.seek(0)
        holder = file.read(200).strip() or "unknown"
        hint = "Wait until it ends, or choose another folder"
        raise DataError(folder, got=f"another process at work in it ({holder})", want="one at a time", hint=hint)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
