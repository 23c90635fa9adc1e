"""The main job, end to end: SVMS in three phases and the plain model beside it, compared open and closed loop.

    data -> experiment -> { plain, SVMS } x three phases -> gates -> open loop, monitored closed loop, streams -> report

Each finished piece is a file in the output folder; running again goes on after the last one.
"""

import logging
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from svms_gr00t.consistency.file import save
from svms_gr00t.consistency.train import MonitorConfig, deal, train_monitor
from svms_gr00t.core.errors import ConfigError, MissingExtra
from svms_gr00t.core.files.lock import only_one
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.evaluate.closed_loop.result import RolloutResult
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, evaluate_open_loop
from svms_gr00t.evaluate.report.data import ReportData
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.demo.config import BASE, POLICIES, DemoConfig
from svms_gr00t.recipes.demo.report import assemble
from svms_gr00t.recipes.settings import claim
from svms_gr00t.recipes.shipped import demonstrations, starting_point
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.phases_in_turn import Trained, train_in_turn
from svms_gr00t.train.cache_features import cache_layer
from svms_gr00t.train.loop.held_out import validator
from svms_gr00t.train.loop.trainer import LoopConfig

Result = TypeVar("Result", bound=JsonRecord)
log = logging.getLogger(__name__)
VALIDATE_EVERY = 100
"""Steps between two looks at held-out samples: enough for a curve, and little of the time."""


class Demo:
    """One demo in one output folder."""

    def __init__(self, config: DemoConfig, output: Path, progress: Progress | None = None) -> None:
        self.config, self.output, self.progress = config, output, progress or Silent()
        self.began = time.monotonic()

    def run(self) -> ReportData:
        """Do what is not done yet, and return the report's data. Raises SvmsError for bad input."""
        if self.config.rollouts and find_spec("robosuite") is None:  # not after minutes of training
            raise MissingExtra("the demo's closed loop (--rollouts 0 does without)", package="robosuite", extra="sim")
        with only_one(self.output):
            claim(self.config, self.output)
            return self._run()

    def _run(self) -> ReportData:
        """All of it, in a folder that is ours."""
        base = starting_point(self.config.base)
        experiment = self._experiment(base)
        trained = {name: self._train(experiment, name, base) for name in POLICIES}
        open_loop = {name: self._open_loop(experiment, name) for name in POLICIES}
        if base is not None:
            open_loop[BASE] = self._open_loop(experiment, BASE)
        closed_loop = self._closed_loop(experiment) if self.config.rollouts else {}
        seen = experiment.first_samples(train=False, stride=4, memory=trained["svms"].model.config.remembered)
        seconds = time.monotonic() - self.began
        return assemble(self.config, experiment, trained, open_loop, closed_loop, seen, seconds=seconds)

    def _experiment(self, base: Path | None) -> Experiment:
        return Experiment.prepare(
            demonstrations(self.config.dataset_path),
            base=base,
            seed=self.config.seed,
            svms=self.config.svms(),
            progress=self.progress,
        )

    def _samples(self, experiment: Experiment, model: Gr00tN1d6) -> tuple[SampleDataset, SampleDataset]:
        """(training, held-out) samples. With memory no picture is read twice: both models share one cache."""
        if not self.config.memory_frames:
            train = experiment.first_samples(train=True, progress=self.progress)
            return train, experiment.first_samples(train=False, stride=4)
        layer = cache_layer(model.config, self.config.phases())
        folder, source = self.output / "features", experiment.sources[0]
        rest: dict[str, Any] = {"memory": model.config.remembered}
        rest["features"] = experiment.growing(model, source, folder, layer=layer, dtype="float32")
        train = experiment.first_samples(train=True, deciding=self.config.deciding_share, **rest)
        return train, experiment.first_samples(train=False, stride=4, **rest)

    def _train(self, experiment: Experiment, name: str, base: Path | None) -> Trained:
        model = experiment.model(use_sheaf_streams=name == "svms", base=base)
        train, held_out = self._samples(experiment, model)
        trained = train_in_turn(
            model,
            train,
            self.output / name,
            phases=self.config.phases(),
            loop=LoopConfig(seed=self.config.seed, precision=experiment.precision, validate_every=VALIDATE_EVERY),
            held_out=held_out,
            validate=validator(held_out),
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
                config=OpenLoopConfig.within(
                    experiment.processor.codec.horizon,
                    seed=self.config.seed,
                    batch_size=32,
                    stride=self.config.stride if self.config.memory_frames else 6,
                ),
                name=name,
                progress=self.progress,
            )

        return self._once(f"open_loop_{name}.json", OpenLoopResult, measure)

    def _policy(self, experiment: Experiment, name: str) -> Policy:
        if name == BASE:
            return experiment.policy(experiment.model(use_sheaf_streams=False, base=starting_point(self.config.base)))
        return Policy.from_pretrained(self.output / name / "policy")

    def _monitor(self, experiment: Experiment) -> Path | None:
        """The one consistency monitor of both policies; None where there is none, or too few episodes for one."""
        c, file = self.config, self.output / "monitor.safetensors"
        if not c.monitor_steps:
            return None
        if file.is_file():
            return file
        everyone = [episode.index for episode in experiment.dataset.episodes]  # the frozen backbone saw none of them
        asked = MonitorConfig(lag=c.stride, alpha=c.monitor_alpha, steps=c.monitor_steps, seed=c.seed)
        try:
            parts = deal(everyone, (), alpha=c.monitor_alpha, seed=c.seed)
        except ConfigError as error:
            log.warning("no consistency monitor in this demo: %s", error)
            return None
        policy = self._policy(experiment, "plain")
        return save(train_monitor(policy, experiment.dataset, parts, asked, name=c.base, progress=self.progress), file)

    def _closed_loop(self, experiment: Experiment) -> dict[str, RolloutResult]:
        monitor = self._monitor(experiment)
        return {name: self._driven(name, monitor) for name in POLICIES}

    def _driven(self, name: str, monitor: Path | None) -> RolloutResult:
        from svms_gr00t.recipes.benchmarks.closed_loop import drive_kitchen

        c = self.config
        return self._once(
            f"closed_loop_{name}.json",
            RolloutResult,
            lambda: drive_kitchen(
                self.output / name / "policy",
                name=name,
                suite=c.suite,
                tasks=c.tasks,
                episodes=c.rollouts,
                n_action_steps=c.stride,
                seed=c.seed + 77,
                videos=1,
                monitor=monitor,
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
