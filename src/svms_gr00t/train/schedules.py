"""How weights, temperature and learning rate move with the step. Pure functions, and one smoothed loss."""

import math
from dataclasses import dataclass
from typing import Literal

SheafMode = Literal["adaptive", "linear", "constant", "off"]


def ramp(step: int, length: int) -> float:
    """0 at step 0, 1 from `length` on."""
    return 1.0 if length <= 0 else min(step / length, 1.0)


def cosine(step: int, steps: int, *, warmup: float = 0.05) -> float:
    """Learning-rate factor: linear over the first `warmup` share of the steps, then a cosine to 0."""
    first = max(1, round(warmup * steps))
    if step < first:
        return (step + 1) / first
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(1, steps - first)))


def temperature(step: int, *, initial: float, final: float, decay_steps: int) -> float:
    """Geometric: initial * (final / initial) ** min(step / decay_steps, 1)."""
    return initial * (final / initial) ** ramp(step, decay_steps)


@dataclass
class SheafWeight:
    """Weight of the sheaf loss; the adaptive mode remembers when the flow loss became good enough.

    adaptive: `low` until the smoothed flow loss falls below `threshold` (once), then a ramp to `high`.
    """

    mode: SheafMode
    low: float
    high: float
    threshold: float
    ramp_steps: int
    smoothing: float = 0.95
    smoothed: float | None = None
    """Exponential mean of the flow loss so far."""
    started: int | None = None
    """Step at which the ramp began."""

    def at(self, step: int) -> float:
        """The weight for this step."""
        if self.mode == "off":
            return 0.0
        if self.mode == "constant":
            return self.high
        begun = 0 if self.mode == "linear" else self.started
        if begun is None:
            return self.low
        return self.low + (self.high - self.low) * ramp(step - begun, self.ramp_steps)

    def see(self, step: int, flow: float) -> None:
        """Take in the flow loss of a finished step."""
        old = self.smoothed
        self.smoothed = flow if old is None else self.smoothing * old + (1 - self.smoothing) * flow
        if self.mode == "adaptive" and self.started is None and self.smoothed < self.threshold:
            self.started = step + 1

    def state_dict(self) -> dict[str, float | None]:
        """What a resume needs."""
        return {"smoothed": self.smoothed, "started": self.started}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Go on from `state_dict`."""
        self.smoothed = state["smoothed"]
        self.started = None if state["started"] is None else int(state["started"])
