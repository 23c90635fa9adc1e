"""LIBERO's kitchens by name: which tasks, which horizon, which initial state an episode begins at."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.progress import Progress
from svms_gr00t.core.protocols import Factory
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.evaluate.closed_loop.episode import episode_numbers
from svms_gr00t.evaluate.closed_loop.libero_action import LAYOUT, Gripper
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig, RolloutResult
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.recipes.benchmarks.closed_loop import Asked, saved_policy
from svms_gr00t.sim.libero import CAMERAS, LIMIT, POSITION, SETTLE, SUITE, LiberoEnv

LIBERO_HORIZON = 720
"""Steps an episode may take in GR00T N1.6's own command (Isaac-GR00T, examples/LIBERO/README.md).

LIBERO's own evaluation takes 600 (libero/configs/eval/default.yaml), N1.5's 400 for LIBERO-90.
"""
HERE = "svms_gr00t.recipes.benchmarks.libero"


def build_libero(tasks: tuple[str, ...], episodes: int, seed: int) -> LiberoEnv:
    """LIBERO for a worker process: episode i of every task begins at the benchmark's initial state i."""
    return LiberoEnv(starts=episode_numbers(tasks, episodes, seed))


def drive_libero(
    checkpoint: Path,
    *,
    name: str,
    tasks: tuple[str, ...] = (),
    split: str | None = None,
    horizon: int = LIBERO_HORIZON,
    placement: Mapping[str, Any] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    **asked: Unpack[Asked],
) -> RolloutResult:
    """Success of a saved policy in LIBERO's kitchens, all of them without `tasks`. Raises ConfigError without LIBERO,
    for unknown tasks, for a policy of another robot, and for a horizon that robosuite would cut short.
    """
    if not 0 < horizon <= LIMIT - SETTLE:
        hint = f"robosuite ends an episode after {LIMIT} steps, {SETTLE} of them for objects to settle"
        raise ConfigError("horizon", got=horizon, want=f"1 to {LIMIT - SETTLE}", hint=hint)
    gripper, chosen = gripper_of(checkpoint), _kitchens(tasks)
    config = RolloutConfig(
        tasks=chosen,
        split=split or SUITE,
        horizon=horizon,
        robot="libero",
        threshold=gripper.threshold,
        gripper_opens=gripper.opens,
        position_key=POSITION,
        video_view=CAMERAS["agentview_image"].removeprefix("video."),
        **asked,
    )
    scenes = {"tasks": chosen, "episodes": config.episodes, "seed": config.seed}
    env = Factory(path=f"{HERE}:build_libero", kwargs=scenes)
    policy = saved_policy(checkpoint, **(placement or {}))
    return rollout(policy, env, config, name=name, workers=workers, progress=progress)


def gripper_of(checkpoint: Path) -> Gripper:
    """Which way round the policy's gripper is, from what it was trained on. Raises ConfigError for another robot."""
    processor = Processor.load(checkpoint)
    tag = processor.config.embodiment_tag
    known = processor.statistics[tag]["action"]
    if missing := sorted(LAYOUT.keys() - known.keys()):
        hint = "Train it on LIBERO data, for example with --embodiment-tag libero_panda"
        want = f"{', '.join(missing)} among its actions"
        raise ConfigError(f"checkpoint for {tag}", got=sorted(known), want=want, hint=hint)
    return Gripper.trained_on(known["gripper"])


def _kitchens(names: tuple[str, ...]) -> tuple[str, ...]:
    env = LiberoEnv()  # a missing simulator is one sentence here, not one for each worker
    known = env.tasks
    env.close()
    if unknown := sorted(set(names) - set(known)):
        want = f"names among LIBERO-90's {len(known)} kitchen tasks"
        raise ConfigError("--tasks", got=unknown, want=want, hint=f"For example {', '.join(known[:2])}")
    return names or known
