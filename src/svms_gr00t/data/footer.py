"""What a parquet file says of its columns: the list at its end, and the head of each page, without unpacking one.

    file = "PAR1" | pages | list of columns | its length, 4 bytes | "PAR1"        page = head | packed bytes

The list alone could lie: a page says again how many values it holds and how large it becomes, and that is what Arrow
makes room for. Arrow's own reader of the list ends the process when a column in it is broken, so it is read here.
Source: Apache Parquet format 2.10 (parquet.thrift), Thrift's compact protocol.
"""

import struct
import time
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from svms_gr00t.core.sizes import limit, within

_WIDTHS = {0: 1, 1: 4, 2: 8, 3: 8, 4: 4, 5: 8}
"""Bytes of a value of parquet's types: boolean, int32, int64, int96 (a timestamp), float, double. Bytes have none."""
_DEEPEST, _HEAD, _LONGEST_HEAD, _MOST_PAGES = 16, 1 << 12, 1 << 24, 100_000
_TICK = 100_000_000
"""Nanoseconds after a write within which another one may leave the same times: a file so young is read every time."""
_AS_OBJECTS = 64
"""Times that the list grows in memory."""


class Column(NamedTuple):
    """One column of one group of rows."""

    path: str
    """Names from the outermost to the innermost, with dots between."""
    name: str
    """The outermost one, which may hold dots itself."""
    numbers: bool
    """Whether its values are of a fixed width."""
    unpacked: int
    """Bytes that it takes in memory; of texts that a dictionary repeats, those of the dictionary."""
    largest: int
    """Bytes of all its pages, unpacked: no single value is larger."""
    first: int
    """Where its pages begin."""
    packed: int
    """Their bytes in the file."""


def columns_of(path: Path, names: Collection[str] | None = None) -> list[Column]:
    """Every column of every group of rows, or those of `names` and what lies inside them; names may hold dots.

    A file that is as it was is not read again. Raises ValueError for a file that is broken, DataError for a huge list.
    """
    found, wanted = path.stat(), None if names is None else tuple(names)
    state = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    settled = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _TICK
    return list((_known if settled else _known.__wrapped__)(path, wanted, limit("meta_bytes"), state))


@lru_cache(maxsize=4096)
def _known(path: Path, names: tuple[str, ...] | None, most: int, state: tuple[int, ...]) -> tuple[Column, ...]:
    """The columns of a file in this state, under this limit."""
    with path.open("rb") as file:
        try:
            return tuple(_columns(file, path, names))
        except (LookupError, TypeError, AttributeError, EOFError) as error:
            raise ValueError(f"a broken list of columns ({type(error).__name__})") from error


def _columns(file: BinaryIO, path: Path, names: Collection[str] | None) -> list[Column]:
    size = path.stat().st_size
    file.seek(max(size - 8, 0))
    length, mark = struct.unpack("<I4s", file.read(8)) if size >= 12 else (0, b"")
    if mark != b"PAR1" or length > size - 12:
        raise ValueError("it does not end like a parquet file")
    within("meta_bytes", _AS_OBJECTS * length, path, f"a list of columns of {length:,} bytes")
    file.seek(size - 8 - length)
    listed = _Reader(file.read(length)).struct()
    chunks = [_about(chunk) for group in listed.get(4, ()) for chunk in group[1]]
    return [_column(file, *chunk, size) for chunk in chunks if names is None or _belongs(".".join(chunk[0]), names)]


def _about(chunk: dict[int, Any]) -> tuple[list[str], dict[int, Any]]:
    about = chunk.get(3)
    if not isinstance(about, dict):
        raise ValueError("a column that says nothing of itself")
    return [part.decode("utf-8", "replace") for part in about[3]], about


def _belongs(path: str, names: Collection[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in names)


def _column(file: BinaryIO, path: list[str], about: dict[int, Any], size: int) -> Column:
    first, packed = min(about[9], about.get(11) or about[9]), about[7]
    if not (first > 0 and 0 <= packed <= size - first):
        raise ValueError("a column outside the file")
    values, unpacked = 0, 0
    for head in _heads(file, first, packed):
        unpacked += max(head[2], 0)
        values += max(next((head[part][1] for part in (5, 8) if part in head), 0), 0)
    largest = max(unpacked, about[6])
    width = _WIDTHS.get(about[1], 0)
    unpacked = max(width * max(values, about[5]), largest)
    return Column(".".join(path), path[0], width > 0, unpacked, largest, first, packed)


def _heads(file: BinaryIO, first: int, packed: int) -> Iterator[dict[int, Any]]:
    """The head of each page. What does not fit into the column is left out: Arrow stops there too."""
    at, end, pages = first, first + packed, 0
    while at < end:
        if (pages := pages + 1) > _MOST_PAGES:
            raise ValueError(f"a column of more than {_MOST_PAGES:,} pages")
        head, length = _head(file, at, end)
        yield head
        at += length + max(head[3], 0)


def _head(file: BinaryIO, at: int, end: int) -> tuple[dict[int, Any], int]:
    room = _HEAD
    while True:
        file.seek(at)
        reader = _Reader(file.read(min(room, end - at)))
        try:
            head = reader.struct()
        except EOFError as error:
            if room >= min(_LONGEST_HEAD, end - at):
                raise ValueError("a page without a head") from error
            room *= 16
            continue
        return head, reader.at


class _Reader:
    """Thrift's compact protocol as dicts by number of field. Raises EOFError at the end, ValueError for nonsense."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Fields up to the stop."""
        if depth > _DEEPEST:
            raise ValueError("too deep")
        found: dict[int, Any] = {}
        number = 0
        while head := self._take(1)[0]:
            number = number + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            found[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):  # in a list a boolean takes a byte
            return self._take(1)[0]
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            return self._take(8)
        if kind == 8:
            return self._take(self._varint())
        if kind in (9, 10):
            head = self._take(1)[0]
            count = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError(f"a field of kind {kind}")

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number without end")

    def _take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise EOFError
        self.at += count
        return self.data[self.at - count : self.at]
