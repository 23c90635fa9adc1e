"""Files as accidents and attackers leave them: one change at a time, chosen by a seed."""

import json
import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from svms_gr00t.core.errors import SvmsError

TRIALS = 40 * int(os.environ.get("SVMS_FUZZ", "1"))
"""Mutants of each file; SVMS_FUZZ=50 looks 50 times as long."""
VALUES: list[Any] = [
    *(None, True, -1, 0, 3, 1e308, 10**30, float("nan"), float("inf"), 0.5, ""),
    *("x" * 500, "../../x", "[/z]", "\x1b]0;x\x07", "{0.__class__}", "a\0b", "\ud83d", "12", "nan"),
    *([], {}, [[[]]], [None], {"a": 1}, ["a", "a"], [0, 0], [[1, 2], [3]], {"": {}}, -(10**400)),
]
DEEP, LONG = b"[" * 200_000, b"9" * 5_000
LAUGHS = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 10)) for i in range(1, 12)
)
"""YAML of a page that means a million million words."""
WHOLE: list[bytes] = [
    *(b"", b"\0" * 50, DEEP, LONG, b"null", b"[]", b"{}", b"1", b'"text"', b"NaN", b"\xff\xfe{\0}\0", b"\xe9t\xe9: 1"),
    b'{"a": ' * 5_000,
    LAUGHS,
    b"&a [*a]",
    b"a: &a {<<: *a}",
]


def mutants(data: bytes, *, seed: int, trials: int = TRIALS) -> Iterator[bytes]:
    """So many variants of a text file; where it holds JSON, half of them are JSON still."""
    rng = np.random.default_rng(seed)
    yield from WHOLE
    value = _value(data)
    for trial in range(trials):
        yield mutated_json(rng, value) if value is not None and trial % 2 else mutated_bytes(rng, data)


def _value(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def mutated_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """Cut off, bits turned, a piece repeated, left out, or replaced by something hostile."""
    out = bytearray(data)
    first = int(rng.integers(0, max(len(out), 1)))
    last = min(len(out), first + int(rng.integers(1, 20)))
    match int(rng.integers(5)):
        case 0:
            del out[first:]
        case 1:
            for at in rng.integers(0, max(len(out), 1), 3).tolist():
                out[at : at + 1] = bytes([int(rng.integers(256))])
        case 2:
            out[first:first] = out[first:last] * int(rng.integers(1, 50))
        case 3:
            del out[first:last]
        case _:
            odd = [DEEP, LONG, b"\x80", b"\xef\xbb\xbf", b"Infinity", b"*a", b"!!python/object:os.system", b"\t", b"\n"]
            out[first:last] = odd[int(rng.integers(len(odd)))]
    return bytes(out)


def mutated_json(rng: np.random.Generator, value: Any) -> bytes:
    """One node becomes another value, or is left out, or its key gets another name."""
    value = json.loads(json.dumps(value))
    nodes = list(_nodes(value))
    if not nodes:
        return json.dumps(VALUES[int(rng.integers(len(VALUES)))]).encode()
    holder, key = nodes[int(rng.integers(len(nodes)))]
    odd = VALUES[int(rng.integers(len(VALUES)))]
    match int(rng.integers(6)):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[str(odd)[:50]] = holder.pop(key)
        case 2 if isinstance(holder, list):
            holder.insert(key, odd)
        case _:
            holder[key] = odd
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of everything inside."""
    if isinstance(value, dict | list):
        for key, one in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _nodes(one)


def survived(
    readers: Iterable[Callable[[], Any]], file: Path, versions: Iterable[bytes]
) -> tuple[int, dict[str, bytes]]:
    """How often a reader of `file` refused one of these versions, and what else came out of one, with that version."""
    refused, wrong, readers = 0, {}, tuple(readers)
    for version in versions:
        file.write_bytes(version)
        for reader in readers:
            try:
                reader()
            except SvmsError as error:
                refused += 1
                if "\n" in str(error) or len(str(error)) > 5000:
                    wrong[f"{str(error)[:300]!r}"] = version
            except Exception as error:  # noqa: BLE001  # the question is which
                frame = traceback.extract_tb(error.__traceback__)[-1]
                said = f"{type(error).__name__} {str(error)[:150]} {frame.filename}:{frame.lineno}"
                wrong[f"{said} after {version[:80]!r}"] = version
    return refused, wrong
