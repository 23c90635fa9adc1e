"""Everything that decides the numbers of a demo, as one value."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.recipes.shipped import MEMORY_TASKS, SHIPPED, SHIPPED_MEMORY
from svms_gr00t.recipes.training.budget import TINY, Budget
from svms_gr00t.train.phases import Phase

POLICIES = ("plain", "svms")
BASE = "base"
"""The checkpoint that both start from, measured as it comes: what fine-tuning has to beat."""
DemoSuite = Literal["memory", "single"]


@dataclass(frozen=True, kw_only=True)
class DemoConfig(JsonRecord):
    """Everything that decides the numbers of a demo; by itself that of two memory tasks."""

    suite: DemoSuite = "memory"
    """Two tasks in which the past decides, or nine that one frame decides."""
    dataset_path: str = SHIPPED_MEMORY
    """Demonstrations: a folder, "shipped-memory", or "shipped"."""
    base: str = SHIPPED_MEMORY
    """Checkpoint both models start from: a folder, one of these two words, or "none" for fresh weights."""
    seed: int = 0
    steps: tuple[int, int, int] = (200, 200, 400)
    """Optimiser steps of the three phases."""
    learning_rates: tuple[float, float, float] = (1e-3, 1e-3, 1e-3)
    """A tiny model wants larger ones than N1.6."""
    svms_rate: float = 3.0
    """SVMS, which is fresh, learns at so many times these rates."""
    batch_size: int = 32
    memory_frames: int = 12
    """Earlier steps that SVMS remembers; 0 trains it without memory, with all phases as they are."""
    stride: int = 8
    """Steps between two of them, and steps that are executed of a chunk."""
    deciding_share: float = 0.5
    """With memory: share of every batch, of both models, from steps right before a change of intent."""
    rollouts: int = 8
    """Closed-loop episodes for each task and policy; 0 skips the simulator."""
    monitor_steps: int = 400
    """Optimiser steps of the consistency monitor that watches them; 0 does without. It reads the backbone alone, so
    both policies share one where their backbone stays as it was."""
    monitor_alpha: float = 0.1
    """Share of the looks of a clean episode at which it may alarm; a smaller one needs more episodes."""
    workers: int = 2
    """Processes for the closed loop."""

    @classmethod
    def of(cls, suite: DemoSuite, **changes: Any) -> "DemoConfig":
        """The suite's own values, but for `changes`."""
        return cls(**((SINGLE if suite == "single" else {}) | changes))

    @property
    def offsets(self) -> tuple[int, ...]:
        """Steps that SVMS remembers, before now."""
        return tuple(-self.stride * k for k in range(self.memory_frames, 0, -1))

    @property
    def tasks(self) -> tuple[str, ...]:
        """What is driven; empty takes all of the suite."""
        return MEMORY_TASKS if self.suite == "memory" else ()

    def budget(self) -> Budget:
        """Steps, rates and batches of the three phases."""
        sizes = (self.batch_size,) * 3
        return Budget(steps=self.steps, learning_rates=self.learning_rates, batch_sizes=sizes, svms_rate=self.svms_rate)

    def phases(self) -> tuple[Phase, ...]:
        """The three phases; with memory the language layers stay frozen, so that past frames cost a look-up."""
        phases = self.budget().phases()
        return tuple(replace(one, llm_share=0.0) for one in phases) if self.memory_frames else phases

    def svms(self) -> dict[str, Any]:
        """Fields of the SVMS configuration that are the demo's own."""
        return self.budget().short_schedules() | ({"memory_offsets": self.offsets} if self.memory_frames else {})

    def command(self) -> str:
        """The command line that runs this configuration; settings that no flag reaches are named after it."""
        usual, rest = DemoConfig.of(self.suite), []
        flags = "" if self.suite == DemoConfig().suite else f" --suite {self.suite}"
        for name, value in asdict(self).items():
            if value == getattr(usual, name):
                continue
            if name in ("dataset_path", "base", "seed", "rollouts"):
                flags += f" --{name.replace('_', '-')} {value}"
            else:
                rest.append(f"{name} = {value}")
        return f"svms-gr00t demo{flags}" + (f" ({', '.join(rest)})" if rest else "")


SINGLE: dict[str, Any] = {
    "suite": "single",
    "dataset_path": SHIPPED,
    "base": SHIPPED,
    "steps": TINY.steps,
    "learning_rates": TINY.learning_rates,
    "svms_rate": 1.0,
    "memory_frames": 0,
    "rollouts": 2,
    "monitor_steps": 0,
}
"""The demo without memory, on the nine tasks."""
