"""Traffic of a server as a file, and the same requests asked again: did a new version answer alike?

The file is a stream of msgpack maps {"request": bytes, "reply": bytes}, flushed after each.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.serve.service import NEED_POLICY, Service
from svms_gr00t.serve.wire import MAX_BYTES, pack, unpack

log = logging.getLogger(__name__)


class Recorder:
    """Appends to a new file; call it with a request and its reply. Raises DataError when the file exists."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise DataError(path, got="a file", want="a new one", hint="Choose another --record file")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._lock = path.open("xb"), threading.Lock()

    def __call__(self, request: bytes, reply: bytes) -> None:
        """Keep one exchange, without the client's token. A full disk ends the recording, not the server."""
        exchange = msgpack.packb({"request": _without_token(request), "reply": reply})
        with self._lock:
            if self._file.closed:
                return
            try:
                self._file.write(exchange)
                self._file.flush()
            except OSError as error:
                log.error("the recording ends here: %s", error)
                with suppress(OSError):  # what is still in the buffer does not fit either
                    self._file.close()

    def close(self) -> None:
        """Finish the file."""
        with self._lock:
            self._file.close()


def _without_token(request: bytes) -> bytes:
    """What cannot be read is left out when it might hold a token."""
    if b"api_token" not in request:
        return request
    try:
        found = unpack(request)
    except DataError:
        return b""
    if isinstance(found, dict):
        found.pop("api_token", None)
    try:
        return pack(found)
    except (TypeError, ValueError, OverflowError):
        return b""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One recorded request asked again."""

    endpoint: str
    difference: float
    """Largest difference of any number in the reply; infinite when its form changed."""


def replay(path: Path, service: Service) -> Iterator[Replayed]:
    """Ask every recorded request of the policy again, in order, but those that were answered with an error.

    Raises DataError for a file that is no recording.
    """
    for raw, answered in _exchanges(path):
        before = unpack(answered, limit=2 * MAX_BYTES)
        if isinstance(before, dict) and "error" in before:
            continue
        request = unpack(raw, limit=2 * MAX_BYTES)
        name = str(request.get("endpoint", "get_action")) if isinstance(request, dict) else "?"
        if name in NEED_POLICY:
            now = unpack(pack(service.answer(request)), limit=2 * MAX_BYTES)
            yield Replayed(endpoint=name, difference=difference(before, now))


def _exchanges(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Request and reply of each; what a crash cut off at the end is left out."""
    with path.open("rb") as file:
        bounds = {"max_map_len": 2, "max_array_len": 0, "max_str_len": 16, "max_ext_len": 0}
        stream = msgpack.Unpacker(file, max_buffer_size=4 * MAX_BYTES, **bounds)
        while True:
            try:
                one = next(stream)
                exchange = (one["request"], one["reply"])
                if not all(isinstance(part, bytes) for part in exchange):
                    raise TypeError("request and reply must be bytes")
            except StopIteration:
                return
            except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
                raise DataError(path, got=f"broken bytes ({error})", want="a recording", hint="Record again") from error
            yield exchange


def difference(a: Any, b: Any) -> float:
    """Largest absolute difference of two replies; infinite where keys, lengths, shapes or texts differ, and for any
    number that is not finite: NaN is not equal to itself either.
    """
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return max((difference(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return max((difference(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape:
        return _gap(a, b)
    if isinstance(a, int | float) and isinstance(b, int | float):
        return _gap(np.array(a), np.array(b))
    arrays = isinstance(a, np.ndarray) or isinstance(b, np.ndarray)
    return 0.0 if not arrays and type(a) is type(b) and a == b else float("inf")


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    if "U" in (a.dtype.kind, b.dtype.kind):
        return 0.0 if np.array_equal(a, b) else float("inf")
    a, b = a.astype(float), b.astype(float)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.abs(a - b).max(initial=0.0))
