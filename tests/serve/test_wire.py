"""Bytes: round trips in both dialects; hostile messages are refused before they cost memory."""

import io
from typing import Any

import msgpack
import numpy as np
import pytest
from hostile import HOSTILE, npy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from svms_gr00t.core.errors import DataError
from svms_gr00t.serve.wire import MAX_ITEMS, pack, unpack

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


@pytest.mark.parametrize("dialect", ["n1d6", "openpi"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_of_texts_come_back(dialect: Any, order: str) -> None:
    array = np.array([["öffne die Schublade\n\u2028", ""], ["\U0001f916", "b"]], dtype=f"{order}U30")
    found = unpack(pack({"a": array}, dialect))["a"]
    assert found.tolist() == array.tolist()


def test_fortran_order_is_kept_by_value() -> None:
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(unpack(pack(array)), array)


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


def test_a_small_message_cannot_become_a_large_object() -> None:
    """200 kB of empty lists are 16 MB of objects; 256 MB of them are the machine."""
    packer = msgpack.Packer()
    inner = packer.pack_array_header(2000) + b"\x90" * 2000
    many = packer.pack_array_header(100) + inner * 100
    assert len(msgpack.unpackb(many)) == 100, "a message that msgpack alone would read"
    with pytest.raises(DataError, match="without end"):
        unpack(many)
    assert len(unpack(packer.pack_array_header(5) + inner * 5)) == 5
    with pytest.raises(DataError):
        unpack(packer.pack_array_header(MAX_ITEMS + 1) + b"\x01" * (MAX_ITEMS + 1))


def test_both_versions_of_the_header_are_read() -> None:
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    for version in ((1, 0), (2, 0)):
        stream = io.BytesIO()
        np.lib.format.write_array(stream, array, version=version)
        data = stream.getvalue()
        for _ in range(2):
            np.testing.assert_array_equal(unpack(msgpack.packb({"__ndarray_class__": True, "as_npy": data})), array)
        for cut in range(len(data)):
            with pytest.raises(DataError):
                unpack(msgpack.packb({"__ndarray_class__": True, "as_npy": data[:cut]}))


def test_empty_arrays_of_any_shape_are_read_or_refused() -> None:
    np.testing.assert_array_equal(unpack(pack(np.zeros((0, 3), np.float32))), np.zeros((0, 3), np.float32))
    for shape in ((0, 2**62), (0, 2**80), (2**40, 0, 2**40)):
        with pytest.raises(DataError):
            unpack(msgpack.packb(npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}")))


def test_numpy_scalars_of_openpi_come_back() -> None:
    found = unpack(pack({"a": np.float32(0.5), "b": np.int64(7), "c": np.bool_(True)}, "openpi"))
    assert found == {"a": np.float32(0.5), "b": 7, "c": True}
    assert found["a"].dtype == np.float32
    for number, dtype in (("text", "<f4"), (300, "|u1"), (1, "|O"), (1, "<U4")):
        with pytest.raises(DataError):
            unpack(msgpack.packb({b"__npgeneric__": True, b"data": number, b"dtype": dtype}))


def test_the_bytes_are_those_of_n1d6() -> None:
    """Written by hand from the protocol: a map of two, the class mark first, then the bytes of np.save."""
    array = np.arange(3, dtype=np.float32)
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    saved = stream.getvalue()
    name, mark = b"as_npy", b"__ndarray_class__"
    by_hand = b"\x82" + bytes([0xA0 + len(mark)]) + mark + b"\xc3" + bytes([0xA0 + len(name)]) + name
    assert pack(array) == by_hand + b"\xc4" + bytes([len(saved)]) + saved


def test_the_limit_counts_bytes() -> None:
    message = pack({"a": np.zeros(1000, np.uint8)})
    assert unpack(message, limit=len(message))["a"].shape == (1000,)
    with pytest.raises(DataError, match=f"at most {len(message) - 1}"):
        unpack(message, limit=len(message) - 1)
