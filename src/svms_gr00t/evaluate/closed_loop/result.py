"""Closed-loop results as JSON records, with intervals and the paired comparison of two policies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.evaluate.closed_loop.faults import read_fault
from svms_gr00t.evaluate.statistics.stats import Interval, McNemar, mcnemar, paired_rates, wilson

Ending = Literal["success", "failed", "horizon", "stuck", "error"]
"""failed: the environment said that the goal cannot be reached any more."""


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(JsonRecord):
    """Which episodes are driven, and how."""

    tasks: tuple[str, ...]
    """Task names that the environment knows."""
    episodes: int = 20
    """Episodes for each task."""
    seed: int = 0
    """First part of every episode's seed; two policies with the same seed meet the same scenes."""
    split: str = "train"
    """Passed to the environment's reset."""
    n_action_steps: int = 8
    """Steps of a chunk that are executed before the policy is asked again."""
    horizon: int = 300
    """Steps after which an episode has failed."""
    horizons: dict[str, int] = field(default_factory=dict)
    """Other horizons by task name."""
    robot: Literal["robocasa", "libero", "robomme"] = "robocasa"
    """Which action keys are asked for, and in which order the environment takes them."""
    threshold: float = 0.0
    """Above it, gripper and mode are on: 0 for data in {-1, 1}, 0.5 for {0, 1}."""
    gripper_opens: bool = False
    """LIBERO only: above the threshold the gripper is open, not closed."""
    position_key: str = "state.end_effector_position_relative"
    """What the stuck detector watches."""
    stuck_steps: int = 40
    """An end effector that stays within `stuck_distance` for so many steps is stuck."""
    stuck_distance: float = 0.005
    """In the unit of `position_key`, metres."""
    stop_when_stuck: bool = False
    """End the episode then; off, being stuck is only reported."""
    fault: str = ""
    """What a sensor suffers while the policy acts, in the words of `closed_loop.faults`; empty: nothing."""
    videos: int = 0
    """For each task, so many episodes are filmed."""
    video_view: str = ""
    """Camera key without "video."; empty takes the first."""
    video_stride: int = 4
    """Every so many steps a frame."""
    max_errors: int = 3
    """Broken episodes (the environment or the policy raised) after which the evaluation gives up."""

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ConfigError("rollout.tasks", got=self.tasks, want="different task names", hint="Name at least one")
        for name in ("episodes", "n_action_steps", "horizon", "stuck_steps", "video_stride"):
            if getattr(self, name) < 1:
                raise ConfigError(f"rollout.{name}", got=getattr(self, name), want="at least 1", hint="Choose more")
        if self.fault:
            read_fault(self.fault, "rollout.fault")
        if unknown := sorted(self.horizons.keys() - set(self.tasks)):
            hint = "Name tasks that are driven"
            raise ConfigError("rollout.horizons", got=unknown, want=f"tasks among {self.tasks}", hint=hint)

    def horizon_of(self, task: str) -> int:
        """Steps that an episode of `task` may take."""
        return self.horizons.get(task, self.horizon)


@dataclass(frozen=True, kw_only=True)
class Replan(JsonRecord):
    """What a SVMS policy said about itself when it was asked."""

    step: int
    rho: tuple[float, ...]
    """Disagreement on each edge, mean over valid tokens."""
    rho_max: tuple[float, ...]
    """The largest of any token."""
    routes: tuple[float, ...]
    """Router weight of each stream, mean over valid tokens."""
    ages: dict[int, float] = field(default_factory=dict)
    """Steps back (0: now) -> share of the present's attention; those before the episode are absent. Empty without
    memory."""


@dataclass(frozen=True, kw_only=True)
class SensorCheck(JsonRecord):
    """What a consistency monitor said when the policy was asked."""

    step: int
    score: float
    """In clean spreads."""
    threshold: float
    """Scores above it alarm."""
    residuals: dict[str, float | None]
    """Edge -> how far apart, in its unit; None where it cannot speak."""


@dataclass(frozen=True, kw_only=True)
class Rollout(JsonRecord):
    """One driven episode."""

    task: str
    index: int
    """Number of the episode within its task."""
    seed: int
    instruction: str
    success: bool
    steps: int
    """Steps driven."""
    ending: Ending
    error: str | None = None
    """Why it broke; a broken episode counts as a failure and is reported as broken."""
    stuck_at: int | None = None
    """First step at which the end effector had hardly moved for `stuck_steps` steps."""
    replans: tuple[Replan, ...] = ()
    """Empty for policies without streams."""
    sensors: tuple[SensorCheck, ...] = ()
    """Empty without a consistency monitor."""
    stages: dict[int, str] = field(default_factory=dict)
    """Step -> how far the task is from there on, as the environment says it ("stage" in its info); empty where it
    does not."""
    video: bytes | None = field(default=None, compare=False)
    """GIF. Not compared: software renderers do not promise equal pixels."""
    seconds: float = field(default=0.0, compare=False)
    """Wall-clock time."""


@dataclass(frozen=True, kw_only=True)
class TaskResult(JsonRecord):
    """Success on one task, or overall."""

    successes: int
    episodes: int
    rate: Interval | None
    """Wilson interval."""
    mean_steps: float | None
    """Of successful episodes."""
    stuck: int
    broken: int


@dataclass(frozen=True, kw_only=True)
class RolloutResult(JsonRecord):
    """All episodes of one policy, ordered by task and index."""

    policy: str
    config: RolloutConfig
    rollouts: tuple[Rollout, ...]

    @property
    def overall(self) -> TaskResult:
        """Success over all episodes of all tasks."""
        return _count(self.rollouts)

    @property
    def tasks(self) -> dict[str, TaskResult]:
        """Success by task."""
        return {task: _count([r for r in self.rollouts if r.task == task]) for task in self.config.tasks}

    def against(self, reference: "RolloutResult") -> "RolloutComparison":
        """This policy against another on the same scenes. Raises ConfigError when scenes or rules differ."""
        if _rules(self) != _rules(reference):
            want = "equal tasks, seeds, horizons and action steps"
            raise ConfigError("rollouts", got="different rules", want=want, hint="Drive both with one RolloutConfig")
        tasks = {task: _paired(reference.rollouts, self.rollouts, task) for task in self.config.tasks}
        overall = _paired(reference.rollouts, self.rollouts, None)
        return RolloutComparison(reference=reference.policy, candidate=self.policy, overall=overall, tasks=tasks)


@dataclass(frozen=True, kw_only=True)
class PairedSuccess(JsonRecord):
    """Candidate against reference on the same scenes."""

    episodes: int
    difference: Interval | None
    """Success rate of candidate - reference, whose interval agrees with `test`."""
    test: McNemar


@dataclass(frozen=True, kw_only=True)
class RolloutComparison(JsonRecord):
    """Two policies on the same scenes."""

    reference: str
    candidate: str
    overall: PairedSuccess
    tasks: dict[str, PairedSuccess]


def _count(rollouts: Sequence[Rollout]) -> TaskResult:
    won = [r for r in rollouts if r.success]
    return TaskResult(
        successes=len(won),
        episodes=len(rollouts),
        rate=wilson(len(won), len(rollouts)),
        mean_steps=float(np.mean([r.steps for r in won])) if won else None,
        stuck=sum(r.stuck_at is not None for r in rollouts),
        broken=sum(r.ending == "error" for r in rollouts),
    )


def _rules(result: RolloutResult) -> tuple[object, ...]:
    c = result.config
    horizons = tuple(c.horizon_of(task) for task in c.tasks)
    seeds = tuple((r.task, r.index, r.seed) for r in result.rollouts)
    return (c.tasks, c.split, c.n_action_steps, horizons, c.stop_when_stuck, seeds)


def _paired(reference: Sequence[Rollout], candidate: Sequence[Rollout], task: str | None) -> PairedSuccess:
    a, b = (
        np.array([r.success for r in side if task in (None, r.task)], dtype=bool) for side in (reference, candidate)
    )
    return PairedSuccess(episodes=len(a), difference=paired_rates(a, b), test=mcnemar(a, b))
