"""Tasks, their fixed episodes, and an episode's environment."""

import os
import sys
from typing import Any

import gymnasium
import numpy as np

DEMONSTRATION = {"PickXtimes": 0, "VideoUnmask": 21}
"""Frames that are shown before the robot's first one."""
LIT = 6
"""The frame with the light."""
LEFT, RIGHT, WON = 1.0, -1.0, 3
"""Joint 1 that answers red and blue, and the steps that it has to be held."""


class BenchmarkEnvBuilder:
    def __init__(
        self, env_id: str, dataset: str = "test", action_space: str = "joint_angle", max_steps: int = 10000
    ) -> None:
        assert action_space == "joint_angle"
        self.task, self.split, self.limit = env_id, dataset, max_steps + 2

    @classmethod
    def get_task_list(cls) -> list[str]:
        return list(DEMONSTRATION)

    def get_episode_num(self) -> int:
        return {"train": 6, "val": 3, "test": 4}[self.split]

    def make_env_for_episode(self, episode_idx: int) -> "Episode":
        return Episode(self.task, episode_idx, self.limit)


class Episode:
    def __init__(self, task: str, number: int, limit: int) -> None:
        self.task, self.number, self.limit = task, number, limit

    def reset(self) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        shown = DEMONSTRATION[self.task]
        sys.stdout.write(f"{shown} frames\n")
        self.frame, self.steps, self.held = 0, 1, 0
        self.answer = LEFT if self.number % 2 == 0 else RIGHT
        seen: dict[str, list[Any]] = {}
        for frame in range(shown + 1):
            self.frame = frame
            for name, value in self._look(lit=frame == LIT and shown > 0).items():
                seen.setdefault(name, []).extend(value)
        goals = [f"{self.task} {self.number}", "the same in other words"]
        return seen, {"task_goal": goals, "status": "ongoing"}

    def step(self, action: np.ndarray) -> tuple[Any, float, Any, Any, dict[str, Any]]:
        if action[1] == 99:
            return None, 0.0, True, False, {"status": "error", "error_message": "joint 2 out of reach"}
        if action[2] == 99:
            os._exit(3)
        self.frame, self.steps = self.frame + 1, self.steps + 1
        self.held = self.held + 1 if np.sign(action[0]) == self.answer else 0
        lost = bool(action[0] == -self.answer)
        status = "success" if self.held >= WON else "fail" if lost else "ongoing"
        over, late = np.array([status != "ongoing"]), np.array([self.steps >= self.limit])
        return self._look(), 0.0, over, late, {"status": "timeout" if late and not over else status}

    def close(self) -> None:
        pass

    def _look(self, lit: bool = False) -> dict[str, list[Any]]:
        """The frame's number is the first pixel; the light, where it is lit, fills all others."""
        camera = gymnasium.spec(self.task).kwargs.get("sensor_configs", {}).get("hand_camera", {"width": 128})
        picture = np.zeros((256, 256, 3), dtype=np.uint8)
        if lit:
            picture[:] = (255, 0, 0) if self.answer == LEFT else (0, 0, 255)
        picture[0, 0] = self.frame
        return {
            "front_rgb_list": [picture],
            "wrist_rgb_list": [picture[: camera["width"], ::-1][:, : camera["width"]]],
            "joint_state_list": [np.arange(7) + 0.01 * self.frame],
            "gripper_state_list": [np.array([0.03, 0.04])],
            "eef_state_list": [np.array([0.1, 0.2, 0.3, 3.0, 0.0, 0.01 * self.frame])],
        }
