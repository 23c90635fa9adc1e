"""Evidence of a chunk -> what a reply's info says about the streams and the sensors.

Axes: B robots, E edges. rho (B,), rho_edges (B, E), and flag (B,) and threshold where the checkpoint is calibrated;
consistency, what a consistency monitor says (`consistency/monitor.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from svms_gr00t.monitor import CONSISTENCY, Monitor, chunk_rho


@dataclass(frozen=True)
class Judge:
    """Of a policy with neither streams nor a consistency monitor it says nothing."""

    monitor: Monitor | None = None
    """Calibrated threshold; None gives no flags."""

    def __call__(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        """Raises DataError for a monitor of another graph."""
        said: dict[str, Any] = {CONSISTENCY: evidence[CONSISTENCY]} if CONSISTENCY in evidence else {}
        if "rho" not in evidence:
            return said
        edges = chunk_rho(evidence)
        said |= {"rho": edges.mean(1), "rho_edges": edges}
        if self.monitor is not None:
            readings = self.monitor.read(evidence)
            said |= {"flag": [reading.flag for reading in readings], "threshold": self.monitor.threshold}
        return said
