"""Per-episode statistics: nested JSON of LeRobot v2.1 to the flat columns of v3.0 and back.

{"stats": {"action": {"min": [...], ...}}}   <->   stats/action/min, ...
"""

from collections.abc import Mapping
from typing import Any

PREFIX = "stats/"


def flatten(stats: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Columns of one episode."""
    return {f"{PREFIX}{name}/{kind}": value for name, kinds in stats.items() for kind, value in kinds.items()}


def unflatten(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The statistics in a row of columns; absent values are left out."""
    stats: dict[str, dict[str, Any]] = {}
    for column, value in row.items():
        if column.startswith(PREFIX) and value is not None:
            name, _, kind = column.removeprefix(PREFIX).rpartition("/")
            stats.setdefault(name, {})[kind] = value
    return stats
