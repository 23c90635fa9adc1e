"""Edges of the physical sheaf as data: which two streams speak of the same quantity, and how far apart they are.

Axes: N looks, D numbers of a stalk; a section has D + 1, the last one is the distance to the next waypoint in metres.

    visual     what the pictures say now
    state      what is measured now
    temporal   what was expected now: the measured stalk of the last look, moved by the actions executed since; and
               (speed) x (time to the next waypoint, as the pictures of the last look told it)

A residual is a distance in the edge's unit. z is the residual over its clean spread in the same phase of motion.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from svms_gr00t.consistency.stalk import Body, Quantity
from svms_gr00t.core.files.records import JsonRecord

Sections = Mapping[str, Float[ndarray, "N _d"]]
"""Stream -> its section; NaN where it says nothing."""
SPEEDS = ("still", "slow", "fast")
GRIPS = ("open", "closed")


@dataclass(frozen=True, kw_only=True)
class Edge(JsonRecord):
    """Two streams that must agree on one quantity."""

    tail: str
    head: str
    quantity: Quantity

    @property
    def name(self) -> str:
        """ "visual-state hand"."""
        return f"{self.tail}-{self.head} {self.quantity.name}"

    def residual(self, sections: Sections) -> Float[ndarray, " N"]:
        """How far the two are apart, in the quantity's unit; NaN where one says nothing."""
        return self.quantity.distance(sections[self.tail], sections[self.head])


def edges_of(body: Body, *, waypoints: bool) -> tuple[Edge, ...]:
    """Visual-State and Temporal-State on every quantity, Visual-Temporal on the way to the next waypoint."""
    pairs = (("visual", "state"), ("temporal", "state"))
    found = [Edge(tail=tail, head=head, quantity=one) for tail, head in pairs for one in body.quantities]
    if waypoints:
        way = Quantity(name="waypoint", unit="cm", scale=100.0, start=body.width, end=body.width + 1)
        found.append(Edge(tail="visual", head="temporal", quantity=way))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Phases(JsonRecord):
    """Phases of motion: how far the first quantity went since the last look, and whether the gripper is closed."""

    moved: Quantity
    slow: float
    """Below it, in the unit of `moved`, a robot is still; also at the first look of an episode."""
    fast: float
    """From it on a robot is fast."""
    gripper: Quantity | None = None
    closed: float = 0.0
    """Below it, in the unit of `gripper`, it is closed."""

    @property
    def names(self) -> tuple[str, ...]:
        """ "still, open", .."""
        return tuple(f"{speed}, {grip}" for speed in SPEEDS for grip in GRIPS) if self.gripper else SPEEDS

    def of(self, now: Float[ndarray, "N D"], before: Float[ndarray, "N D"]) -> Int[ndarray, " N"]:
        """Number of the phase of each look."""
        way = np.nan_to_num(self.moved.distance(before, now), nan=0.0)
        speed = (way >= self.slow).astype(int) + (way >= self.fast)
        if self.gripper is None:
            return speed
        return 2 * speed + (self.gripper.scale * now[:, self.gripper.start] < self.closed)

    @classmethod
    def split(cls, body: Body, now: Float[ndarray, "N D"], before: Float[ndarray, "N D"]) -> "Phases":
        """Thirds of the looks by speed; the gripper closed below the middle of what it did."""
        moved = body.quantities[0]
        way = moved.distance(before, now)
        way = way[np.isfinite(way)]
        slow, fast = np.quantile(way, [1 / 3, 2 / 3]).tolist() if len(way) else (0.0, 0.0)
        gripper = next((one for one in body.quantities if one.name == "gripper"), None)
        closed = 0.0
        if gripper is not None:
            closed = gripper.scale * float(np.nanquantile(now[:, gripper.start], [0.05, 0.95]).mean())
        return cls(moved=moved, slow=slow, fast=fast, gripper=gripper, closed=closed)
