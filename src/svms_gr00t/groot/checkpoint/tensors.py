"""Tensors in safetensors files: where they lie, from the headers alone, and their values in small pieces.

A file is read, not mapped: mapped pages count as memory of the process, and a second copy of a shard beside the model
would double the peak. Values go straight into their final tensor; a change of type passes through one small buffer.

    file = 8 bytes length N (little endian) | N bytes JSON {name: {dtype, shape, data_offsets}} | the values

Headers are read and checked by the safetensors library, values are not: through its map, loading float32 weights as
bfloat16 peaked at 3.0 times what is kept, and here at 1.1.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
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
LOOK_BYTES = 64
_STAND_INS = {
    b"version https://git-lfs": ("a Git LFS pointer", "run `git lfs pull` in its folder, or download the file itself"),
    b"/annex/objects/": ("a git-annex pointer", "run `git annex get` in its folder"),
    b"<!doctype": ("a web page", "download the file itself, not the page that shows it"),
    b"<html": ("a web page", "download the file itself, not the page that shows it"),
    b"pk\x03\x04": ("pickled weights under this name", "pickle is never read here; convert them with safetensors"),
}


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

    @property
    def exact(self) -> torch.dtype:
        """The narrowest type that holds its values."""
        return self.dtype

    def read(self, dtype: torch.dtype | None = None) -> Tensor:
        """The tensor on the CPU, as it is stored or in another type."""
        out = torch.empty(self.shape, dtype=dtype or self.dtype)
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

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor, without reading any."""
        return {name: stored.shape for name, stored in self._files.items()}


def header(file: Path) -> dict[str, Stored]:
    """The tensors of one file, in the order of their values.

    The library checks the header: values that overlap, leave a gap or do not reach the end of the file are refused.
    Raises `CheckpointError` for a file that is missing, cut off or of another format.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(LOOK_BYTES)
        refuse_stand_in(file, start)
        offset = 8 + int.from_bytes(start[:8], "little")
        tensors: dict[str, Stored] = {}
        with safe_open(file, "pt") as named:
            for name in named.offset_keys():
                tensors[name] = _stored(name, named.get_slice(name), file, offset)
                offset += tensors[name].nbytes
    except FileNotFoundError as error:
        raise CheckpointError(file, got="no such file", want="the shard its index names", hint=AGAIN) from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(file, got=f"a broken file ({error})", want="whole safetensors", hint=AGAIN) from error
    return tensors


def _stored(name: str, view: Any, file: Path, offset: int) -> Stored:
    kind = str(view.get_dtype())
    if kind not in DTYPES:
        hint = "convert the weights to bfloat16 or float32; quantised weights are not read"
        raise CheckpointError(file, got=f"{name} of type {kind}", want=", ".join(DTYPES), hint=hint)
    return Stored(name=name, file=file, shape=tuple(view.get_shape()), dtype=DTYPES[kind], offset=offset)


def refuse_stand_in(file: Path, start: bytes) -> None:
    """Raise `CheckpointError`, with advice, for a file whose first bytes say that it only stands for the weights."""
    for opening, (got, hint) in _STAND_INS.items():
        if start.lstrip().lower().startswith(opening):
            raise CheckpointError(file, got=got, want="the weights themselves", hint=hint)


def some(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
