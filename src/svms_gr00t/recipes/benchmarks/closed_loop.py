"""Closed-loop benchmarks by name: which tasks, which horizons, how processes build their parts.

Before a policy is judged in the embedded kitchen, recorded demonstrations are run again in it: a simulator in which the
expert's own actions fail says nothing about a policy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Required, TypedDict, Unpack

import numpy as np
import torch

from svms_gr00t.consistency.checked import Checked
from svms_gr00t.consistency.file import check_lag, load
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.history import check_executed
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.core.protocols import Factory
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.evaluate.closed_loop.leaderboard import N1D6_24
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig, RolloutResult
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.evaluate.open_loop.recorded import Remembered, control
from svms_gr00t.groot.checkpoint.loading import read_config
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.record import record_episode
from svms_gr00t.sim.replay import replay_recorded
from svms_gr00t.sim.robocasa import SPLITS, RobocasaEnv, Suite
from svms_gr00t.sim.tasks.suites import TASKS, SuiteName, task_named, tasks_named

ROBOCASA_HORIZON = 720
"""Steps an episode may take in GR00T N1.6's own protocol."""
HERE = "svms_gr00t.recipes.benchmarks.closed_loop"
WIDE_VIEW = "res256_image_side_0"
GATE_SEED = 1000
"""Scene in which an expert shows that a task without shipped demonstrations can be done."""


class Asked(TypedDict, total=False):
    """What every benchmark is asked alike; what is left out is as `RolloutConfig` has it."""

    episodes: Required[int]
    seed: Required[int]
    n_action_steps: int
    videos: int
    fault: str


def load_policy(
    folder: str,
    memory: Remembered = "own",
    dataset: str | None = None,
    episodes: Sequence[int] = (),
    monitor: str | None = None,
    device: str = "cpu",
    dtype: str | None = None,
) -> Policy | Checked:
    """A policy for a worker process: one thread, so that two processes share two cores.

    Another `memory` than its own is a control; "swapped" borrows those `episodes` of a dataset. `monitor` is the file
    of a consistency monitor, which looks on.
    """
    torch.set_num_threads(1)
    lender = None if dataset is None else LeRobotDataset.open(dataset)
    policy = control(Policy.from_pretrained(folder, device=device, dtype=dtype), memory, lender, episodes)
    return policy if monitor is None else Checked(policy, load(monitor, policy))


def check_memory(checkpoint: Path, n_action_steps: int) -> None:
    """Raises ConfigError when a saved policy's memory never sees what it looks back to, before anything is loaded."""
    check_executed(n_action_steps, read_config(checkpoint).remembered, "--n-action-steps")


def build_robocasa(suite: Suite) -> RobocasaEnv:
    """RoboCasa for a worker process."""
    return RobocasaEnv(suite)


def build_kitchen(image_size: int = 128, reveal: bool = False) -> KitchenEnv:
    """The simulator for a worker process."""
    return KitchenEnv(image_size=image_size, reveal=reveal)


def drive_kitchen(
    checkpoint: Path,
    *,
    name: str,
    suite: SuiteName = "single",
    tasks: tuple[str, ...] = (),
    split: str = "train",
    reveal: bool = False,
    horizon: int | None = None,
    monitor: Path | None = None,
    placement: Mapping[str, Any] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    **asked: Unpack[Asked],
) -> RolloutResult:
    """Success of a saved policy in the named tasks, or all of a suite; without `horizon` every task has its own.

    With `reveal` the counter's colour says what must be remembered. A `monitor` looks on and fills `Rollout.sensors`.
    `placement` is `device` and `dtype` of the policy, in names: another process reads them.

    Raises ConfigError for unknown tasks and for a monitor of another lag, MissingExtra without the simulator.
    """
    config = kitchen_rules(tasks_named(tasks, suite), split=split, **asked)
    if monitor is not None:
        check_lag(load(monitor).facts, config.n_action_steps, "--n-action-steps")
    if horizon is not None:
        config = replace(config, horizon=horizon, horizons={})
    env = Factory(path=f"{HERE}:build_kitchen", kwargs={"reveal": reveal})
    looking = {} if monitor is None else {"monitor": str(monitor)}
    policy = saved_policy(checkpoint, **looking, **(placement or {}))
    return rollout(policy, env, config, name=name, workers=workers, progress=progress)


def kitchen_rules(tasks: tuple[str, ...], split: str = "train", **asked: Unpack[Asked]) -> RolloutConfig:
    """How the kitchen's tasks are driven, each with its own horizon; equal rules are equal scenes for every policy."""
    horizons = {task: task_named(task).horizon for task in tasks}
    return RolloutConfig(tasks=tasks, split=split, horizons=horizons, video_view=WIDE_VIEW, **asked)


def drive_robocasa(
    checkpoint: Path,
    *,
    suite: Suite,
    name: str,
    tasks: tuple[str, ...] = (),
    split: str | None = None,
    horizon: int = ROBOCASA_HORIZON,
    placement: Mapping[str, Any] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    **asked: Unpack[Asked],
) -> RolloutResult:
    """Success of a saved policy in RoboCasa. Raises ConfigError without RoboCasa, or without tasks for robocasa365."""
    chosen = tasks or (tuple(N1D6_24) if suite == "n1d6" else ())
    if not chosen:
        hint = "For example --tasks OpenDrawer CloseFridge"
        raise ConfigError("--tasks", got=(), want="names of RoboCasa365 tasks", hint=hint)
    config = RolloutConfig(
        tasks=chosen,
        split=split or SPLITS[suite][-1],
        horizon=horizon,
        threshold=switch_threshold(checkpoint),
        video_view=WIDE_VIEW,
        **asked,
    )
    RobocasaEnv(suite).close()  # a missing simulator is one sentence here, not one for each worker
    env = Factory(path=f"{HERE}:build_robocasa", kwargs={"suite": suite})
    policy = saved_policy(checkpoint, **(placement or {}))
    return rollout(policy, env, config, name=name, workers=workers, progress=progress)


def replay_gate(tasks: tuple[str, ...] = (), progress: Progress | None = None, *, suite: SuiteName = "single") -> int:
    """Replay one shipped demonstration of each task, or where none is shipped (memory suite) let the expert try once;
    returns how many. Raises ConfigError when one does not succeed.
    """
    wanted, root = tasks_named(tasks, suite), shipped("kitchen")
    env, failed = KitchenEnv(image_size=32), []
    try:
        with (progress or Silent()).task("demonstrations still succeed", len(wanted)) as bar:
            for task in wanted:
                # Demonstrations are recorded task by task in turn: episode i belongs to task i modulo their number.
                shown = task in TASKS
                if not (replay_recorded(env, root, list(TASKS).index(task)).success if shown else _tries(env, task)):
                    failed.append(task)
                bar.advance()
    finally:
        env.close()
    if failed:
        want, hint = "recorded actions that still succeed", "Install the simulator versions in constraints.txt"
        raise ConfigError("embedded kitchen", got=f"failed replays of {', '.join(failed)}", want=want, hint=hint)
    return len(wanted)


def _tries(env: KitchenEnv, task: str) -> bool:
    return bool(record_episode(env, task, GATE_SEED, render=False)["success"])


def switch_threshold(checkpoint: Path) -> float:
    """Above it the gripper is closed: the midpoint of what the policy was trained on, 0 for {-1, 1}, 0.5 for {0, 1}."""
    processor = Processor.load(checkpoint)
    grip = processor.statistics[processor.config.embodiment_tag]["action"]["gripper_close"]
    return float(np.asarray(grip["min"]).item() + np.asarray(grip["max"]).item()) / 2


def saved_policy(checkpoint: Path, **control: Any) -> Factory:
    """How a worker process loads it; `control` as `load_policy` has it."""
    return Factory(path=f"{HERE}:load_policy", kwargs={"folder": str(checkpoint)} | control)
