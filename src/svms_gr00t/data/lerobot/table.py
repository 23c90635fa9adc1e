"""Columns of one episode out of a parquet file, as plain arrays.

Axes: T steps, D elements of a column (1 for a scalar column), n pictures asked for, H and W pixels.
"""

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Shaped
from PIL import Image, ImageOps

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.parquet import HINT, read_parquet
from svms_gr00t.data.pictures import Each, as_they_are, as_uint8_rgb, check_pixels, room_for

_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow would clip them to white
_FORMATS = ("PNG", "JPEG", "WEBP")  # Pillow knows forty more, and calls other programs for some
DEEP_HINT = (
    "A depth map is no picture: take that camera out of modality.json. Grey of 16 bits: scale it by its own range to 8"
)


def read_columns(
    path: Path, names: Iterable[str], *, length: int, only_episode: int | None = None
) -> dict[str, np.ndarray]:
    """Columns `names` as (T, D) arrays of their stored number type.

    `only_episode` keeps the rows of one episode of a shared file. Raises DataError when the file is missing or broken,
    lacks a column, has another number of rows than `length`, unequal rows, nulls, or values that are no numbers.
    """
    wanted = list(dict.fromkeys(names))
    table = _rows(path, wanted, length, only_episode)
    return {name: as_array(table[name], f"{path}, {name}") for name in wanted}


def read_images(
    path: Path,
    name: str,
    steps: Sequence[int],
    *,
    length: int,
    only_episode: int | None,
    root: Path,
    shape: Sequence[int] = (),
    each: Each = as_they_are,
) -> Shaped[np.ndarray, "n *picture"]:
    """Pictures of a column at `steps`: PNG or JPEG bytes, a path under `root`, or arrays (`shape` of flat ones).

    Arrays may be fractions or channels first (`data/pictures.py`). `each` is done to one at a time. Raises DataError.
    """
    column = _rows(path, [name], length, only_episode)[name]
    pictures = np.zeros((0, 1, 1, 3), np.uint8)
    for row, step in enumerate(steps):
        picture = each(_shown(column[step], f"{path}, {name}, step {step}", root, shape)[None])[0]
        pictures = pictures if row else room_for(len(steps), picture, f"{path}, {name}")
        if picture.shape != pictures.shape[1:]:
            raise DataError(f"{path}, {name}", got="pictures of several sizes", want="one size", hint=HINT)
        pictures[row] = picture
    return pictures


def _rows(path: Path, names: list[str], length: int, only_episode: int | None) -> pa.Table:
    table = read_parquet(path, names if only_episode is None else [*names, "episode_index"])
    if only_episode is not None:
        table = table.filter(pc.call_function("equal", [table["episode_index"], pa.scalar(only_episode)]))
    if len(table) != length:
        want = f"the {length} that the list of episodes says"
        raise DataError(path, got=f"{len(table)} rows", want=want, hint=HINT)
    return table


def _shown(value: pa.Scalar, where: str, root: Path, shape: Sequence[int]) -> np.ndarray:
    """One picture, however it is stored."""
    if not isinstance(value, pa.ListScalar | pa.LargeListScalar | pa.FixedSizeListScalar) or value.values is None:
        return _picture(value.as_py(), where, root)
    axes, values = [len(value.values)], value.values
    while pa.types.is_nested(values.type):
        if (total := len(values.flatten())) % max(len(values), 1):
            raise DataError(where, got="an array of unequal rows", want="one picture", hint=HINT)
        axes, values = [*axes, total // max(len(values), 1)], values.flatten()
    array = values.to_numpy(zero_copy_only=False).reshape(axes)
    flat = array.ndim == 1 and array.size == math.prod(shape)
    return as_uint8_rgb(where, array.reshape(tuple(shape)) if flat else array, want="uint8 (height, width, 3)")


def _picture(value: Any, where: str, root: Path) -> np.ndarray:
    value = value if isinstance(value, dict) else {"bytes": value}
    data, relative = value.get("bytes"), value.get("path")
    try:
        if data is None and relative:
            inside = (root / relative).resolve()
            if not inside.is_relative_to(root.resolve()):
                raise ValueError(f"a path outside the dataset, {relative}")
            data = inside.read_bytes()
        if not isinstance(data, bytes):
            raise ValueError("no picture")
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
        check_pixels(picture.height, picture.width, where)
        if picture.mode not in _DEEP:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # the third one: broken EXIF
        raise DataError(where, got=f"no readable picture ({error})", want="PNG or JPEG bytes", hint=HINT) from error
    got, want = f"one channel of more than 8 bits ({picture.mode})", "RGB of 8 bits"
    raise DataError(where, got=got, want=want, hint=DEEP_HINT)


def as_array(column: pa.ChunkedArray, where: str) -> np.ndarray:
    """A numeric column as (T, D). Raises DataError for unequal rows, nulls and what is no number."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # older pyarrow keeps the wrapper
        array = pa.concat_arrays(array.chunks)
    rows, width = len(array), 1
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        widths = pc.call_function("list_value_length", [array]).unique().to_pylist()
        if len(widths) != 1 or widths[0] is None:
            raise DataError(where, got=f"rows of {widths} numbers", want="one width", hint=HINT)
        array, width = array.flatten(), widths[0]
    kind = array.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise DataError(where, got=f"values of type {kind}", want="numbers", hint="Correct meta/modality.json")
    if array.null_count:
        raise DataError(where, got=f"{array.null_count} empty values", want="a number at every step", hint=HINT)
    return array.to_numpy(zero_copy_only=False).reshape(rows, width)
