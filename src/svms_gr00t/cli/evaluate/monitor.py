"""`svms-gr00t monitor`: do pictures, measurements and expectations fit together? Train the monitor, or look at one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from svms_gr00t.cli.console import Bars, console, tell_skipped
from svms_gr00t.cli.evaluate.placement import Placement
from svms_gr00t.cli.shown.sheet import Sheet, Tables, num

if TYPE_CHECKING:
    from svms_gr00t.consistency.monitor import Facts


@dataclass(frozen=True, kw_only=True)
class TrainMonitor(Placement, Tables):
    """Two small heads on the frozen model, spreads of every edge, and a threshold; minutes.

    The file serves every policy with the same backbone: `svms-gr00t serve --monitor FILE`.
    """

    model_path: Annotated[str, tyro.conf.Positional]
    """A checkpoint or run folder, a hub id, or "shipped"; plain or with SVMS."""
    dataset_path: Annotated[str, tyro.conf.Positional]
    """Clean demonstrations: a LeRobot dataset with modality.json, or "shipped"."""
    output: Path = Path("outputs/consistency.safetensors")
    """The monitor's file."""
    alpha: float = 0.05
    """Share of the observations of a new clean episode that may alarm; 0.05 needs 21 held-out episodes, 0.1 eleven."""
    lag: int = 8
    """Steps that the robot executes before it asks again."""
    max_steps: int = 2000
    """Optimiser steps of each head."""
    max_frames: int = 6000
    """Most frames that the heads learn from."""
    seed: int = 0
    """Of the heads, and of the deal of episodes."""
    embodiment_tag: str | None = None
    """Needed only when the checkpoint knows several robots."""

    def run(self) -> int:
        """Train, write, and say what the edges' clean spreads are."""
        from svms_gr00t.cli.evaluate.rollout import policy_folder
        from svms_gr00t.consistency.file import save
        from svms_gr00t.consistency.train import MonitorConfig, deal, train_monitor
        from svms_gr00t.recipes.shipped import demonstrations, starting_point
        from svms_gr00t.recipes.training.held_out import held_out

        config = MonitorConfig(
            lag=self.lag, alpha=self.alpha, steps=self.max_steps, max_frames=self.max_frames, seed=self.seed
        )
        self.place()  # before the data take their time
        source = Path(self.model_path)
        folder = policy_folder(source) if source.is_dir() else starting_point(self.model_path)
        found = held_out(source, demonstrations(self.dataset_path), progress=Bars())
        tell_skipped(found.skipped)
        everyone = tuple(sorted((*found.split.train, *found.split.validation)))
        learn, rest = (found.split.train, found.split.validation) if found.known else (everyone, ())
        parts = deal(learn, rest, alpha=self.alpha, seed=self.seed)
        policy = self.load(folder or self.model_path, embodiment_tag=self.embodiment_tag)
        name = self.model_path if not source.is_dir() else source.resolve().name
        monitor = train_monitor(policy, found.dataset, parts, config, name=name, progress=Bars())
        _tell(monitor.facts)
        console.print(f"written to {save(monitor, self.output)}", soft_wrap=True)
        return 0


@dataclass(frozen=True, kw_only=True)
class ShowMonitor(Tables):
    """What a monitor was trained on, its edges and their clean spreads."""

    file: Annotated[Path, tyro.conf.Positional]
    """Written by `svms-gr00t monitor train`."""

    def run(self) -> int:
        """Print it."""
        from svms_gr00t.consistency.file import load

        _tell(load(self.file).facts)
        return 0


def _tell(facts: "Facts") -> None:
    title = "Clean spread by phase of motion (root mean square)"
    table = Sheet("edge", "unit", *facts.phases.names, title=title)
    for edge in facts.edges:
        table.add_row(edge.name, edge.quantity.unit, *(num(float(value), ".3g") for value in facts.spreads[edge.name]))
    table.show()
    console.print(
        f"{facts.checkpoint} on {facts.dataset}: {len(facts.train)} episodes for the heads, {len(facts.spread)} for "
        f"the spreads, {len(facts.calibration)} for the threshold.\nAlarm above {facts.threshold:.2f} spreads: at most "
        f"{facts.alpha:.0%} of the observations of a new clean episode.",
        highlight=False,
        soft_wrap=True,
    )
