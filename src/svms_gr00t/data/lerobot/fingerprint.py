"""What names a dataset's content: other numbers in files of the same size are another dataset.

Up to 2 GiB every byte counts. Beyond that every byte of meta/ and of the numbers counts, and of pictures 64 blocks a
file: reading a terabyte of video at each start would take longer than many a training.
"""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

from svms_gr00t.core.files.digest import WHOLE, file_digest, folder_fingerprint, sampled_digest
from svms_gr00t.data.footer import columns_of


def fingerprint(
    root: Path, tables: Collection[Path], clips: Collection[Path], pictures: Collection[str], *, whole: int = WHOLE
) -> str:
    """ "content:..." or "sampled:..." of parquet files, videos and meta/; `pictures` are columns that hold images.

    A file that is missing or broken is part of the name: its episode is left out, and mending it makes other data.
    """
    meta = {path for path in (root / "meta").rglob("*") if path.is_file()}
    files = {path for path in (*tables, *clips) if path.is_file()}

    def large(path: Path) -> bytes:
        if path in meta:
            return file_digest(path)
        return sampled_digest(path) + (_numbers(path, pictures) if path in tables else b"")

    found = folder_fingerprint(root, files | meta, large=large, whole=whole)
    missing = sorted(path.relative_to(root).as_posix() for path in {*tables, *clips} - files)
    return found if not missing else _without(found, missing)


def _without(found: str, missing: Sequence[str]) -> str:
    kind, _, digest = found.partition(":")
    named = hashlib.sha256("\0".join([digest, *missing]).encode())
    return f"{kind}:{named.hexdigest()[:32]}"


def _numbers(path: Path, pictures: Collection[str]) -> bytes:
    """Digest of the stored bytes of every column but the pictures; of nothing where the file is no parquet."""
    digest = hashlib.sha256()
    try:
        columns = columns_of(path)
    except (OSError, ValueError):
        return b""
    with path.open("rb") as file:
        for column in columns:
            if column.name not in pictures:
                file.seek(column.first)
                digest.update(file.read(column.packed))
    return digest.digest()
