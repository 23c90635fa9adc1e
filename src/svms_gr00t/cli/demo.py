"""`svms-gr00t demo`: the main job on the embedded kitchen, from demonstrations to an HTML report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from svms_gr00t.cli.console import Bars, console

if TYPE_CHECKING:
    from svms_gr00t.recipes.demo.config import DemoConfig

SMOKE: dict[str, Any] = {"steps": (3, 3, 3), "rollouts": 1, "monitor_steps": 20}


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train SVMS in three phases beside the plain model, compare both, and write a report. Minutes on two CPU cores.

    Interrupt it at any time: the same command goes on where it stopped.
    """

    output_dir: Path = Path("runs/demo")
    """Where everything goes; a finished demo is shown again at once."""
    suite: Literal["memory", "single"] = "memory"
    """Two tasks in which the past decides, with an SVMS that remembers; or nine that one frame decides, without."""
    dataset_path: str | None = None
    """Demonstrations: a folder; by default those of the suite that come with the package."""
    base_model_path: str | None = None
    """Checkpoint to start from: a folder, or "none"; by default the suite's tiny one that comes with the package."""
    seed: int = 0
    """Same seed, same numbers."""
    rollouts: int | None = None
    """Closed-loop episodes for each task and policy, by default 8 with memory and 2 without; 0: no simulator."""
    smoke: bool = False
    """A few steps and one episode of each task, to check an installation."""

    def config(self) -> "DemoConfig":
        """What decides the numbers."""
        from svms_gr00t.recipes.demo.config import DemoConfig

        asked = {"dataset_path": self.dataset_path, "base": self.base_model_path, "rollouts": self.rollouts}
        changes = {name: value for name, value in asked.items() if value is not None}
        return DemoConfig.of(self.suite, seed=self.seed, **(SMOKE if self.smoke else {}) | changes)

    def run(self) -> int:
        """Run and print five lines."""
        from svms_gr00t.evaluate.report.html import save_report
        from svms_gr00t.recipes.demo.run import Demo as Recipe

        data = Recipe(self.config(), self.output_dir, Bars()).run()
        page = save_report(data, self.output_dir / "report")
        for line in data.summary:
            console.print(line, soft_wrap=True)
        console.print(f"Report: {page}", soft_wrap=True)
        return 0
