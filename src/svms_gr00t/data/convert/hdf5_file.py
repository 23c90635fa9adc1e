"""A file of demonstrations, opened without leaving it: HDF5 can point to other files, which are then read unseen.

A link to another file, a dataset whose bytes lie in another file, and a virtual dataset over others are refused: such a
file from the net could put anything readable here into the new dataset. Links inside the file are followed.

An array declares its size in a few bytes, whether or not it was ever written, so that is checked before it is read, and
pictures are read a block at a time.

Axes: T steps, H and W pixels.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from svms_gr00t.core.errors import DataError, MissingExtra
from svms_gr00t.core.sizes import within
from svms_gr00t.data.pictures import as_uint8_rgb, check_pixels

AGAIN = "Make the file again"
WANT = "RoboCasa, robosuite, robomimic or LIBERO demonstrations (HDF5)"
PICTURES = "uint8 (T, H, W, 3)"
UNREADABLE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError)
"""What h5py raises for a damaged file, by where the damage lies."""
_SMALL, _PACKED = 1 << 20, 2000
"""Bytes that may have been left to a fill value; times that a stored byte may unpack to (gzip at its best: 1,032)."""
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
        try:
            _stay_inside(source, file, set())
        except DataError:
            raise
        except UNREADABLE as error:
            raise DataError(source, got=f"an unreadable file ({error})", want=WANT, hint="Fetch it again") from error
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
        mask = file["mask"][filter_key]
        check_declared(f"{source}, mask/{filter_key}", mask, kinds="OSU")
        chosen = {n.decode() if isinstance(n, bytes) else str(n) for n in mask[:]}
        names = [name for name in names if name in chosen]
    if not names:
        raise DataError(source, got="no demonstrations", want=WANT, hint="Choose another file or filter key")
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def check_declared(where: str, *arrays: Any, kinds: str = "biuf") -> None:
    """Raises DataError unless these are arrays of `kinds`, together within `array_bytes`, and filled with data."""
    for array in arrays:
        _check_filled(where, array, kinds)
    size = sum(_bytes(array) for array in arrays)
    within("array_bytes", size, where, f"arrays of {size:,} bytes")


def _check_filled(where: str, array: Any, kinds: str) -> None:
    kind = getattr(array, "dtype", None)
    if kind is None or kind.kind not in kinds:
        raise DataError(where, got="a group" if kind is None else f"values of type {kind}", want="an array", hint=AGAIN)
    size, stored = _bytes(array), array.id.get_storage_size()
    if size > max(_SMALL, _PACKED * stored):
        got = f"an array that declares {size:,} bytes and holds {stored:,}"
        raise DataError(f"{where}, {array.name}", got=got, want="the data too", hint=AGAIN)


def _bytes(array: Any) -> int:
    return int(array.size or 0) * int(array.dtype.itemsize)


class Film:
    """Pictures of a camera, read when they are asked for and made `upright`. Raises DataError for what are none."""

    def __init__(self, where: str, array: Any, upright: Callable[[np.ndarray], np.ndarray]) -> None:
        _check_filled(where, array, "biuf")
        rows = array.chunks[0] if array.chunks else 1
        one = _bytes(array) // max(len(array), 1)
        block = max(int(np.prod(array.chunks)) * array.dtype.itemsize if array.chunks else 0, one)
        within("array_bytes", block, where, f"pictures stored in blocks of {block:,} bytes")
        self._where, self._array, self._upright, self._rows = where, array, upright, rows
        first = self._read(0, 1)
        if first.ndim != 4:
            raise DataError(where, got=f"shape {array.shape}", want=PICTURES, hint=AGAIN)
        check_pixels(first.shape[1], first.shape[2], where)
        self.shape = (len(array), *first.shape[1:])

    def _read(self, first: int, last: int) -> UInt8[np.ndarray, "T H W 3"]:
        return np.ascontiguousarray(self._upright(as_uint8_rgb(self._where, self._array[first:last], want=PICTURES)))

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        for first in range(0, len(self), self._rows):
            yield from self._read(first, min(first + self._rows, len(self)))

    def __getitem__(self, steps: Sequence[int]) -> UInt8[np.ndarray, "T H W 3"]:
        return np.concatenate([self._read(step, step + 1) for step in steps])


def json_of(value: Any, where: str) -> dict[str, Any]:
    """An attribute that holds a JSON object; absent is empty. Raises DataError."""
    if value is None:
        return {}
    try:
        found = json.loads(value)
    except (TypeError, ValueError) as error:
        raise DataError(where, got=f"broken JSON ({error})", want="a JSON object", hint=AGAIN) from error
    return found if isinstance(found, dict) else {}
