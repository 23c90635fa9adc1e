"""Writing safetensors one tensor at a time, hashed on the way: the file that the library writes, to the byte.

The library's writer wants all tensors on the host at once, and its file would have to be read again for a digest.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from svms_gr00t.groot.checkpoint.tensors import CHUNK_BYTES, DTYPES

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ORDER = ("I64", "F64", "F32", "I32", "BF16", "F16", "I16", "I8", "U8", "BOOL")
"""The library's order of types, wide ones first, so that every value is aligned; names decide among equals."""


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file; returns its SHA-256 in hexadecimal.

    Tensors of any device pass through the host one after the other; one that is there already is not copied.
    Raises KeyError for a type that `DTYPES` lacks, OSError when the file cannot be written.
    """
    names = sorted(tensors, key=lambda name: (_ORDER.index(_NAMES[tensors[name].dtype]), name))
    digest = hashlib.sha256()
    with file.open("wb") as opened:

        def put(values: bytes | memoryview) -> None:
            digest.update(values)
            opened.write(values)

        put(_header(names, tensors))
        for name in names:
            values = _bytes(tensors[name])
            for start in range(0, len(values), CHUNK_BYTES):
                put(values[start : start + CHUNK_BYTES])
    return digest.hexdigest()


def _header(names: list[str], tensors: Mapping[str, Tensor]) -> bytes:
    """Length and JSON, which spaces fill up to a multiple of eight."""
    places, end = {}, 0
    for name in names:
        value = tensors[name]
        start, end = end, end + value.numel() * value.dtype.itemsize
        places[name] = {"dtype": _NAMES[value.dtype], "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(places, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes(value: Tensor) -> memoryview:
    flat = value.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
