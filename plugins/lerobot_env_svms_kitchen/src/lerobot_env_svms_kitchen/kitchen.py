"""The kitchen in the form that LeRobot's rollouts know: pictures, one vector of the state, and a task to read."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.closed_loop.episode import episode_seed
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig
from svms_gr00t.evaluate.closed_loop.robocasa_action import assemble
from svms_gr00t.sim.camera import VIEWS
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.record import ACTION, STATE
from svms_gr00t.sim.spaces import vector_space
from svms_gr00t.sim.tasks.suites import task_named

CAMERAS = tuple(view.removeprefix("video.") for view in VIEWS)
STATES, ACTIONS = sum(STATE.values()), sum(ACTION.values())


class LeRobotKitchen(gymnasium.Env[dict[str, Any], np.ndarray]):
    """`KitchenEnv` with LeRobot's names: states stand in the vector as in recorded demonstrations, actions are theirs.

    An episode ends as in `svms-gr00t evaluate rollout`: by success, when its goal cannot be reached any more, or at
    the horizon. The simulator is built at the first reset, so that kitchens that wait for their turn cost nothing.
    """

    metadata = KitchenEnv.metadata
    render_mode = "rgb_array"

    def __init__(
        self, task: str, *, image_size: int, horizon: int | None = None, scenes: int | None = None, **kitchen: Any
    ) -> None:
        """With `scenes` a reset's seed is an episode's number in `evaluate rollout --seed SCENES`; without it is the
        scene's own, which `sim record` keeps beside a demonstration. `kitchen` is what `KitchenEnv` takes.

        Raises ConfigError for an unknown task.
        """
        self.task = task_named(task).name
        """Name of the task."""
        self._max_episode_steps = horizon or task_named(task).horizon
        self._scenes = scenes
        self._how = {"task": task, "image_size": image_size, **kitchen}
        self._inside: KitchenEnv | None = None
        self._pictures: tuple[np.ndarray, ...] = ()
        self.observation_space, self.action_space = observations(image_size), vector_space(ACTIONS)

    @property
    def inside(self) -> KitchenEnv:
        """The simulator. Raises ConfigError for options that it does not know, and MissingExtra without robosuite."""
        if self._inside is None:
            self._inside = KitchenEnv(**self._how)
        return self._inside

    @property
    def task_description(self) -> str:
        """The instruction of the episode."""
        return self.inside.instruction

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """An episode; LeRobot's own options are not the kitchen's."""
        super().reset(seed=seed)
        if seed is not None and self._scenes is not None:
            seed = episode_seed(RolloutConfig(tasks=(self.task,), seed=self._scenes), self.task, seed)
        seen, info = self.inside.reset(seed=seed)
        return self._named(seen), {"is_success": info["success"]}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Act for 50 ms; gripper and mode are switches. Raises ConfigError for NaN and for another width."""
        seen, reward, over, _, info = self.inside.step(assemble(parts(action)))
        late = self.inside.steps >= self._max_episode_steps
        return self._named(seen), reward, over, late, {"is_success": info["success"]}

    def render(self) -> np.ndarray:
        """The three pictures of the last observation side by side."""
        return np.concatenate(self._pictures, axis=1)

    def close(self) -> None:
        """Free the drawing context; the next reset builds another kitchen."""
        if self._inside is not None:
            self._inside.close()
            self._inside = None

    def _named(self, seen: dict[str, Any]) -> dict[str, Any]:
        pixels = {name: seen[f"video.{name}"] for name in CAMERAS}
        self._pictures = tuple(pixels.values())
        return {"pixels": pixels, "agent_pos": np.concatenate([seen[f"state.{key}"] for key in STATE])}


def observations(image_size: int) -> spaces.Dict:
    """What a kitchen shows."""
    picture = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
    places = spaces.Box(-np.inf, np.inf, (STATES,), np.float32)
    return spaces.Dict({"pixels": spaces.Dict(dict.fromkeys(CAMERAS, picture)), "agent_pos": places})


def parts(action: np.ndarray) -> dict[str, np.ndarray]:
    """(12,) in the order of recorded files by action key. Raises ConfigError for another width."""
    if np.shape(action) != (ACTIONS,):
        hint = "Train on demonstrations of `svms-gr00t sim record`"
        raise ConfigError("action", got=f"shape {np.shape(action)}", want=f"({ACTIONS},)", hint=hint)
    ends = np.cumsum(list(ACTION.values()))[:-1]
    return dict(zip(ACTION, np.split(np.asarray(action), ends), strict=True))
