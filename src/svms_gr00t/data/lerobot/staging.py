"""Folders that appear under their name when they are complete, and that an interrupted job can take up again.

.NAME.partial/staging.json    what is being made, from what: another job may not go on here
.NAME.partial/...             complete files only, each written under another name and renamed
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.files import dump_json, read_raw

KEY = "staging.json"


class Staging:
    """The unfinished form of the folder `target`. Nothing appears under that name before `finish`."""

    def __init__(self, target: Path, key: Mapping[str, Any]) -> None:
        """Begin, or go on with what an interrupted job of the same `key` left.

        Raises DataError when `target` is in use, or when another job left its folder there.
        """
        self.target = target
        self.folder = partial_folder(target)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            hint = "Choose another or delete it"
            raise DataError(target, got="something there already", want="a free name", hint=hint)
        plain = json.loads(json.dumps(dict(key)))
        path = self.folder / KEY
        self.resumed = path.is_file()
        if self.resumed and read_raw(path) != plain:
            got, want = "an unfinished job of another source or with other settings", "the same ones, or none"
            raise DataError(self.folder, got=got, want=want, hint="Repeat that command, or delete the folder")
        if not self.resumed:
            shutil.rmtree(self.folder, ignore_errors=True)  # begun but never claimed: it holds nothing whole
            dump_json(path, plain)

    def make(self, relative: str, write: Callable[[Path], object]) -> bool:
        """Let `write` make a file unless it is there already; True when it ran."""
        path = self.folder / relative
        if path.is_file():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".partial.{path.name}")
        write(partial)
        partial.replace(path)
        return True

    def finish(self) -> Path:
        """Rename the folder to its name. Raises DataError when the name was taken meanwhile."""
        (self.folder / KEY).unlink()
        for left in self.folder.rglob(".partial.*"):
            left.unlink()
        publish(self.folder, self.target)
        return self.target


def partial_folder(target: Path) -> Path:
    """Where an unfinished folder lives."""
    return target.with_name(f".{target.name}.partial")


def publish(folder: Path, target: Path) -> None:
    """Rename a finished folder. Raises DataError when the name was taken meanwhile."""
    try:
        if target.is_dir():
            target.rmdir()
        folder.rename(target)
    except OSError as error:
        hint = f"Choose another name; the finished files are in {folder}"
        raise DataError(target, got=f"a name taken meanwhile ({error})", want="a free name", hint=hint) from error
