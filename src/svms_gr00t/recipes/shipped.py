"""What ships with the package: kitchen demonstrations and a trained tiny base.

Configurations name them by word, never by place, so that a run folder means the same after the package has moved.
"""

from importlib.resources import files
from pathlib import Path
from typing import Literal

from svms_gr00t.groot.checkpoint.hub import locate

SHIPPED = "shipped"
NONE = "none"


def shipped(what: Literal["kitchen", "tiny_base"]) -> Path:
    """Its folder."""
    return Path(str(files("svms_gr00t") / "assets" / what))


def demonstrations(chosen: str) -> Path:
    """The dataset folder behind a path or the word `shipped`."""
    return shipped("kitchen") if chosen == SHIPPED else Path(chosen)


def starting_point(chosen: str) -> Path | None:
    """The checkpoint behind a path, a hub id or the word `shipped`; None for `none`, which means fresh weights.

    Raises CheckpointError when there is none.
    """
    if chosen == NONE:
        return None
    return shipped("tiny_base") if chosen == SHIPPED else locate(chosen)
