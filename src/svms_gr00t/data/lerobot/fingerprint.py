"""What names a dataset's content: other numbers in files of the same size are another dataset.

Up to 2 GiB every byte counts. Beyond that every byte of meta/ and of the numbers counts, and of pictures 64 blocks a
file: reading a terabyte of video at each start would take longer than many a training.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from svms_gr00t.core.digest import WHOLE, file_digest, folder_fingerprint, sampled_digest
from svms_gr00t.core.errors import DataError


def fingerprint(
    root: Path, tables: Collection[Path], clips: Collection[Path], pictures: Collection[str], *, whole: int = WHOLE
) -> str:
    """ "content:..." or "sampled:..." of parquet files, videos and meta/; `pictures` are columns that hold images.

    Raises DataError for a missing or unreadable file.
    """
    meta = {path for path in (root / "meta").rglob("*") if path.is_file()}
    files = {*tables, *clips}
    if missing := sorted(path for path in files if not path.is_file()):
        hint = "Fetch the rest of the dataset"
        raise DataError(missing[0], got="no such file", want="a file of the dataset", hint=hint)

    def large(path: Path) -> bytes:
        if path in meta:
            return file_digest(path)
        return sampled_digest(path) + (_numbers(path, pictures) if path in tables else b"")

    return folder_fingerprint(root, files | meta, large=large, whole=whole)


def _numbers(path: Path, pictures: Collection[str]) -> bytes:
    """Digest of the stored bytes of every column but the pictures."""
    digest = hashlib.sha256()
    try:
        groups = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        got, hint = f"an unreadable file ({error})", "Fetch that file again"
        raise DataError(path, got=got, want="a parquet file of the dataset", hint=hint) from error
    with path.open("rb") as file:
        for group in range(groups.num_row_groups):
            for number in range(groups.num_columns):
                column = groups.row_group(group).column(number)
                if column.path_in_schema.split(".")[0] not in pictures:
                    starts = (column.dictionary_page_offset, column.data_page_offset)
                    file.seek(min(start for start in starts if start))
                    digest.update(file.read(column.total_compressed_size))
    return digest.digest()
