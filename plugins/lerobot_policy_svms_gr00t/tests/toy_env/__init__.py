"""A dot that goes where it is told: the smallest environment that LeRobot can evaluate a policy in."""

from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig


class Dot(gymnasium.Env):
    """State (4,) follows the last action; a picture (48, 48, 3) shows it."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  gymnasium's own way
    render_mode = "rgb_array"
    task = "open the drawer"
    task_description = "open the drawer"
    _max_episode_steps = 9
    observation_space = gymnasium.spaces.Dict(
        {
            "pixels": gymnasium.spaces.Dict({"front": gymnasium.spaces.Box(0, 255, (48, 48, 3), np.uint8)}),
            "agent_pos": gymnasium.spaces.Box(-9, 9, (4,), np.float32),
        }
    )
    action_space = gymnasium.spaces.Box(-9, 9, (4,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self.at, self.steps = self.np_random.uniform(-1, 1, 4).astype(np.float32), 0
        return self._seen(), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        self.at, self.steps = np.asarray(action, np.float32), self.steps + 1
        done = self.steps >= self._max_episode_steps
        return self._seen(), float(-np.abs(self.at).sum()), False, done, {"is_success": bool(np.abs(self.at[0]) < 1)}

    def render(self) -> np.ndarray:
        return np.full((48, 48, 3), int(np.clip(self.at[0] * 20 + 120, 0, 255)), np.uint8)

    def _seen(self) -> dict[str, Any]:
        return {"pixels": {"front": self.render()}, "agent_pos": self.at.copy()}


gymnasium.register("gym_svms_dot/Dot-v0", entry_point=Dot)


@EnvConfig.register_subclass("svms_dot")
@dataclass
class DotEnv(EnvConfig):
    """The dot as LeRobot configures it."""

    task: str = "Dot-v0"
    fps: int = 20
    features: dict[str, PolicyFeature] = field(
        default_factory=lambda: {
            "action": PolicyFeature(type=FeatureType.ACTION, shape=(4,)),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=(4,)),
            "pixels/front": PolicyFeature(type=FeatureType.VISUAL, shape=(48, 48, 3)),
        }
    )
    features_map: dict[str, str] = field(
        default_factory=lambda: {
            "action": "action",
            "agent_pos": "observation.state",
            "pixels/front": "observation.images.front",
        }
    )

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {}
