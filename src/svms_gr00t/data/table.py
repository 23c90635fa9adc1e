"""Columns of one episode out of a parquet file, as plain arrays.

Axes: T steps, D elements of a column (1 for a scalar column).
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from svms_gr00t.core.errors import DataError

_HINT = "Fetch or convert that file again"


def read_columns(
    path: Path, names: Iterable[str], *, length: int, only_episode: int | None = None
) -> dict[str, np.ndarray]:
    """Columns `names` as (T, D) arrays of their stored number type.

    `only_episode` keeps the rows of one episode of a shared file. Raises DataError when the file is missing or broken,
    lacks a column, has another number of rows than `length`, unequal rows, nulls, or values that are no numbers.
    """
    wanted = list(dict.fromkeys(names))
    table = _read(path, wanted if only_episode is None else [*wanted, "episode_index"])
    if only_episode is not None:
        table = table.filter(pc.equal(table["episode_index"], only_episode))
    if len(table) != length:
        want = f"the {length} that the list of episodes says"
        raise DataError(path, got=f"{len(table)} rows", want=want, hint=_HINT)
    return {name: _array(table[name], f"{path}, {name}") for name in wanted}


def _read(path: Path, names: list[str]) -> pa.Table:
    try:
        file = pq.ParquetFile(path)
        known = file.schema_arrow.names
        if missing := [name for name in names if name not in known]:
            hint = "Correct meta/modality.json"
            raise DataError(path, got=f"no column {missing[0]}", want=f"one of {', '.join(known)}", hint=hint)
        return file.read(columns=names)
    except FileNotFoundError as error:
        raise DataError(path, got="no such file", want="a parquet file of the dataset", hint=_HINT) from error
    except (OSError, pa.ArrowException) as error:
        want = "a parquet file of the dataset"
        raise DataError(path, got=f"an unreadable file ({error})", want=want, hint=_HINT) from error


def _array(column: pa.ChunkedArray, where: str) -> np.ndarray:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # older pyarrow keeps the wrapper
        array = pa.concat_arrays(array.chunks)
    rows, width = len(array), 1
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        widths = pc.unique(pc.list_value_length(array)).to_pylist()
        if len(widths) != 1 or widths[0] is None:
            raise DataError(where, got=f"rows of {widths} numbers", want="one width", hint=_HINT)
        array, width = array.flatten(), widths[0]
    kind = array.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise DataError(where, got=f"values of type {kind}", want="numbers", hint="Correct meta/modality.json")
    if array.null_count:
        raise DataError(where, got=f"{array.null_count} empty values", want="a number at every step", hint=_HINT)
    return array.to_numpy(zero_copy_only=False).reshape(rows, width)
