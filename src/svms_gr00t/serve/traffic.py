"""Traffic of a server as a file, and the same requests asked again: did a new version answer alike?

The file is a stream of msgpack maps {"request": bytes, "reply": bytes}, flushed after each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.wire import MAX_BYTES, unpack


class Recorder:
    """Appends to a new file; call it with a request and its reply. Raises DataError when the file exists."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise DataError(path, got="a file", want="a new one", hint="Choose another --record file")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb")

    def __call__(self, request: bytes, reply: bytes) -> None:
        """Keep one exchange, without the client's token."""
        self._file.write(msgpack.packb({"request": _without_token(request), "reply": reply}))
        self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def _without_token(request: bytes) -> bytes:
    if b"api_token" not in request:
        return request
    try:
        found = msgpack.unpackb(request, strict_map_key=False)
    except (ValueError, msgpack.UnpackException):
        return b""
    if isinstance(found, dict):
        found.pop("api_token", None)
    return msgpack.packb(found)


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One recorded request asked again."""

    endpoint: str
    difference: float
    """Largest difference of any number in the reply; infinite when its form changed."""


def replay(path: Path, service: Service) -> Iterator[Replayed]:
    """Ask every recorded request again. Raises DataError for a file that is no recording."""
    with path.open("rb") as file:
        stream = msgpack.Unpacker(file, max_buffer_size=2 * MAX_BYTES)
        while True:
            try:
                one = next(stream)
                request, before = unpack(one["request"]), unpack(one["reply"])
            except StopIteration:
                return
            except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
                raise DataError(path, got=f"broken bytes ({error})", want="a recording", hint="Record again") from error
            name = str(request.get("endpoint", "get_action")) if isinstance(request, dict) else "?"
            if name != "kill":
                yield Replayed(endpoint=name, difference=difference(before, service.answer(request)))


def difference(a: Any, b: Any) -> float:
    """Largest absolute difference of two replies; infinite where keys, lengths, shapes or texts differ."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return max((difference(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return max((difference(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape:
        return float(np.abs(a.astype(float) - b.astype(float)).max(initial=0.0))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(float(a) - float(b))
    return 0.0 if type(a) is type(b) and a == b else float("inf")
