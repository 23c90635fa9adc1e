"""Tensors in safetensors files: where they lie, from the headers alone, and their values in small pieces.

A file is read, not mapped: mapped pages count as memory of the process, and a second copy of a shard beside the model
would double the peak. Values go straight into their final tensor; a change of type passes through one small buffer.

    file = 8 bytes length N (little endian) | N bytes JSON {name: {dtype, shape, data_offsets}} | the values
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from svms_gr00t.core.errors import CheckpointError

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
AGAIN = "download or save the checkpoint again"
CHUNK_BYTES = 16 * 2**20
_HEADER_LIMIT = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A tensor in a file."""

    name: str
    """Its name there."""
    file: Path
    """Its safetensors file."""
    shape: tuple[int, ...]
    """Its shape."""
    dtype: torch.dtype
    """Its type."""
    offset: int
    """Byte of the file at which its values begin."""

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return self.size * self.dtype.itemsize

    def read(self) -> Tensor:
        """The tensor as it is stored, on the CPU."""
        out = torch.empty(self.shape, dtype=self.dtype)
        self.fill(out)
        return out

    @torch.no_grad()
    def fill(self, target: Tensor, scratch: Tensor | None = None) -> None:
        """Copy the values into a tensor of the same shape and of any type and device.

        `scratch` is `new_scratch()`, to be used by many tensors: small buffers of many sizes would leave holes between
        the weights that no later weight fills. Raises `CheckpointError` when the file ends early.
        """
        flat = target.detach().view(-1) if target.is_contiguous() else None
        if flat is not None and flat.dtype == self.dtype and flat.device.type == "cpu":
            with self.file.open("rb", buffering=0) as opened:
                opened.seek(self.offset)
                self._read_into(opened, flat)
            return
        whole = torch.empty(self.shape, dtype=target.dtype, device=target.device).view(-1) if flat is None else flat
        for start, piece in self.pieces(scratch):
            whole[start : start + len(piece)].copy_(piece)
        if flat is None:
            target.copy_(whole.view(self.shape))

    def pieces(self, scratch: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """(first value, flat values) of successive pieces; each is overwritten by the next."""
        buffer = (new_scratch() if scratch is None else scratch).view(self.dtype)
        count = len(buffer)
        with self.file.open("rb", buffering=0) as opened:
            opened.seek(self.offset)
            for start in range(0, self.size, count):
                piece = buffer[: min(count, self.size - start)]
                self._read_into(opened, piece)
                yield start, piece

    def _read_into(self, opened: BinaryIO, values: Tensor) -> None:
        room = values.view(torch.uint8).numpy().data if values.numel() else memoryview(b"")
        done = 0
        while done < len(room):
            got = opened.readinto(room[done:])  # type: ignore[attr-defined]
            if not got:
                raise CheckpointError(self.file, got=f"an end inside {self.name}", want="a whole file", hint=AGAIN)
            done += got


def new_scratch() -> Tensor:
    """Room for a piece of any tensor."""
    return torch.empty(CHUNK_BYTES, dtype=torch.uint8)


class Lazy(Mapping[str, Tensor]):
    """Stored tensors as a mapping that reads each when it is asked for, and keeps none."""

    def __init__(self, files: Mapping[str, Stored]) -> None:
        self._files = files

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: object) -> bool:
        return name in self._files


def header(file: Path) -> dict[str, Stored]:
    """The tensors of one file. Raises `CheckpointError` for a file that is missing, cut off or of another format."""
    try:
        with file.open("rb") as opened:
            entries, begin = _entries(opened)
            end = file.stat().st_size
        tensors = {name: _stored(name, entry, file, begin, end) for name, entry in entries.items()}
    except FileNotFoundError as error:
        raise CheckpointError(file, got="no such file", want="the shard its index names", hint=AGAIN) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(file, got=f"a broken file ({error})", want="whole safetensors", hint=AGAIN) from error
    return tensors


def _entries(opened: BinaryIO) -> tuple[dict[str, Any], int]:
    prefix = opened.read(8)
    if len(prefix) < 8:
        raise ValueError("it ends before its header")
    (length,) = struct.unpack("<Q", prefix)
    if length > _HEADER_LIMIT:
        raise ValueError("no safetensors header")
    text = opened.read(length)
    if len(text) < length:
        raise ValueError("it ends inside its header")
    entries = json.loads(text)
    entries.pop("__metadata__", None)
    return entries, 8 + length


def _stored(name: str, entry: dict[str, Any], file: Path, begin: int, end: int) -> Stored:
    if entry["dtype"] not in DTYPES:
        hint = "convert the weights to bfloat16 or float32; quantised weights are not read"
        raise CheckpointError(file, got=f"{name} of type {entry['dtype']}", want=", ".join(DTYPES), hint=hint)
    first, last = (int(place) for place in entry["data_offsets"])
    shape = tuple(int(axis) for axis in entry["shape"])
    found = Stored(name=name, file=file, shape=shape, dtype=DTYPES[entry["dtype"]], offset=begin + first)
    if min(shape, default=0) < 0 or first < 0 or last - first != found.nbytes:
        raise ValueError(f"{name} has {last - first} bytes for shape {shape}")
    if begin + last > end:
        raise ValueError(f"it ends before {name}")
    return found
