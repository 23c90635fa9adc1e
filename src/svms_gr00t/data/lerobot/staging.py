"""Folders that appear under their name when they are complete, and that an interrupted job can take up again.

.NAME.partial/staging.json    what is being made, from what, by which code: another job may not go on here
.NAME.partial/.lock           held by the process that works here
.NAME.partial/files/...       complete files only, each written under another name and renamed; becomes NAME

Only `files` is renamed, in one step: killed before or after it, nothing is made twice, and NAME holds nothing strange.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.digest import file_digest
from svms_gr00t.core.files.documents import dump_json, read_raw
from svms_gr00t.core.files.lock import NAME as LOCK
from svms_gr00t.core.files.lock import only_one
from svms_gr00t.core.files.whole import no_room, partial_of, whole_file, written
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.core.provenance import source_digest
from svms_gr00t.data.paths import inside

KEY, FILES = "staging.json", "files"


class Staging:
    """The unfinished form of the folder `target`. Nothing appears under that name before `finish`.

    It is held until `finish`, `close` or the end of a `with` block.
    """

    def __init__(self, target: Path, key: Mapping[str, Any]) -> None:
        """Begin, or go on with what an interrupted job of the same `key` and code left.

        Raises DataError when `target` is in use, when another job left its folder there, or is at work in it.
        """
        self.target = target
        self.home = partial_of(target)
        """Everything about the job."""
        self.folder = self.home / FILES
        """What will be `target`."""
        check_free(target)
        with ExitStack() as held:
            held.enter_context(only_one(self.home))
            self.resumed = self._claim(json.loads(json.dumps({**key, "code": source_digest()})))
            self._held = held.pop_all()

    def _claim(self, key: dict[str, Any]) -> bool:
        """Whether there is something to go on with."""
        path = self.home / KEY
        if not path.is_file():
            for left in self.home.iterdir():  # begun but never claimed: it holds nothing whole
                if left.name != LOCK:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            with whole_file(path) as partial:
                dump_json(partial, key)
            self.folder.mkdir()
            return False
        found = read_raw(path)
        if odd := [name for name in {**found, **key} if found.get(name) != key.get(name)]:
            got, want = f"an unfinished job with another {', '.join(odd)}", "the same, or none"
            raise DataError(self.home, got=got, want=want, hint="Repeat that command, or delete the folder")
        self.folder.mkdir(exist_ok=True)
        return True

    def __enter__(self) -> "Staging":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process go on here."""
        self._held.close()

    def make(self, relative: str, write: Callable[[Path], object]) -> bool:
        """Let `write` make a file unless it is there already; True when it ran. Raises DataError for one outside."""
        path = inside(self.folder, relative)
        if path.is_file():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".partial.{path.name}")
        with written(path):
            write(partial)
        partial.replace(path)
        return True

    def finish(self) -> Path:
        """Rename the folder to its name. Raises DataError when the name was taken meanwhile."""
        for left in self.folder.rglob(".partial.*"):
            left.unlink()
        publish(self.folder, self.target)
        shutil.rmtree(self.home)
        self.close()
        return self.target


def check_free(target: Path) -> None:
    """Raise DataError when `target` is in use."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    home = partial_of(target)
    if (home / KEY).is_file() and not (home / FILES).exists():
        shutil.rmtree(home, ignore_errors=True)  # of a job that was killed when it had just finished
    raise DataError(target, got="something there already", want="a free name", hint="Choose another or delete it")


def content_of(source: Path, progress: Progress | None = None) -> str:
    """Digest of every byte of a file, or of every file of a folder that is not hidden."""
    if source.is_file():
        return file_digest(source).hex()
    names = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    digest = hashlib.sha256()
    with (progress or Silent()).task("reading the source", len(names)) as task:
        for name in names:
            digest.update(f"{name.as_posix()}\0".encode() + file_digest(source / name))
            task.advance()
    return digest.hexdigest()


def publish(folder: Path, target: Path) -> None:
    """Rename a finished folder. Raises DataError when the name was taken meanwhile."""
    try:
        if target.is_dir():
            target.rmdir()
        folder.rename(target)
    except OSError as error:
        if no_room(error):
            raise
        hint = f"Choose another name; the finished files are in {folder}"
        raise DataError(target, got=f"a name taken meanwhile ({error})", want="a free name", hint=hint) from error
