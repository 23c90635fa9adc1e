"""A pip report as requirements with the SHA-256 of each file: what `make lock` writes and `make env` then installs.

    pip install --dry-run --ignore-installed --quiet --report - ... | python tools/lock.py > requirements.lock

Hashes are those of the index, the platform and the Python that resolved: a wheel of torch for the CPU is another file
than one for CUDA. That is why the file is made where it is used, and is no part of this repository.
"""

import json
import sys
from typing import Any

HEAD = "# Made by `make lock` for this platform, Python and index; pip refuses any other file (--require-hashes).\n"


def locked(report: dict[str, Any]) -> str:
    """The text of requirements.lock. Raises SystemExit for a file that came without a hash."""
    lines, bare = [], []
    for item in report["install"]:
        metadata, source = item["metadata"], item["download_info"]
        if "dir_info" in source:  # this project itself
            continue
        digest = source.get("archive_info", {}).get("hashes", {}).get("sha256")
        name = f"{metadata['name']}=={metadata['version']}"
        if digest is None:
            bare.append(name)
        lines.append(f"{name} --hash=sha256:{digest}\n")
    if bare:
        raise SystemExit(f"no SHA-256 of {', '.join(bare)}: the index does not tell it, so these cannot be locked")
    return HEAD + "".join(sorted(lines, key=str.lower))


if __name__ == "__main__":
    sys.stdout.write(locked(json.load(sys.stdin)))
