"""What ships with the package: demonstrations of two kitchens and trained tiny bases.

Configurations name them by word, never by place, so that a run folder means the same after the package has moved.
"""

from importlib.resources import files
from pathlib import Path
from typing import Literal

from svms_gr00t.groot.checkpoint.hub import locate

SHIPPED = "shipped"
SHIPPED_MEMORY = "shipped-memory"
NONE = "none"
MEMORY_TASKS = ("OpenLitDrawer", "PressTwice")
"""Tasks of the memory suite that `shipped-memory` demonstrates."""
Asset = Literal["kitchen", "tiny_base", "memory_kitchen", "memory_base"]
_DATA: dict[str, Asset] = {SHIPPED: "kitchen", SHIPPED_MEMORY: "memory_kitchen"}
_BASES: dict[str, Asset] = {SHIPPED: "tiny_base", SHIPPED_MEMORY: "memory_base"}


def shipped(what: Asset) -> Path:
    """Its folder."""
    return Path(str(files("svms_gr00t") / "assets" / what))


def demonstrations(chosen: str) -> Path:
    """The dataset folder behind a path, or one of the words `shipped` and `shipped-memory`."""
    return shipped(_DATA[chosen]) if chosen in _DATA else Path(chosen)


def starting_point(chosen: str) -> Path | None:
    """The checkpoint behind a path, a hub id or the words `shipped` and `shipped-memory`; None for `none`.

    `none` means fresh weights. Raises CheckpointError when there is none.
    """
    if chosen == NONE:
        return None
    return shipped(_BASES[chosen]) if chosen in _BASES else locate(chosen)
