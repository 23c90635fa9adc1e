"""A file of demonstrations, opened without leaving it: HDF5 can point to other files, which are then read unseen.

A link to another file, a dataset whose bytes lie in another file, and a virtual dataset over others are refused: such a
file from the net could put anything readable here into the new dataset. Links inside the file are followed.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svms_gr00t.core.errors import DataError, MissingExtra

WANT = "RoboCasa, robosuite, robomimic or LIBERO demonstrations (HDF5)"
REPLAY = "Make observations with robomimic's dataset_states_to_obs.py, or use RoboCasa365's LeRobot files"


@contextmanager
def open_hdf5(source: Path) -> Iterator[Any]:
    """The open file. Raises DataError for what is no such file or points outside itself, MissingExtra without h5py."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra("converting HDF5 demonstrations", package="h5py", extra="convert") from error
    if not source.is_file():
        raise DataError(source, got="no such file", want=WANT, hint="Pass the .hdf5 file")
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise DataError(source, got=f"an unreadable file ({error})", want=WANT, hint="Fetch it again") from error
    with file:
        _stay_inside(source, file, set())
        yield file


def _stay_inside(source: Path, group: Any, seen: set[int]) -> None:
    """Refuse whatever reads other files. A group may hold itself, so each is looked at once."""
    import h5py

    for name in group:
        link, where = group.get(name, getlink=True), f"{source}, {group.name.rstrip('/')}/{name}"
        if isinstance(link, h5py.ExternalLink):
            _refuse(where, f"a link to another file, {link.filename}")
        if isinstance(link, h5py.SoftLink):
            continue  # what it points to is in this file and is looked at under its own name
        item = group[name]
        if isinstance(item, h5py.Dataset):
            if item.external:
                _refuse(where, f"bytes in another file, {item.external[0][0]}")
            others = [s.file_name for s in item.virtual_sources() if s.file_name != "."] if item.is_virtual else []
            if others:
                _refuse(where, f"a view of another file, {others[0]}")
        elif isinstance(item, h5py.Group):
            address = h5py.h5o.get_info(item.id).addr
            if address not in seen:
                seen.add(address)
                _stay_inside(source, item, seen)


def _refuse(where: str, got: str) -> None:
    hint = "If you trust it, copy the data into one file first, for example with h5repack"
    raise DataError(where, got=got, want="all data in this file", hint=hint)


def demonstrations(source: Path, file: Any, filter_key: str | None) -> list[str]:
    """Names of the demonstrations in the order of their numbers (the file lists demo_10 before demo_2).

    Raises DataError when there are none, or no such filter key.
    """
    data = file.get("data")
    if not hasattr(data, "keys"):
        raise DataError(source, got="no group data", want=WANT, hint=REPLAY)
    names = [name for name in data if re.fullmatch(r"demo_\d+", name) and hasattr(data.get(name), "keys")]
    if filter_key is not None:
        masks = list(file["mask"]) if "mask" in file else []
        if filter_key not in masks:
            want = f"one of {', '.join(masks) or 'none in this file'}"
            raise DataError(source, got=f"filter key {filter_key!r}", want=want, hint="Leave it out to take all")
        chosen = {n.decode() if isinstance(n, bytes) else str(n) for n in file["mask"][filter_key][:]}
        names = [name for name in names if name in chosen]
    if not names:
        raise DataError(source, got="no demonstrations", want=WANT, hint="Choose another file or filter key")
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def json_of(value: Any, where: str) -> dict[str, Any]:
    """An attribute that holds a JSON object; absent is empty. Raises DataError."""
    if value is None:
        return {}
    try:
        found = json.loads(value)
    except (TypeError, ValueError) as error:
        raise DataError(
            where, got=f"broken JSON ({error})", want="a JSON object", hint="Make the file again"
        ) from error
    return found if isinstance(found, dict) else {}
