"""The sides of the memory study: SVMS with memory, plain N1.6, and every control that would explain a gain away.

What a control controls for: time (`plain_clock`), seeing the past at all (`plain_frames`), the memory without the idea
(`alone`), the idea without memory (`svms`), and parts of it.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side."""

    says: str
    """What it is, in the table's words."""
    between: bool = True
    """Something stands between backbone and action head: SVMS, or the memory alone."""
    remembers: bool = True
    """It has the study's memory."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the SVMS configuration that differ from SVMS with memory."""
    frames: tuple[int, ...] = ()
    """Earlier pictures beside the present one, in strides before it."""
    clock: bool = False
    """The number of steps since the episode began is an input."""
    as_large: bool = False
    """As wide as makes it as large as SVMS with memory."""


ARMS: dict[str, Arm] = {
    "plain": Arm(says="plain N1.6", between=False, remembers=False),
    "plain_clock": Arm(says="plain N1.6 that knows the step", between=False, remembers=False, clock=True),
    "plain_frames": Arm(says="plain N1.6 with two earlier frames", between=False, remembers=False, frames=(-2, -1)),
    "svms": Arm(says="SVMS without memory", remembers=False),
    "alone": Arm(says="the memory alone, as large", changes={"memory_only": True}, as_large=True),
    "full": Arm(says="SVMS with memory"),
    "no_recall": Arm(says="SVMS with memory, no recall loss", changes={"lambda_recall": 0.0}),
    "no_sheaf": Arm(says="SVMS with memory, no sheaf", changes={"sheaf_schedule_mode": "off", "sheaf_unroll_steps": 0}),
    "everywhere": Arm(says="SVMS, every stream remembers", changes={"memory_streams": ("visual", "temporal", "state")}),
    "fourth": Arm(
        says="SVMS, a fourth stream remembers too",
        changes={
            "stream_names": ("visual", "temporal", "state", "events"),
            "n_streams": 4,
            "stream_edges": (
                ("visual", "temporal"),
                ("temporal", "state"),
                ("events", "temporal"),
                ("events", "state"),
            ),
            "memory_streams": ("temporal", "events"),
        },
    ),
}
"""In the order of the table."""
FULL, PLAIN = "full", "plain"
