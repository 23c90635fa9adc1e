"""The embedded kitchen as the closed-loop benchmark: which tasks, which horizons, how processes build their parts."""

from pathlib import Path

import torch

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.progress import Progress
from svms_gr00t.evaluate.protocols import Factory
from svms_gr00t.evaluate.rollout import rollout
from svms_gr00t.evaluate.rollout_result import RolloutConfig, RolloutResult
from svms_gr00t.policy import Policy
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.tasks import TASKS


def load_policy(folder: str) -> Policy:
    """A policy for a worker process: one thread, so that two processes share two cores."""
    torch.set_num_threads(1)
    return Policy.from_pretrained(folder)


def build_kitchen(image_size: int = 128) -> KitchenEnv:
    """The simulator for a worker process."""
    return KitchenEnv(image_size=image_size)


def drive_kitchen(
    checkpoint: Path,
    *,
    name: str,
    tasks: tuple[str, ...] = (),
    episodes: int,
    seed: int,
    split: str = "train",
    n_action_steps: int = 8,
    videos: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> RolloutResult:
    """Success of a saved policy. Raises ConfigError for unknown tasks, MissingExtra without the simulator."""
    if unknown := sorted(set(tasks) - set(TASKS)):
        raise ConfigError("--tasks", got=unknown, want=f"names among {', '.join(TASKS)}", hint="Leave it out for all")
    chosen = tasks or tuple(TASKS)
    config = RolloutConfig(
        tasks=chosen,
        episodes=episodes,
        seed=seed,
        split=split,
        n_action_steps=n_action_steps,
        horizons={task: TASKS[task].horizon for task in chosen},
        videos=videos,
        video_view="res256_image_side_0",
    )
    here = "svms_gr00t.recipes.closed_loop"
    policy = Factory(path=f"{here}:load_policy", kwargs={"folder": str(checkpoint)})
    env = Factory(path=f"{here}:build_kitchen")
    return rollout(policy, env, config, name=name, workers=workers, progress=progress)
