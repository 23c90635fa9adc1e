"""Bytes: round trips in both dialects, and hostile messages that cost neither memory nor the server's life."""

import io
import struct
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from svms_gr00t.core.errors import DataError
from svms_gr00t.serve.client import PolicyClient
from svms_gr00t.serve.wire import pack, unpack

NUMBERS = hnp.arrays(
    dtype=st.sampled_from(["u1", "<i4", "<i8", "<f4", "<f8", "?", ">f4"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


@given(NUMBERS, st.sampled_from(["n1d6", "openpi"]))
@settings(max_examples=60, deadline=None)
def test_arrays_come_back_as_they_went(array: np.ndarray, dialect: Any) -> None:
    found = unpack(pack({"a": [array, {"deep": array}]}, dialect))
    for one in (found["a"][0], found["a"][1]["deep"]):
        assert one.dtype == array.dtype
        np.testing.assert_array_equal(one, array)


def test_fortran_order_is_kept_by_value() -> None:
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(unpack(pack(array)), array)


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
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values_are_refused(name: str) -> None:
    with pytest.raises(DataError):
        unpack(msgpack.packb({"data": HOSTILE[name]}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 5000,
        b"\xd9\x02\xff\xff",
    ],
    ids=["empty", "reserved", "huge map", "huge list", "huge bytes", "very deep", "not utf-8"],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DataError):
        unpack(data)


def frames(rng: np.random.Generator, whole: bytes, count: int) -> list[bytes]:
    """Random bytes, cut messages, flipped bits, and the hostile values in turn."""
    hostile = [msgpack.packb({"endpoint": "get_action", "data": {"observation": v}}) for v in HOSTILE.values()]
    made: list[bytes] = []
    while len(made) < count:
        kind = len(made) % 4
        if kind == 0:
            made.append(rng.bytes(int(rng.integers(0, 200))))
        elif kind == 1:
            made.append(whole[: int(rng.integers(0, len(whole)))])
        elif kind == 2:
            spoiled = bytearray(whole)
            for at in rng.integers(0, min(len(whole), 600), 3):
                spoiled[at] ^= int(rng.integers(1, 256))
            made.append(bytes(spoiled))
        else:
            made.append(hostile[int(rng.integers(len(hostile)))])
    return made


def bombard(port: int, observation: dict[str, Any], count: int) -> None:
    """Send `count` bad frames; every one gets some answer, and a good request after them the right one."""
    whole = pack({"endpoint": "get_action", "data": {"observation": observation}})
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 20_000)
        socket.connect(f"tcp://127.0.0.1:{port}")
        for frame in frames(np.random.default_rng(0), whole, count):
            socket.send(frame)
            socket.recv()
    with PolicyClient(port=port) as client:
        assert client.get_action(observation)[0]


def test_hundreds_of_bad_frames_leave_the_server_answering(start: Any, observation: dict[str, Any]) -> None:
    bombard(start().port, observation, 300)


@pytest.mark.slow
def test_ten_thousand_bad_frames_leave_the_server_answering(start: Any, observation: dict[str, Any]) -> None:
    bombard(start().port, observation, 10_000)


def test_frames_that_are_no_request_at_all_do_no_harm(start: Any, observation: dict[str, Any]) -> None:
    """A socket of another kind, envelopes without a body, and messages above the limit."""
    server = start(max_bytes=4 << 20)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"tcp://127.0.0.1:{server.port}")
        for parts in ([b"no empty frame"], [b"", b"two", b"bodies"], [b""], [b"", b"x" * (5 << 20)]):
            socket.send_multipart(parts)
    with PolicyClient(port=server.port) as client:
        assert client.get_action(observation)[0]
