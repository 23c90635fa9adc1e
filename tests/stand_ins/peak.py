"""Peak memory of a piece of work, from the kernel's own high-water mark, which may be set back."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def peak_of(work: Callable[[], Any], *, collect: bool = True) -> int:
    """Bytes that this process held more, at most, while `work` ran. Linux alone.

    What earlier work freed and the allocators kept goes back first: work that found it would seem to take nothing.
    """
    if not _CLEAR.exists():
        pytest.skip("measures memory by /proc")
    if collect:  # takes a tenth of a second
        gc.collect()
        pa.default_memory_pool().release_unused()
        ctypes.CDLL(None).malloc_trim(0)
    _CLEAR.write_text("5")
    before = _high()
    work()
    return _high() - before


def _high() -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
