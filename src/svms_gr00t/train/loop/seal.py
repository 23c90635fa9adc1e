"""SHA256SUMS: the digest of every file of a folder, as `sha256sum` writes it and `sha256sum -c` reads it."""

from collections.abc import Collection, Mapping
from pathlib import Path

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.files.digest import file_digest

SUMS = "SHA256SUMS"
WANT = "a whole checkpoint"
HINT = "Delete that folder to go on from the checkpoint before it, or the run folder to start again"


def seal(folder: Path, digests: Mapping[str, str]) -> None:
    """Write the digests of the files, by their names."""
    (folder / SUMS).write_text("".join(_line(name, digests[name]) for name in sorted(digests)), encoding="utf-8")


def check_seal(folder: Path, names: Collection[str]) -> None:
    """Compare the digests of exactly these files. Raises CheckpointError naming the first that differs, or OSError."""
    found = (folder / SUMS).read_bytes()
    lines = [_line(name, digest(folder / name)).encode() for name in sorted(names)]
    if found == b"".join(lines):
        return
    odd = next((name for name, line in zip(sorted(names), lines, strict=True) if line not in found), SUMS)
    raise CheckpointError(folder / odd, got="other bytes than were written", want=WANT, hint=HINT)


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return file_digest(file).hex()


def _line(name: str, digest: str) -> str:
    return f"{digest}  {name}\n"
