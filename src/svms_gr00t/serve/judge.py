"""Evidence of a chunk -> what a reply's info says about the streams.

Axes: B robots, E edges. rho (B,), rho_edges (B, E), and flag (B,) and threshold where the checkpoint is calibrated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from svms_gr00t.monitor import Monitor, chunk_rho


@dataclass(frozen=True)
class Judge:
    """Says nothing about a policy without streams."""

    monitor: Monitor | None = None
    """Calibrated threshold; None gives no flags."""

    def __call__(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        """Raises DataError for a monitor of another graph."""
        if "rho" not in evidence:
            return {}
        edges = chunk_rho(evidence)
        said: dict[str, Any] = {"rho": edges.mean(1), "rho_edges": edges}
        if self.monitor is not None:
            readings = self.monitor.read(evidence)
            said |= {"flag": [reading.flag for reading in readings], "threshold": self.monitor.threshold}
        return said
