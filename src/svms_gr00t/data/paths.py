"""Names and places that come from data: a name is one safe part of a path, and what is read lies inside its folder.

A dataset is somebody else's folder. A name in it may be written as "../../home", a file in it may be a link to anywhere
else, and a copy of it would carry the target along.
"""

import os
import stat
from pathlib import Path, PurePosixPath

from svms_gr00t.core.errors import DataError

FOLLOW_LINKS = "SVMS_FOLLOW_LINKS"
"""Environment variable that --follow-links sets: worker processes inherit it."""
LONGEST = 200
"""Bytes of a name: file systems take 255, and names get endings."""
_BLOBS = ("snapshots", "blobs")
"""Folders of the Hugging Face cache: what stands in the first are links into the second."""


def safe_name(name: str, where: object) -> str:
    """`name`, when it is one part of a path. Raises DataError for any other."""
    bad = not name or name in (".", "..") or len(name.encode("utf-8", "surrogatepass")) > LONGEST
    if bad or any(letter in "/\\:" or not letter.isprintable() for letter in name):
        want = f"a name of at most {LONGEST} bytes without / \\ : and control characters"
        raise DataError(where, got=f"the name {_short(name)}", want=want, hint="Rename it where the data were made")
    return name


def inside(folder: Path, relative: str) -> Path:
    """`folder / relative`, which stays inside. Raises DataError for a path that leaves it or is absolute."""
    parts = PurePosixPath(relative)
    if parts.is_absolute() or not parts.parts:
        raise DataError(folder, got=f"the path {_short(relative)}", want="a path inside it", hint="Rename it")
    return folder.joinpath(*(safe_name(part, folder) for part in parts.parts))


def check_tree(root: Path) -> None:
    """Look at every file below `root` without opening one.

    Raises DataError for a link that leads outside (unless links are followed, or it is one of the Hugging Face cache's
    into its own blobs), and for what is neither file nor folder: reading a pipe waits for ever.
    """
    home = root.resolve()
    allowed = [home, *([home.parent.parent / _BLOBS[1]] if home.parent.name == _BLOBS[0] else [])]
    folders = [home]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    _check_link(Path(entry.path), allowed)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    _refuse_kind(Path(entry.path))


def _check_link(link: Path, allowed: list[Path]) -> None:
    target = link.resolve()
    if target.exists() and not (target.is_dir() or target.is_file()):
        _refuse_kind(link)
    if os.environ.get(FOLLOW_LINKS) or any(target.is_relative_to(home) for home in allowed):
        return
    hint = "Pass --follow-links if you made that link yourself"
    raise DataError(link, got=f"a link to {target}", want="files inside the dataset's folder", hint=hint)


def _refuse_kind(path: Path) -> None:
    mode = path.stat().st_mode
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    got = next((said for test, said in kinds.items() if test(mode)), "a special file")
    raise DataError(path, got=got, want="a file", hint="Delete it")


def _short(name: str) -> str:
    shown = ascii(name)
    return shown if len(shown) <= 80 else shown[:77] + "..."
