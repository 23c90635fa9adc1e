"""The main job, end to end: SVMS in three phases and the plain model beside it, compared open and closed loop.

    data -> experiment -> { plain, SVMS } x three phases -> gates -> open loop, closed loop, streams -> report

Each finished piece is a file in the output folder; running again goes on after the last one.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import torch

from svms_gr00t.core.errors import CheckpointError, MissingExtra
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.core.provenance import commit, versions
from svms_gr00t.core.records import JsonRecord
from svms_gr00t.data.loading.steps import StepDataset
from svms_gr00t.evaluate.closed_loop.result import RolloutResult
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, evaluate_open_loop
from svms_gr00t.evaluate.report.data import Fact, Gate, PhaseCurves, ReportData
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import SHIPPED, demonstrations, starting_point
from svms_gr00t.recipes.training.config import tiny_schedules
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.phases_in_turn import Trained, train_in_turn
from svms_gr00t.train.loop.trainer import LoopConfig
from svms_gr00t.train.phases import PHASES, Phase

POLICIES = ("plain", "svms")
BASE = "base"
"""The checkpoint that both start from, measured as it comes: what fine-tuning has to beat."""
Result = TypeVar("Result", bound=JsonRecord)


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


class Demo:
    """One demo in one output folder."""

    def __init__(self, config: DemoConfig, output: Path, progress: Progress | None = None) -> None:
        self.config, self.output, self.progress = config, output, progress or Silent()
        self.began = time.monotonic()

    def run(self) -> ReportData:
        """Do what is not done yet, and return the report's data. Raises SvmsError for bad input."""
        if self.config.rollouts and find_spec("robosuite") is None:  # not after minutes of training
            raise MissingExtra("the demo's closed loop (--rollouts 0 does without)", package="robosuite", extra="sim")
        self._claim()
        base = starting_point(self.config.base)
        experiment = Experiment.prepare(
            demonstrations(self.config.dataset_path),
            base=base,
            seed=self.config.seed,
            svms=tiny_schedules(sum(self.config.steps)),
            progress=self.progress,
        )
        train = experiment.steps(train=True, progress=self.progress)
        held_out = experiment.steps(train=False, stride=4)
        trained = {name: self._train(experiment, name, train, held_out, base) for name in POLICIES}
        open_loop = {name: self._open_loop(experiment, name) for name in POLICIES}
        if base is not None:
            open_loop[BASE] = self._open_loop(experiment, BASE)
        closed_loop = {name: self._closed_loop(name) for name in POLICIES} if self.config.rollouts else {}
        from svms_gr00t.recipes.demo.report import assemble

        return assemble(self, experiment, trained, open_loop, closed_loop, held_out)

    def _claim(self) -> None:
        """Make the folder ours, or check that it is: another configuration must not be mixed into it."""
        self.output.mkdir(parents=True, exist_ok=True)
        file = self.output / "config.json"
        text = json.dumps(asdict(self.config), indent=2) + "\n"
        if file.is_file() and file.read_text(encoding="utf-8") != text:
            hint = "Choose another --output-dir, or delete this one"
            raise CheckpointError(self.output, got="a run with other settings", want="the same settings", hint=hint)
        file.write_text(text, encoding="utf-8")

    def _train(
        self, experiment: Experiment, name: str, train: StepDataset, held_out: StepDataset, base: Path | None
    ) -> Trained:
        model = experiment.model(use_sheaf_streams=name == "svms", base=base)
        trained = train_in_turn(
            model,
            train,
            held_out,
            self.output / name,
            phases=self.config.phases(),
            loop=LoopConfig(seed=self.config.seed),
            progress=self.progress,
            title=name,
        )
        if not (self.output / name / "policy").is_dir():
            experiment.policy(trained.model).save_pretrained(self.output / name / "policy")
        return trained

    def _open_loop(self, experiment: Experiment, name: str) -> OpenLoopResult:
        def measure() -> OpenLoopResult:
            tag = experiment.processor.config.embodiment_tag
            return evaluate_open_loop(
                self._policy(experiment, name),
                experiment.dataset,
                experiment.split.validation,
                statistics=experiment.processor.statistics[tag],
                train_episodes=experiment.split.train,
                config=OpenLoopConfig(seed=self.config.seed, batch_size=32, stride=6),
                name=name,
                progress=self.progress,
            )

        return self._once(f"open_loop_{name}.json", OpenLoopResult, measure)

    def _policy(self, experiment: Experiment, name: str) -> Policy:
        if name == BASE:
            return experiment.policy(experiment.model(use_sheaf_streams=False, base=starting_point(self.config.base)))
        return Policy.from_pretrained(self.output / name / "policy")

    def _closed_loop(self, name: str) -> RolloutResult:
        from svms_gr00t.recipes.benchmarks.closed_loop import drive_kitchen

        c = self.config
        return self._once(
            f"closed_loop_{name}.json",
            RolloutResult,
            lambda: drive_kitchen(
                self.output / name / "policy",
                name=name,
                episodes=c.rollouts,
                seed=c.seed + 77,
                videos=1,
                workers=c.workers,
                progress=self.progress,
            ),
        )

    def _once(self, file: str, kind: type[Result], measure: Callable[[], Result]) -> Result:
        """The result in `file`, measured now if it is not there yet."""
        path = self.output / file
        if not path.is_file():
            measure().save(path)
        return kind.load(path)


def passport(experiment: Experiment, config: DemoConfig, seconds: float) -> tuple[Fact, ...]:
    """What was run, for the report."""
    facts = {
        "command": config.command(),
        "commit": commit() or "not a git checkout",
        "dataset": f"{experiment.dataset.root.name}, {len(experiment.dataset.episodes)} episodes",
        "data fingerprint": experiment.dataset.fingerprint(),
        "held out": f"{len(experiment.split.validation)} episodes",
        "base": config.base,
        "steps": " + ".join(str(n) for n in config.steps) + f" at batch {config.batch_size}",
        "seed": str(config.seed),
        "closed-loop episodes": f"{config.rollouts} for each task and policy",
        "time": f"{seconds:.0f} s of this call, {torch.get_num_threads()} threads",
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
    return tuple(Fact(name=name, value=value) for name, value in facts.items())


def curves(trained: Trained) -> tuple[PhaseCurves, ...]:
    """Training curves of the three phases."""
    found = []
    for number, (phase, rows) in enumerate(trained.rows.items(), start=1):
        names = [key.removeprefix("term.") for key in rows[0] if key.startswith("term.")]
        found.append(
            PhaseCurves(
                name=f"{number} {phase}",
                steps=tuple(row["step"] for row in rows),
                terms={name: tuple(row[f"term.{name}"] for row in rows) for name in names},
                weights={name: tuple(row[f"weight.{name}"] for row in rows) for name in names},
            )
        )
    return tuple(found)


def gates(trained: Trained, last: list[Gate]) -> tuple[Gate, ...]:
    """The gates of the phases in order."""
    return (*(Gate(**asdict(result)) for result in trained.gates), *last)
