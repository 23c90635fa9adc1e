"""Bytes of the two protocols, read with suspicion: bounded sizes, bounded nesting, numbers only.

    N1.6    {"__ndarray_class__": true, "as_npy": <bytes of np.save>}
            {"__ModalityConfig_class__": true, "as_json": {..}}
    openpi  {b"__ndarray__": true, b"data": <bytes>, b"dtype": "<f4", b"shape": [..]}
            {b"__npgeneric__": true, b"data": <number>, b"dtype": "<f4"}
    also    {b"nd": true, b"type": "<f4", b"kind": b"", b"shape": [..], b"data": <bytes>}, as msgpack_numpy writes them

Both are msgpack. An array's declared shape is compared with the bytes that came before any memory is taken for it, and
the items of all lists and maps are counted together: a byte of msgpack can become an object of 64.
Needs numpy and msgpack alone. Source: GR00T N1.6 server_client, openpi msgpack_numpy.
"""

import io
import tokenize
from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any, Literal, NoReturn

import msgpack
import numpy as np

from svms_gr00t.core.errors import DataError

Dialect = Literal["n1d6", "openpi"]
Order = Literal["C", "F"]
MAX_BYTES = 256 << 20
"""Largest message."""
MAX_ITEMS = 10_000
"""Largest list."""
MAX_KEYS = 1_000
"""Largest map."""
MAX_TOTAL = 100_000
"""Items of all lists and maps of a message."""
MAX_DEPTH = 16
MAX_HEADER = 10_000
"""Bytes of an array's header."""
KINDS = "biuf"
"""Booleans, integers, floats. No objects, records or times; texts ("U") in whole arrays alone."""
_HEADER_ERRORS = (ValueError, KeyError, TypeError, SyntaxError, EOFError, MemoryError, RecursionError)
"""What numpy's header reader raises for bytes that are no header."""
_HINT = "Send arrays of numbers as the protocol writes them"
_NEWER = "Use the client of GR00T N1.6, or svms_gr00t.serve.client.PolicyClient"


def pack(value: Any, dialect: Dialect = "n1d6") -> bytes:
    """msgpack bytes; numpy arrays and scalars in the dialect's form."""
    return msgpack.packb(value, default=_encode_n1d6 if dialect == "n1d6" else _encode_openpi)


def unpack(data: bytes, *, limit: int = MAX_BYTES) -> Any:
    """The value, arrays of either dialect restored. Raises DataError for anything that is not one."""
    if len(data) > limit:
        _refuse(f"{len(data)} bytes", f"at most {limit}", "Send smaller images or fewer robots")
    bounds = {"max_str_len": 1 << 20, "max_bin_len": limit, "max_array_len": MAX_ITEMS, "max_map_len": MAX_KEYS}
    count = _Count()
    try:
        raw = msgpack.unpackb(data, strict_map_key=False, max_ext_len=0, list_hook=count, object_hook=count, **bounds)
    except DataError:
        raise
    except (ValueError, TypeError, UnicodeDecodeError, RecursionError, msgpack.UnpackException) as error:
        if data[:4] == b"PK\x03\x04" or (data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
            _refuse("a file of torch or pickle, as clients of GR00T N1.5 send", "one msgpack message", _NEWER)
        _refuse(f"bytes that are no msgpack ({type(error).__name__})", "one msgpack message")
    return _restore(raw, 0)


class _Count:
    """Hook of the msgpack reader: passes lists and maps on until there were too many items."""

    def __init__(self) -> None:
        self.items = 0

    def __call__(self, value: Any) -> Any:
        self.items += 1 + len(value)
        if self.items > MAX_TOTAL:
            _refuse("lists and maps without end", f"at most {MAX_TOTAL} items")
        return value


def _restore(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        _refuse("deeper nesting", f"at most {MAX_DEPTH} levels")
    if isinstance(value, list):
        return [_restore(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if "__ndarray_class__" in value:
        return _from_npy(value.get("as_npy"))
    if b"__ndarray__" in value or "__ndarray__" in value:
        return _from_parts({_text(key): item for key, item in value.items()})
    if b"__npgeneric__" in value or "__npgeneric__" in value:
        return _from_scalar({_text(key): item for key, item in value.items()})
    if 3 <= len(value) <= 5 and {"nd", "type", "data"} <= set(map(_text, value)):
        return _from_msgpack_numpy({_text(key): item for key, item in value.items()})
    return {key: _restore(item, depth + 1) for key, item in value.items()}


def _from_msgpack_numpy(parts: Mapping[str, Any]) -> Any:
    """An array, or a number as an array of its bytes."""
    if parts.get("kind") or isinstance(parts["type"], list):
        _refuse("an array of records or objects", "booleans, integers, floats or texts")
    if parts["nd"]:
        return _from_parts({**parts, "dtype": parts["type"]})
    return _from_parts({"shape": [], "dtype": parts["type"], "data": parts["data"]})[()]


def _from_npy(data: Any) -> np.ndarray:
    if not isinstance(data, bytes):
        _refuse(f"as_npy as {type(data).__name__}", "bytes of np.save")
    # Magic and version are 8 bytes; then the length of the header in 2 bytes, since version 2 in 4.
    wide = 2 if data[6:7] == b"\x01" else 4
    end = 8 + wide + int.from_bytes(data[8 : 8 + wide], "little")
    shape, fortran, dtype = _header(data[: min(end, MAX_HEADER)])
    return _numbers(memoryview(data)[end:], dtype, shape, "F" if fortran else "C")


@lru_cache(maxsize=256)
def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and dtype. A robot's headers never change, and numpy reads one in 50 microseconds."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        return reader(stream, max_header_size=MAX_HEADER)  # type: ignore[call-arg]
    except (*_HEADER_ERRORS, tokenize.TokenError) as error:
        return _refuse(f"as_npy with a broken header ({type(error).__name__})", "bytes of np.save")


def _from_parts(parts: Mapping[str, Any]) -> np.ndarray:
    shape, data = parts.get("shape"), parts.get("data")
    whole = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in shape)
    if not whole or not isinstance(data, bytes):
        _refuse("an array without shape and data", "a list of lengths, and bytes")
    assert isinstance(shape, list)
    return _numbers(data, _dtype(parts.get("dtype")), tuple(shape), "C")


def _from_scalar(parts: Mapping[str, Any]) -> Any:
    number, dtype = parts.get("data"), _dtype(parts.get("dtype"))
    fits = isinstance(number, bool) if dtype.kind == "b" else isinstance(number, int | float)
    if fits and dtype.kind in "iu":
        span = np.iinfo(dtype)
        fits = isinstance(number, int) and span.min <= number <= span.max
    if dtype.kind not in KINDS or not fits:
        _refuse(f"{str(number)[:60]} as {str(dtype)[:60]}", "a number that fits its dtype")
    return dtype.type(number)


def _dtype(name: Any) -> np.dtype:
    text = _text(name)
    try:
        return np.dtype(text if len(text) <= 16 else "")
    except (TypeError, ValueError, SyntaxError) as error:
        return _refuse(f"dtype {text[:60]!r} ({type(error).__name__})", "a numpy dtype such as <f4")


def _numbers(data: bytes | memoryview, dtype: np.dtype, shape: tuple[int, ...], order: Order) -> np.ndarray:
    if dtype.kind not in KINDS + "U" or dtype.hasobject or dtype.subdtype is not None:
        _refuse(f"an array of {str(dtype)[:60]}", "booleans, integers, floats or texts")
    if len(shape) > 8 or any(n < 0 for n in shape) or prod(shape) * dtype.itemsize != len(data):
        _refuse(f"shape {str(list(shape)[:9])[:80]} of {dtype} in {len(data)} bytes", "as many bytes as the shape says")
    if dtype.kind == "U" and dtype.itemsize:
        _check_letters(np.frombuffer(data, dtype=np.dtype("u4").newbyteorder(">" if dtype.str[0] == ">" else "<")))
    try:
        return np.frombuffer(data, dtype=dtype).reshape(shape, order=order)
    except (ValueError, OverflowError):  # an empty array may still have an axis that numpy cannot write down
        return _refuse(f"shape {str(list(shape))[:80]}", "axes that fit into memory")


def _check_letters(codes: np.ndarray) -> None:
    """Numpy takes any four bytes for a letter; Python and UTF-8 do not."""
    if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any():
        _refuse("an array of texts with letters that do not exist", "Unicode")


def _encode_n1d6(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        stream = io.BytesIO()
        np.save(stream, value, allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": stream.getvalue()}
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "delta_indices") and hasattr(value, "to_dict"):
        return {"__ModalityConfig_class__": True, "as_json": value.to_dict()}
    raise TypeError(f"cannot send {type(value).__name__}")


def _encode_openpi(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"cannot send {type(value).__name__}")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _refuse(got: str, want: str, hint: str = _HINT) -> NoReturn:
    raise DataError("message", got=got, want=want, hint=hint)
