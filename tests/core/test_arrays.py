"""An .npy is mapped: its header is compared with its bytes, and whatever is wrong with it is one sentence."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peak import peak_of

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.arrays import map_array, save_array

HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"


def npy(path: Path, descr: str, shape: str, data: bytes = bytes(64)) -> Path:
    text = HEADER.format(descr, shape).encode().ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data)
    return path


def read(path: Path) -> np.ndarray:
    return map_array(path, want="an array", hint="Delete it")


def test_what_was_saved_is_mapped(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    save_array(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(read(tmp_path / "a.npy"), values)
    np.testing.assert_array_equal(read(npy(tmp_path / "b.npy", "<f4", "(4, 4)")), np.zeros((4, 4), np.float32))


@pytest.mark.parametrize(
    ("descr", "shape"),
    [
        *(("<f4", shape) for shape in ("(10**10,)", "(10000000000,)", "(4611686018427387904, 4)", "(-4,)", "(1.5,)")),
        *(("<f4", shape) for shape in ("(2, 10000000000000000000000)", "4", "(" * 3000, "[4]")),
        *((descr, "(4,)") for descr in ("|O", "<f99", "nonsense", "<U4000000000")),
    ],
)
def test_a_header_that_lies_is_refused_without_taking_memory(tmp_path: Path, descr: str, shape: str) -> None:
    path = npy(tmp_path / "a.npy", descr, shape)

    def refused() -> None:
        with pytest.raises(DataError, match=r"a\.npy: found an unreadable file.*Delete it"):
            read(path)

    assert peak_of(refused) < 20 << 20


def test_other_files_under_that_name_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "zip", a=np.zeros(3))
    for name, data in (("empty", b""), ("pickle", pickle.dumps([1])), ("zip", (tmp_path / "zip.npz").read_bytes())):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="an unreadable file"):
            read(tmp_path / name)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError):
            read(missing)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(at=st.integers(0, 130), byte=st.integers(0, 255))
def test_any_byte_of_a_header_may_be_wrong(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    path = npy(tmp_path_factory.mktemp("npy") / "a.npy", "<f4", "(4, 4)")
    data = bytearray(path.read_bytes())
    data[at] = byte
    path.write_bytes(data)
    try:
        assert read(path).nbytes <= 64
    except DataError:
        return
