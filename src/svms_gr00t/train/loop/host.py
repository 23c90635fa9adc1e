"""What the host has left: its memory, or that of the container it is."""

from pathlib import Path

import psutil

GROUP = Path("/sys/fs/cgroup")


def available_memory(group: Path = GROUP) -> int:
    """Bytes that this process may still take before something is swapped out or killed."""
    free = int(psutil.virtual_memory().available)
    try:  # control groups of version 2, as containers see themselves
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        files = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return free if limit == "max" else min(free, max(0, int(limit) - int(used) + int(files["file"])))
    except (OSError, ValueError, KeyError):
        return free
