"""What code ran: versions, and the commit when the package runs from a git checkout."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from svms_gr00t.core.files.digest import folder_fingerprint

LIBRARIES = ("svms-gr00t", "torch", "transformers", "numpy")


@cache
def commit() -> str | None:
    """Commit of the checkout that this file lies in, with `+changes` when tracked files differ; None outside git."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    found = _git(root, "rev-parse", "--short=12", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if found is None else found + ("+changes" if changed else "")


@cache
def source_digest() -> str:
    """Changes with any Python file of this package, also where there is no git or not everything is committed."""
    root = Path(__file__).resolve().parents[1]
    return folder_fingerprint(root, root.rglob("*.py")).removeprefix("content:")[:16]


def versions() -> dict[str, str]:
    """Installed versions of what decides numbers, and Python's."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _git(root: Path, *args: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
