"""`svms-gr00t demo`: the main job on the embedded kitchen, from demonstrations to an HTML report."""

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from svms_gr00t.cli.console import Bars, console

SMOKE = {"steps": (3, 3, 3), "rollouts": 0}


def shipped_base(assets: Path) -> bool:
    """Whether a trained tiny base lies among the package's files; without one the demo starts from random weights."""
    return (assets / "tiny_base" / "config.json").is_file()


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train SVMS in three phases beside the plain model, compare both, and write a report. Minutes on two CPU cores.

    Interrupt it at any time: the same command goes on where it stopped.
    """

    output_dir: Path = Path("runs/demo")
    """Where everything goes; a finished demo is shown again at once."""
    dataset_path: Path | None = None
    """Demonstrations; by default those that ship with the package."""
    base: Path | None = None
    """Checkpoint to start from; by default the tiny one that ships with the package."""
    seed: int = 0
    """Same seed, same numbers."""
    rollouts: int = 2
    """Closed-loop episodes for each task and policy; 0 does without the simulator."""
    smoke: bool = False
    """A few steps only, to check an installation."""

    def run(self) -> int:
        """Run and print five lines."""
        from svms_gr00t.evaluate.report.html import save_report
        from svms_gr00t.recipes.demo import Demo as Recipe
        from svms_gr00t.recipes.demo import DemoConfig

        with as_file(files("svms_gr00t") / "assets") as assets:
            config = DemoConfig(
                dataset_path=str(self.dataset_path or assets / "kitchen"),
                base=str(self.base or assets / "tiny_base") if self.base or shipped_base(assets) else None,
                seed=self.seed,
                **(SMOKE if self.smoke else {"rollouts": self.rollouts}),
            )
            data = Recipe(config, self.output_dir, Bars()).run()
        page = save_report(data, self.output_dir / "report")
        for line in data.summary:
            console.print(line, highlight=False)
        console.print(f"Report: {page}", highlight=False, soft_wrap=True)
        return 0
