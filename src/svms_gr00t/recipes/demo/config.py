"""Everything that decides the numbers of a demo, as one value."""

from dataclasses import asdict, dataclass, replace

from svms_gr00t.recipes.shipped import SHIPPED
from svms_gr00t.train.phases import PHASES, Phase

POLICIES = ("plain", "svms")
BASE = "base"
"""The checkpoint that both start from, measured as it comes: what fine-tuning has to beat."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Everything that decides the numbers of a demo."""

    dataset_path: str = SHIPPED
    """Demonstrations: a folder, or "shipped"."""
    base: str = SHIPPED
    """Checkpoint both models start from: a folder, "shipped", or "none" for fresh weights."""
    seed: int = 0
    steps: tuple[int, int, int] = (120, 120, 160)
    """Optimiser steps of the three phases."""
    learning_rates: tuple[float, float, float] = (1e-3, 1e-3, 2e-4)
    """A tiny model wants larger ones than N1.6."""
    batch_size: int = 32
    rollouts: int = 2
    """Closed-loop episodes for each task and policy; 0 skips the simulator."""
    workers: int = 2
    """Processes for the closed loop."""

    def phases(self) -> tuple[Phase, ...]:
        """The three phases with these steps, rates and batches."""
        chosen = zip(PHASES.values(), self.steps, self.learning_rates, strict=True)
        return tuple(replace(p, steps=n, learning_rate=rate, batch_size=self.batch_size) for p, n, rate in chosen)

    def command(self) -> str:
        """The command line that runs this configuration; settings that no flag reaches are named after it."""
        plain, flags, rest = DemoConfig(), "", []
        for name, value in asdict(self).items():
            if value == getattr(plain, name):
                continue
            if name in ("dataset_path", "base", "seed", "rollouts"):
                flags += f" --{name.replace('_', '-')} {value}"
            else:
                rest.append(f"{name} = {value}")
        return f"svms-gr00t demo{flags}" + (f" ({', '.join(rest)})" if rest else "")
