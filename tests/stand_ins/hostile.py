"""Messages that a server must survive."""

import io
import struct
from typing import Any

import msgpack
import numpy as np

from svms_gr00t.serve.wire import pack


def npy(header: str, body: bytes = b"") -> dict[str, Any]:
    text = header.encode() + b"\n"
    return {"__ndarray_class__": True, "as_npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body}


def object_npy() -> dict[str, Any]:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return {"__ndarray_class__": True, "as_npy": stream.getvalue()}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


HOSTILE = {
    "huge shape": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}", b"x"),
    "negative shape": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}", b"\0" * 16),
    "too many bytes": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"\0" * 8),
    "object array": object_npy(),
    "object dtype": {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "|O", b"shape": [1]},
    "record dtype": npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", b"\0" * 4),
    "header that is code": npy("__import__('os').system('true')"),
    "deep header": npy("(" * 500 + ")" * 500),
    "no bytes": {"__ndarray_class__": True, "as_npy": 7},
    "odd shape": {b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": ["a"]},
    "true as a length": {b"__ndarray__": True, b"data": b"\0" * 4, b"dtype": "<f4", b"shape": [True]},
    "unknown dtype": {b"__ndarray__": True, b"data": b"", b"dtype": "<q9", b"shape": [0]},
    "deep nesting": nested(40),
    "letters that do not exist": {b"__ndarray__": True, b"data": b"\xff" * 4, b"dtype": "<U1", b"shape": [1]},
    "half a letter": {b"__ndarray__": True, b"data": b"\x00\xd8\x00\x00", b"dtype": "<U1", b"shape": [1]},
    "half a letter, turned": npy("{'descr': '>U1', 'fortran_order': False, 'shape': (1,)}", b"\0\0\xd8\0"),
    "bytes as text": npy("{'descr': '|S1', 'fortran_order': False, 'shape': (1,)}", b"a"),
}


DTYPES = ("<f8", "<i8", "|b1", "<f2", ">f4", "<U4", "<c8", "<M8[s]", "|V4", "|O")
"""None is what the protocol asks of both pictures and states, given bytes that are no fractions either."""


def wrong_dtype(rng: np.random.Generator, observation: dict[str, Any]) -> bytes:
    """A good request but for the type or the shape of one array, in openpi's form, which lets any be said."""
    part = ("video", "state")[int(rng.integers(2))]
    key = str(rng.choice(list(observation[part])))
    array = observation[part][key]
    if rng.random() < 0.5:
        dtype = np.dtype(str(rng.choice(DTYPES)))
        shape, data = array.shape, b"\x42" * (array.size * dtype.itemsize)
    else:
        dtype, shape = array.dtype, tuple(int(n) for n in rng.integers(0, 4, int(rng.integers(0, 7))))
        data = b"\0" * (int(np.prod(shape)) * dtype.itemsize)
    spoiled = {b"__ndarray__": True, b"data": data, b"dtype": dtype.str, b"shape": list(shape)}
    whole = observation | {part: observation[part] | {key: spoiled}}
    plain = {name: {k: msgpack_form(v) for k, v in group.items()} for name, group in whole.items()}
    return msgpack.packb({"endpoint": "get_action", "data": {"observation": plain}})


def msgpack_form(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": list(value.shape)}


def spoiled_options(rng: np.random.Generator, observation: dict[str, Any]) -> bytes:
    options: list[Any] = [7, "x", [], {"seed": "a"}, {"seeds": 3}, {"seeds": [1, 2]}, {"seed": {}}, {"seeds": [[1]]}]
    chosen = options[int(rng.integers(len(options)))]
    if chosen == []:
        chosen = np.zeros(3)
    endpoint = ["get_action", "reset"][int(rng.integers(2))]
    return pack({"endpoint": endpoint, "data": {"observation": {}, "options": chosen}})


def frames(observation: dict[str, Any], count: int) -> list[bytes]:
    """Random bytes, cut messages, flipped bits, hostile values, wrong types and shapes, wrong options, in turn."""
    rng = np.random.default_rng(0)
    whole = pack({"endpoint": "get_action", "data": {"observation": observation}})
    hostile = [msgpack.packb({"endpoint": "get_action", "data": {"observation": v}}) for v in HOSTILE.values()]

    def flipped() -> bytes:
        spoiled = bytearray(whole)
        for at in rng.integers(0, min(len(whole), 600), 3):
            spoiled[at] ^= int(rng.integers(1, 256))
        return bytes(spoiled)

    kinds = (
        lambda: rng.bytes(int(rng.integers(0, 200))),
        lambda: whole[: int(rng.integers(0, len(whole)))],
        flipped,
        lambda: hostile[int(rng.integers(len(hostile)))],
        lambda: wrong_dtype(rng, observation),
        lambda: spoiled_options(rng, observation),
    )
    return [kinds[i % len(kinds)]() for i in range(count)]
