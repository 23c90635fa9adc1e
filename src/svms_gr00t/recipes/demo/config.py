"""Everything that decides the numbers of a demo, as one value."""

from dataclasses import asdict, dataclass

from svms_gr00t.recipes.shipped import SHIPPED
from svms_gr00t.recipes.training.budget import TINY, Budget

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
    steps: tuple[int, int, int] = TINY.steps
    """Optimiser steps of the three phases."""
    learning_rates: tuple[float, float, float] = TINY.learning_rates
    """A tiny model wants larger ones than N1.6."""
    batch_size: int = 32
    rollouts: int = 2
    """Closed-loop episodes for each task and policy; 0 skips the simulator."""
    workers: int = 2
    """Processes for the closed loop."""

    def budget(self) -> Budget:
        """Steps, rates and batches of the three phases."""
        sizes = (self.batch_size,) * 3
        return Budget(steps=self.steps, learning_rates=self.learning_rates, batch_sizes=sizes)

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
