"""How much one request may ask of the server. A few bytes can otherwise buy gigabytes: 100,000 robots with one word
each, a picture of one row that is scaled up, an instruction of a megabyte.

Axes: B robots, T past steps, H and W pixels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from svms_gr00t.core.errors import ConfigError, DataError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on requests and on waiting."""

    max_bytes: int = 256 << 20
    """Largest message: 64 robots with three 512-pixel views and room to spare."""
    max_robots: int = 64
    """Most observations in one request (B)."""
    max_side: int = 4096
    """Largest height or width of a picture, in pixels."""
    max_aspect: float = 8.0
    """Largest ratio of a picture's sides; pictures are scaled by their short side."""
    max_letters: int = 2000
    """Longest instruction."""
    max_waiting: int = 64
    """Requests that may wait for the policy; more are answered at once with an error."""
    max_clients: int = 256
    """Clients that may be connected, of both protocols together; fewer where the process has fewer descriptors."""
    silent_s: float = 0.3
    """A client that has never asked anything for so long loses its place when another one needs it."""
    idle_s: float = 60.0
    """The same for one that was answered before, since its last answer."""
    patience_s: float = 15.0
    """A request that waited so long is answered with an error: N1.6's clients have given up by then."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"limits.{name}", got=value, want="more than 0", hint="The default is a safe start")


def check_size(observation: Mapping[Any, Any], limits: Limits) -> None:
    """Raise DataError for an observation that asks too much."""
    for value in _leaves(observation, 0):
        if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim < 5:
            continue  # a picture without all its axes, which is refused by its shape
        if (letters := _letters(value)) > limits.max_letters:
            _refuse(f"a text of {letters} letters", f"at most {limits.max_letters}", "Shorten the instruction")
        if (rows := _rows(value)) > limits.max_robots:
            _refuse(f"{rows} robots", f"at most {limits.max_robots}", "Ask in several requests")
        if isinstance(value, np.ndarray) and value.ndim == 5:
            _check_picture(value.shape[2:4] if value.shape[4] <= 4 else value.shape[3:], limits)  # or channels first


def _rows(value: Any) -> int:
    """Of a list or an array; numpy's own count would first make the list an array, as wide as its longest text."""
    return len(value) if isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim) else 0


def _letters(value: Any) -> int:
    """Of a text, or of the longest one that an array of texts can hold."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return value.dtype.itemsize // 4
    return len(value) if isinstance(value, str) else 0


def _check_picture(sides: tuple[int, ...], limits: Limits) -> None:
    if max(sides) > limits.max_side or max(sides) > limits.max_aspect * min(sides):
        want = f"sides up to {limits.max_side} and at most {limits.max_aspect:g} times one another"
        _refuse(f"a picture of {sides[0]} x {sides[1]}", want, "Send the camera's frame as it is")


def _leaves(value: Any, depth: int) -> Iterator[Any]:
    """Lists, arrays and texts inside the two or three levels of an observation."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item, depth + 1)
        return
    yield value
    if isinstance(value, list) and len(value) and depth < 8:
        for item in value:
            yield from _leaves(item, depth + 1)


def check_exposure(host: str, token: str | None) -> None:
    """Refuse to serve a network without a token. Raises ConfigError."""
    if host not in LOOPBACK and not token:
        hint = "Add --api-token, or serve 127.0.0.1 and reach it through a tunnel"
        raise ConfigError("--host", got=host, want="the loopback interface, or a token", hint=hint)


def _refuse(got: str, want: str, hint: str) -> NoReturn:
    raise DataError("observation", got=got, want=want, hint=hint)
