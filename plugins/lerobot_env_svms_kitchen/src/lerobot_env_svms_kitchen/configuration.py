"""The flags of `--env.type=svms_kitchen`, and the features of its observations."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.envs.utils import _LazyAsyncVectorEnv

from lerobot_env_svms_kitchen.kitchen import ACTIONS, CAMERAS, STATES, LeRobotKitchen, observations
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.sim.spaces import vector_space
from svms_gr00t.sim.tasks.suites import SUITES, task_named


@EnvConfig.register_subclass("svms_kitchen")
@dataclass
class SvmsKitchenEnv(EnvConfig):
    """One task of the kitchen or several; each has its own rate in `eval_info.json`."""

    task: str = "CloseDrawer"
    """A task, several with commas between, or a suite's name for all of its tasks: single, memory."""
    fps: int = 20
    split: Literal["train", "paraphrase"] = "train"
    """Wordings of the instruction: those of the demonstrations, or those that no demonstration has."""
    scenes: int | None = None
    """With a number, --seed 0 and its successors are the scenes of `svms-gr00t evaluate rollout --seed NUMBER`;
    without, a seed is the scene's own."""
    episode_length: int | None = None
    """Steps after which an episode has failed; by default the task's own horizon."""
    image_size: int = 128
    """Pixels of a picture's side: those of the demonstrations."""
    camera_poses: Literal["close", "robocasa"] = "close"
    """Where the cameras stand: close, as in the demonstrations, or where RoboCasa has them."""
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    """What is seen and done; follows from the rest."""
    features_map: dict[str, str] = field(default_factory=dict)
    """LeRobot's names of the features; those of the demonstrations."""

    def __post_init__(self) -> None:
        """Raises ConfigError for unknown tasks."""
        self.names()
        picture = PolicyFeature(type=FeatureType.VISUAL, shape=(self.image_size, self.image_size, 3))
        self.features = {
            "action": PolicyFeature(type=FeatureType.ACTION, shape=(ACTIONS,)),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=(STATES,)),
            **{f"pixels/{name}": picture for name in CAMERAS},
        }
        self.features_map = {"action": "action", "agent_pos": "observation.state"}
        self.features_map |= {f"pixels/{name}": f"observation.images.{name}" for name in CAMERAS}

    def names(self) -> list[str]:
        """The tasks. Raises ConfigError for unknown ones."""
        found: dict[str, None] = {}
        for name in (one.strip() for one in self.task.split(",")):
            known = next((tasks for suite, tasks in SUITES.items() if suite == name), None)
            found |= dict.fromkeys(known or [task_named(name).name])
        return list(found)

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """What the kitchens of all tasks share."""
        return {
            "image_size": self.image_size,
            "camera_poses": self.camera_poses,
            "split": self.split,
            "scenes": self.scenes,
            "horizon": self.episode_length,
        }

    def create_envs(
        self, n_envs: int, use_async_envs: bool = False
    ) -> dict[str, dict[int, gymnasium.vector.VectorEnv]]:
        """Kitchens by task; several of one task live in processes of their own. Raises ConfigError where they would
        have to share one, since a process draws one kitchen at a time."""
        alone = n_envs == 1
        if not alone and not use_async_envs:
            hint = "Or --eval.batch_size=1"
            raise ConfigError("eval.use_async_envs", got=False, want=f"true for {n_envs} kitchens", hint=hint)
        if alone and self.max_parallel_tasks > 1:
            hint = "--eval.batch_size=2 takes two processes for each task"
            raise ConfigError("env.max_parallel_tasks", got=self.max_parallel_tasks, want="1", hint=hint)
        spaces = (observations(self.image_size), vector_space(ACTIONS), LeRobotKitchen.metadata)
        found: dict[str, dict[int, Any]] = {}
        for name in self.names():
            make = [partial(LeRobotKitchen, name, **self.gym_kwargs)] * n_envs
            # An episode that is over waits for the next explicit reset.
            waits = AutoresetMode.NEXT_STEP
            found[name] = {
                0: SyncVectorEnv(make, autoreset_mode=waits) if alone else _LazyAsyncVectorEnv(make, *spaces)
            }
        return found
