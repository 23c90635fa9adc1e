"""RoboMME's tasks by name: which episodes, which horizon, through which Python."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.progress import Progress
from svms_gr00t.core.protocols import Factory
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.evaluate.closed_loop.episode import episode_numbers
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig, RolloutResult
from svms_gr00t.evaluate.closed_loop.robomme_action import LAYOUT
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.recipes.benchmarks.closed_loop import Asked, saved_policy
from svms_gr00t.sim.robomme import CAMERAS, HINT, HORIZON, POSITION, SPLITS, RobommeEnv, check_tasks

HERE = "svms_gr00t.recipes.benchmarks.robomme"


def build_robomme(python: str, tasks: tuple[str, ...], episodes: int, seed: int, horizon: int = HORIZON) -> RobommeEnv:
    """RoboMME for a worker process: episode i of every task is the benchmark's episode i."""
    return RobommeEnv(python, starts=episode_numbers(tasks, episodes, seed), horizon=horizon)


def drive_robomme(
    checkpoint: Path,
    *,
    name: str,
    simulator: Path | None,
    tasks: tuple[str, ...] = (),
    split: str | None = None,
    horizon: int = HORIZON,
    placement: Mapping[str, Any] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    **asked: Unpack[Asked],
) -> RolloutResult:
    """Success of a saved policy in RoboMME's tasks, all sixteen without `tasks`. `simulator` is a Python that has it.

    Raises ConfigError without RoboMME, for unknown tasks and splits, for more episodes than a split has, and for a
    policy of another robot.
    """
    _check_robot(checkpoint)
    if simulator is None:
        raise ConfigError("--simulator", got=None, want="the Python of RoboMME's own environment", hint=HINT)
    split = split or SPLITS[-1]
    chosen = _tasks(simulator, tasks, split, asked["episodes"])
    config = RolloutConfig(
        tasks=chosen,
        split=split,
        horizon=horizon,
        robot="robomme",
        position_key=POSITION,
        video_view=CAMERAS["front_rgb"].removeprefix("video."),
        **asked,
    )
    scenes = {"tasks": chosen, "episodes": config.episodes, "seed": config.seed, "horizon": horizon}
    env = Factory(path=f"{HERE}:build_robomme", kwargs={"python": str(simulator)} | scenes)
    policy = saved_policy(checkpoint, **(placement or {}))
    return rollout(policy, env, config, name=name, workers=workers, progress=progress)


def _check_robot(checkpoint: Path) -> None:
    processor = Processor.load(checkpoint)
    tag = processor.config.embodiment_tag
    known = processor.config.embodiment.action.modality_keys
    if set(known) != set(LAYOUT):
        hint = "Train it on RoboMME's data with the modality.json of docs/evaluation.md"
        want = f"the actions {', '.join(LAYOUT)}"
        raise ConfigError(f"checkpoint for {tag}", got=", ".join(known), want=want, hint=hint)


def _tasks(simulator: Path, names: tuple[str, ...], split: str, episodes: int) -> tuple[str, ...]:
    if split not in SPLITS:
        raise ConfigError("--split", got=split, want=f"one of {', '.join(SPLITS)}", hint="test is what is judged")
    env = RobommeEnv(simulator)  # a missing simulator is one sentence here, not one for each worker
    try:
        check_tasks("--tasks", names, env.tasks)
        chosen = names or env.tasks
        most = min(env.count(task, split) for task in chosen)
    finally:
        env.close()
    if episodes > most:
        hint = "Its scenes are fixed; more episodes would be the same ones again"
        raise ConfigError("--episodes", got=episodes, want=f"at most {most}, as many as split {split} has", hint=hint)
    return chosen
