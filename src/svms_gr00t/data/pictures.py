"""Pictures as others hold them, as the RGB bytes that every part of this package works on.

Axes: any leading ones, H and W pixels, 3 colours.

    uint8 (..., H, W, 3)       as it is
    floats from 0 to 1         times 255, rounded (0 .. 255 comes back to the byte)
    channels first             (..., 3, H, W), turned around

What could mean two things is refused with its name: floats beyond [0, 1] (their dark frames would look like [0, 1]),
integers of other widths (depth, 16 bits), three rows that might be three colours, grey, and alpha.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.sizes import within

Each = Callable[[np.ndarray], np.ndarray]
"""What is done to each picture, (1, H, W, 3), as soon as it is decoded, so that no whole clip stands in memory."""

WANT = "uint8 (..., height, width, 3)"


def as_uint8_rgb(where: object, pictures: Any, *, want: str = WANT) -> UInt8[np.ndarray, "*lead H W 3"]:
    """Pictures of any leading axes as RGB bytes; `want` says the form in the caller's axes.

    Raises DataError, one sentence that names `where` and what the pictures are, for anything that has no one meaning.
    """
    array = as_plain_array(where, pictures)
    return _bytes(where, _channels_last(where, array, want), want)


@runtime_checkable
class Frames(Protocol):
    """Pictures of an episode, (T, H, W, 3): an array, or what reads them from a file when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, steps: Any, /) -> Any: ...


def as_they_are(pictures: np.ndarray) -> np.ndarray:
    """The `Each` that changes nothing."""
    return pictures


def room_for(count: int, first: np.ndarray, where: object) -> np.ndarray:
    """An empty array for `count` pictures like the first one. Raises DataError when it would be too large."""
    size = count * first.nbytes
    within("frames_bytes", size, where, f"{count:,} pictures of {' x '.join(map(str, first.shape))}, {size:,} bytes")
    return np.empty((count, *first.shape), first.dtype)


def check_pixels(height: int, width: int, where: object) -> None:
    """Raise DataError for a picture that would be too large. Before it is decoded, or resized."""
    within("picture_pixels", height * width, where, f"a picture of {height:,} x {width:,} pixels")


def as_plain_array(where: object, given: Any, *, want: str = "an array") -> np.ndarray:
    """`given` as numpy sees it. Raises DataError for ragged lists, what is no array at all, and too large a one.

    Numpy makes all items as wide as the widest: a list of 450 words and one of a megabyte is 1.8 GB.
    """
    if isinstance(given, list | tuple):
        size = _spread(given)
        within("list_bytes", size, where, f"a list that would become an array of {size:,} bytes")
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        _refuse(where, f"{type(given).__name__} {given!r}"[:80] + f" ({error})", want, "Rows must be of one length")


def _spread(given: Sequence[Any]) -> int:
    """Bytes, at most, of the array that a list would become: its items times the widest of them."""
    count, letters = 0, 0
    kinds: set[np.dtype[Any]] = {np.dtype(bool)}
    left: list[Any] = [given]
    while left:
        value = left.pop()
        if isinstance(value, list | tuple):
            left += value
            continue
        count += value.size if isinstance(value, np.ndarray) else 1
        if isinstance(value, str | bytes):
            letters = max(letters, len(value))
        elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "USV":
            letters = max(letters, value.dtype.itemsize)
        else:
            kinds.add(value.dtype if isinstance(value, np.ndarray | np.generic) else np.dtype(float))
    numbers = np.result_type(*(kind for kind in kinds if kind.kind in "biufc")).itemsize
    return count * (4 * max(letters, 32) if letters else numbers)  # a number beside a text takes up to 32 letters


def _channels_last(where: object, array: np.ndarray, want: str) -> np.ndarray:
    """The array with its colours last."""
    ends = (array.shape[-3], array.shape[-1]) if array.ndim >= 3 and 0 not in array.shape else (0, 0)
    if ends[1] == 3 != ends[0]:
        return array
    if ends[0] == 3 and ends[1] not in (1, 2, 3, 4):
        return np.ascontiguousarray(np.moveaxis(array, -3, -1))
    hint = "The last axes are row, column, RGB"
    if ends == (3, 3):
        hint = "If these are channels first, transpose to (H, W, 3); a picture of 3 rows or columns is not read"
    elif ends[1] in (1, 4):
        hint = "Grey: repeat it three times" if ends[1] == 1 else "With an alpha channel: keep [..., :3]"
    elif ends[0] in (1, 4):
        hint = "Channels first: make them 3 colours and transpose to (H, W, 3)"
    raise DataError(where, got=_seen(array), want=want, hint=hint)


def _bytes(where: object, array: np.ndarray, want: str) -> np.ndarray:
    """Colours 0 .. 255."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        small = array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 255
        hint = "Convert it with .astype(np.uint8)" if small else "Frames are RGB, 0 .. 255; no depth and no 16 bits"
        _refuse(where, _seen(array), want, hint)
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        _refuse(where, f"{_seen(array)} with NaN or infinity", want, "Check the camera that fills this key")
    if low < 0 or high > 1:
        fix = "floats are read from 0 to 1" if low < 0 else "convert 0 .. 255 with .astype(np.uint8)"
        _refuse(where, f"{_seen(array)} from {low:.3g} to {high:.3g}", want, f"Frames are RGB, 0 .. 255; {fix}")
    out = np.empty(array.shape, np.uint8)
    for picture, place in zip(array.reshape(-1, *array.shape[-3:]), out.reshape(-1, *array.shape[-3:]), strict=True):
        place[...] = np.rint(picture.astype(np.float32) * np.float32(255))  # one at a time: float32 is 4 times uint8
    return out


def _seen(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


def _refuse(where: object, got: str, want: str, hint: str) -> NoReturn:
    raise DataError(where, got=got, want=want, hint=hint)
