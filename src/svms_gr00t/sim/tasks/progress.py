"""What the tasks of the memory suite keep of an episode: counts, order, origins, seconds. No picture shows it.

A way out is always an act that can be seen (the hand leaves, a lever goes back), and what it means depends on the past.
What has gone wrong stays wrong, so nobody succeeds by trying until it fits.
"""

import numpy as np

from svms_gr00t.sim.scene import COUNTER, DRAWERS, PRESSED
from svms_gr00t.sim.tasks.task import KitchenState

NEAR, AWAY = 0.06, 0.12
"""Metres between hand and fixture, seen from above, at which the hand has come, and at which it has left."""
LOW, HIGH = 0.13, 0.17
"""Metres above the counter at which the hand is at a handle, and at which it has let go of it."""
OPEN, CLOSED, AJAR = 0.09, 0.015, 0.05
"""Metres that a drawer stands open."""


class Follow:
    """Nothing yet."""

    def __init__(self, hidden: int = 0) -> None:
        self.hidden, self.done, self.failed = hidden, False, False

    def see(self, state: KitchenState) -> None:
        """Take in one step; what is decided stays so."""
        if not (self.done or self.failed):
            self._see(state)

    @property
    def stage(self) -> str:
        """In a few words."""
        return "done" if self.done else "failed" if self.failed else self._stage()

    def _stage(self) -> str:
        raise NotImplementedError

    def _judge(self, good: bool) -> None:
        self.done, self.failed = good, not good

    def _see(self, state: KitchenState) -> None:
        raise NotImplementedError


class Presses(Follow):
    """The button was pressed exactly `wanted` times when the hand leaves it. hidden: presses so far."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self._wanted, self._down, self._came = wanted, False, False

    def _stage(self) -> str:
        return f"pressed {self.hidden} of {self._wanted}"

    def _see(self, state: KitchenState) -> None:
        depth = state.joint("coffee")
        if not self._down and depth > PRESSED:
            self._down = True
            self.hidden += 1
        elif depth < PRESSED / 2:
            self._down = False
        distance = float(np.linalg.norm((state.hand() - state.position("button"))[:2]))
        self._came |= distance < NEAR
        if self.hidden > self._wanted:
            self.failed = True
        elif self._came and distance > AWAY:
            self._judge(self.hidden == self._wanted)


class OpenedThenClosed(Follow):
    """The drawer was opened once and closed again when the hand lets go. hidden: 0, 1 opened, 2 closed again."""

    def __init__(self, side: str) -> None:
        super().__init__()
        self._drawer, self._came = f"drawer_{side}", False

    def _stage(self) -> str:
        return ("not opened yet", "opened", "closed again")[self.hidden]

    def _see(self, state: KitchenState) -> None:
        travel = state.joint(self._drawer)
        if self.hidden == 0 and travel > OPEN:
            self.hidden = 1
        elif self.hidden == 1 and travel < CLOSED:
            self.hidden = 2
        offset = state.hand() - state.position(self._drawer)
        height = state.hand()[2] - COUNTER
        self._came |= bool(height < LOW and np.linalg.norm(offset[:2]) < AWAY)
        if self.hidden == 2 and travel > AJAR:
            self.failed = True
        elif self._came and height > HIGH:
            self._judge(self.hidden == 2)


class LitDrawer(Follow):
    """The drawer that the light named is open, and the other one never was. hidden: 1 left, 2 right."""

    def __init__(self, side: str) -> None:
        super().__init__(hidden=1 + DRAWERS.index(side))
        self._side, self._other = side, DRAWERS[1 - DRAWERS.index(side)]

    def _stage(self) -> str:
        return f"{self._side} was lit"

    def _see(self, state: KitchenState) -> None:
        if state.joint(f"drawer_{self._other}") > AJAR:
            self.failed = True
        elif state.joint(f"drawer_{self._side}") > OPEN:
            self.done = True


class InOrder(Follow):
    """Coffee was pressed and the left drawer opened, first the one that the light named. hidden: 1 coffee, 2 drawer; 3
    and 4 once that is done.
    """

    def __init__(self, first: str) -> None:
        super().__init__(hidden=1 + ORDER.index(first))
        self._first = first
        self._reached: list[str] = []

    def _stage(self) -> str:
        return f"{self._reached[0]} done" if self._reached else f"{self._first} was lit"

    def _see(self, state: KitchenState) -> None:
        for name, now in (("coffee", state.joint("coffee") > PRESSED), ("drawer", state.joint("drawer_left") > OPEN)):
            if now and name not in self._reached:
                self._reached.append(name)
                self.hidden += 2 if len(self._reached) == 1 else 0
        if self._reached and self._reached[0] != self._first:
            self.failed = True
        self.done = not self.failed and len(self._reached) == len(ORDER)


ORDER = ("coffee", "drawer")


class Returned(Follow):
    """The food was held high at the station and lies again where it came from. hidden: 1 or 2, the slot."""

    def __init__(
        self, food: str, slots: tuple[tuple[float, float], ...], station: tuple[float, float], slot: int
    ) -> None:
        super().__init__(hidden=1 + slot)
        self._food, self._slots, self._station, self._slot = food, np.array(slots), np.array(station), slot
        self._shown = False

    def _stage(self) -> str:
        return "shown" if self._shown else "not shown yet"

    def _see(self, state: KitchenState) -> None:
        x, y, z = state.position(self._food)
        high = z > COUNTER + 0.10
        self._shown |= bool(high and np.linalg.norm(np.array([x, y]) - self._station) < 0.05)
        let_go = float(np.linalg.norm(state.hand() - np.array([x, y, z]))) > 0.07
        if self._shown and let_go and z < COUNTER + 0.05:
            self._judge(float(np.linalg.norm(np.array([x, y]) - self._slots[self._slot])) < 0.05)


class HeldFor(Follow):
    """The button was held down for so many control steps and let go. hidden: eights of steps that it has been down."""

    def __init__(self, steps: int, tolerance: int) -> None:
        super().__init__()
        self._wanted, self._tolerance = steps, tolerance
        self.steps = 0
        """Steps since it went down."""

    def _stage(self) -> str:
        return f"down for {8 * self.hidden} of {self._wanted} steps"

    def _see(self, state: KitchenState) -> None:
        depth = state.joint("coffee")
        self.steps += bool(self.steps) or depth > PRESSED
        self.hidden = -(-self.steps // 8)
        if self.steps > self._wanted + self._tolerance:
            self.failed = True
        elif self.steps and depth < PRESSED / 2:
            self._judge(self.steps >= self._wanted - self._tolerance)
