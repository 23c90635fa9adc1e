"""Parquet tables of both layouts: lists in v2.1, fixed-size lists in v3.0, the same values and order of columns."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot.metadata import Feature
from svms_gr00t.data.parquet import HINT, read_parquet


def read_table(
    path: Path, *, episode: int | None = None, length: int | None = None, most: str = "table_bytes"
) -> pa.Table:
    """A whole parquet file, or the rows of one episode. Raises DataError when it cannot be read or has other rows."""
    table = read_parquet(path, most=most)
    if episode is not None:
        table = table.filter(pc.equal(table["episode_index"], episode))  # type: ignore[attr-defined]
    if length is not None and len(table) != length:
        want = f"the {length} that the list of episodes says"
        raise DataError(path, got=f"{len(table)} rows", want=want, hint=HINT)
    return table


def with_fixed_lists(table: pa.Table, features: Mapping[str, Feature]) -> pa.Table:
    """Numeric vectors as fixed-size lists of the width in info.json, lists of one number as that number."""
    for place, item in enumerate(table.schema):
        feature = features.get(item.name)
        if _listed(item.type) and feature is not None and feature.shape == [1]:
            table = table.set_column(place, item.name, pc.list_element(table[item.name], 0))  # type: ignore[attr-defined]
    return _cast(table, features, fixed=True)


def with_plain_lists(table: pa.Table, features: Mapping[str, Feature]) -> pa.Table:
    """Numeric vectors as lists of any length."""
    return _cast(table, features, fixed=False)


def _cast(table: pa.Table, features: Mapping[str, Feature], *, fixed: bool) -> pa.Table:
    fields = []
    for item in table.schema:
        kind, feature = item.type, features.get(item.name)
        if _listed(kind) and feature is not None and len(feature.shape) == 1:
            kind = pa.list_(kind.value_type, feature.shape[0]) if fixed else pa.list_(kind.value_type)
        fields.append(pa.field(item.name, kind))
    return table.cast(pa.schema(fields)).replace_schema_metadata(None)


def _listed(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)


def write_tables(path: Path, tables: Sequence[pa.Table]) -> None:
    """One file, one row group for each table, the types of the first."""
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table.cast(writer.schema), row_group_size=max(1, len(table)))


def write_tasks(path: Path, texts: Sequence[str]) -> None:
    """meta/tasks.parquet of v3.0, task k in row k: the text is the pandas index, which other readers look it up by."""
    columns = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"},
    ]
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [column | {"metadata": None} for column in columns],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array(range(len(texts)), pa.int64()), "task": list(texts)})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Every row of meta/episodes of v3.0, in file order."""
    tables = (read_table(file, most="meta_bytes") for file in sorted(folder.glob("chunk-*/*.parquet")))
    return [row for table in tables for row in table.to_pylist()]
