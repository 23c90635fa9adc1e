"""Digests of files that may be too large to read whole: names, sizes, and all bytes or blocks spread over them."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

WHOLE = 2 << 30
"""Bytes up to which a set of files is read whole."""
_BLOCKS, _BLOCK = 64, 16 << 10


def file_digest(path: Path) -> bytes:
    """SHA-256 of all bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def sampled_digest(path: Path) -> bytes:
    """SHA-256 of 64 blocks spread evenly over the file, its first and last bytes among them."""
    digest, last = hashlib.sha256(), max(path.stat().st_size - _BLOCK, 0)
    with path.open("rb") as file:
        for block in range(_BLOCKS):
            file.seek(last * block // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
    return digest.digest()


def folder_fingerprint(
    root: Path, files: Iterable[Path], *, large: Callable[[Path], bytes] = sampled_digest, whole: int = WHOLE
) -> str:
    """One name for these files under `root`: "content:..." up to `whole` bytes together, else "sampled:...".

    `large` is the digest of one file of a set that is too large.
    """
    found = sorted(files)
    small = sum(path.stat().st_size for path in found) <= whole
    digest = hashlib.sha256()
    for path in found:
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(file_digest(path) if small else large(path))
    return f"{'content' if small else 'sampled'}:{digest.hexdigest()[:32]}"
