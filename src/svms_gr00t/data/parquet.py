"""Parquet files, which say how much they hold before it is unpacked: runs and dictionaries make kilobytes gigabytes.

Numbers take their count times their width. A text takes what it is, and one that a dictionary holds once may stand in a
million rows, so columns of texts and bytes are unpacked in portions and counted.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.sizes import limit, within
from svms_gr00t.data.footer import Column, columns_of

WANT = "a parquet file of the dataset"
HINT = "Fetch or convert that file again"
BROKEN = (OSError, pa.ArrowException, ValueError, LookupError, TypeError, RuntimeError, OverflowError)
"""What Arrow raises for a damaged file, by where the damage lies."""
_PORTION = 1 << 16
"""Most rows unpacked at once where a row may be of any size."""


def read_parquet(
    path: Path, names: Sequence[str] | None = None, *, most: str = "table_bytes", want: str = WANT, hint: str = HINT
) -> pa.Table:
    """Columns `names`, or all, under the limit `most` (a name of `core/sizes.py`).

    Raises DataError for a file that is missing, broken or too large, and for a column that it does not have.
    """
    try:
        chunks = columns_of(path, names)
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            if missing := [name for name in names or () if name not in known]:
                got, fix = f"no column {missing[0]}", "Correct meta/modality.json"
                raise DataError(path, got=got, want=f"one of {', '.join(known)}", hint=fix)
            _refuse_above(most, sum(chunk.unpacked for chunk in chunks), path)
            columns = None if names is None else list(names)
            if all(chunk.numbers for chunk in chunks):
                return file.read(columns=columns)
            return _in_portions(path, file, columns, chunks, most)
    except FileNotFoundError as error:
        raise DataError(path, got="no such file", want=want, hint=hint) from error
    except DataError:
        raise
    except BROKEN as error:
        said = " ".join(str(error).split())  # Arrow's end in a new line
        raise DataError(path, got=f"an unreadable file ({said})", want=want, hint=hint) from error


def _in_portions(
    path: Path, file: pq.ParquetFile, names: list[str] | None, chunks: Sequence[Column], most: str
) -> pa.Table:
    """The table, unpacked so many rows at a time that a portion stays small whatever a row may hold."""
    largest = max((chunk.largest for chunk in chunks), default=0)
    rows = min(max(limit(most) // 4 // max(largest, 1), 1), _PORTION)
    batches, total = [], 0
    for batch in file.iter_batches(batch_size=rows, columns=names):
        batch.validate(full=True)  # that texts are texts
        batches.append(_spelt_out(batch, path))
        total += batches[-1].nbytes
        _refuse_above(most, total, path)
    return pa.Table.from_batches(batches) if batches else file.read(columns=names)


def _spelt_out(batch: pa.RecordBatch, path: Path) -> pa.RecordBatch:
    """Columns that stayed dictionaries as the values they mean: as Python objects they would be spelt out uncounted."""
    for number, field in enumerate(batch.schema):
        if pa.types.is_dictionary(field.type):
            batch = batch.set_column(number, field.name, batch.column(number).dictionary_decode())
        elif any(pa.types.is_dictionary(part) for part in _inside(field.type)):
            raise DataError(path, got=f"{field.name} of type {field.type}", want="plain values", hint=HINT)
    return batch


def _inside(kind: pa.DataType) -> Iterator[pa.DataType]:
    for number in range(kind.num_fields):
        part = kind.field(number).type
        yield part
        yield from _inside(part)


def _refuse_above(most: str, size: int, path: Path) -> None:
    within(most, size, path, f"columns of {size:,} bytes or more")
