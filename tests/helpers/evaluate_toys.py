"""A world small enough to know every answer: a hand on a line, recorded, replayed and driven."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from svms_gr00t.core.protocols import INSTRUCTION

KEYS = {"end_effector_position": 3, "end_effector_rotation": 3, "gripper_close": 1, "base_motion": 4, "control_mode": 1}
TASKS = {0: "open the drawer", 1: "close the drawer"}


def statistics(low: float = -1.0, high: float = 1.0) -> dict[str, Any]:
    """Ranges [-1, 1]; base_motion never changes."""
    return {
        "action": {
            k: {"min": [low * (k != "base_motion")] * d, "max": [high * (k != "base_motion")] * d}
            for k, d in KEYS.items()
        }
    }


@dataclass
class ToyDataset:
    """Recorded actions are a function of the recorded state, plus the episode's own offset."""

    lengths: tuple[int, ...] = (21, 17, 30, 25)
    root: Path = Path("toy")
    tasks: dict[int, str] = field(default_factory=lambda: dict(TASKS))
    modality: Any = field(default_factory=lambda: SimpleNamespace(video={"side": None}))

    def lowdim(self, episode: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(episode)
        t = np.linspace(0, 1, self.lengths[episode])[:, None]
        state = np.concatenate([np.sin(3 * t + episode), t], axis=1)
        actions = {key: np.clip(rng.normal(size=(len(t), width)) / 3, -1, 1) for key, width in KEYS.items()}
        actions["base_motion"][:] = 0
        actions["gripper_close"] = np.where(t > 0.5, 1.0, -1.0)
        columns = {"state.pose": state} | {f"action.{key}": rows for key, rows in actions.items()}
        return {name: rows.astype(np.float32) for name, rows in columns.items()}

    def frames(self, episode: int, view: str, steps: list[int]) -> np.ndarray:
        """The first two pixels tell the episode and the step, so that a policy may know where it is."""
        pictures = np.zeros((len(steps), 8, 8, 3), np.uint8)
        pictures[:, 0, 0, 0], pictures[:, 0, 1, 0] = episode, steps
        return pictures

    def instructions(self, episode: int) -> list[str]:
        return [self.tasks[episode % 2]] * self.lengths[episode]


class Replay:
    """Knows the recording by heart; `noise` (drawn from the seed it is given) spoils it."""

    def __init__(self, dataset: ToyDataset, *, noise: float = 0.0, horizon: int = 16, salt: int = 0) -> None:
        self.dataset, self.noise, self.horizon, self.salt = dataset, noise, horizon, salt
        self.heard: list[str] = []
        self.batches: list[int] = []

    def reset(self, seed: int) -> None:
        pass

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[dict], dict]:
        self.batches.append(len(observations))
        return [self._chunk(o, seed) for o, seed in zip(observations, seeds, strict=True)], {}

    def _chunk(self, observation: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
        self.heard.append(observation[INSTRUCTION])
        episode, step = (int(observation["video.side"][0, i, 0]) for i in range(2))
        rng, chunk = np.random.default_rng([seed, self.salt]), {}
        for key, width in KEYS.items():
            rows = self.dataset.lowdim(episode)[f"action.{key}"][step : step + self.horizon]
            padded = np.full((self.horizon, width), 99.0)  # beyond the end: anything; it must not count
            padded[: len(rows)] = rows
            chunk[f"action.{key}"] = padded + self.noise * rng.normal(size=padded.shape)
        return chunk


class FlowReplay(Replay):
    """Also says a flow loss: how many steps it was given, and its seed's parity."""

    def flow_loss(self, observations: list[dict], chunks: list[dict], *, seeds: list[int]) -> np.ndarray:
        return np.array([float(len(chunk["gripper_close"])) for chunk in chunks])


class LineEnv:
    """A hand at x; "right" wants it beyond +0.5, "left" beyond -0.5. One step moves it by 0.1 times the action."""

    def __init__(self, *, fragile: bool = False, deadly: bool = False, unbuildable: bool = False) -> None:
        if unbuildable:
            raise RuntimeError("no assets")
        self.fragile, self.deadly, self.closed, self.drawing = fragile, deadly, False, True
        self.drawn = 0

    def reset(self, *, seed: int, options: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.fragile and seed % 3 == 0:
            raise RuntimeError("the scene could not be built")
        if self.deadly and seed % 5 == 0:
            os._exit(3)  # as a simulator that crashes takes its process along
        self.task = options["task"]
        self.x = float(np.random.default_rng(seed).uniform(-0.2, 0.2))
        return self.look(), {}

    def look(self) -> dict[str, Any]:
        observation = {"state.end_effector_position_relative": np.array([self.x, 0, 0], np.float32)}
        observation[INSTRUCTION] = f"move {self.task}"
        if self.drawing:
            picture = np.zeros((32, 32, 3), np.uint8)
            picture[:, int(np.clip((self.x + 1) * 16, 0, 31))] = 255
            observation["video.side"] = picture
            self.drawn += 1
        return observation

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        assert action.shape == (12,)
        assert set(action[[6, 11]]) <= {-1.0, 1.0}
        self.x += 0.1 * float(action[0])
        success = self.x > 0.5 if self.task == "right" else self.x < -0.5
        stage = "there" if success else "half way" if abs(self.x) > 0.25 else "near the start"
        return self.look(), float(success), success, False, {"success": success, "stage": stage}

    def close(self) -> None:
        self.closed = True


class Listener:
    """Moves as the instruction says, with the chance `skill` (drawn from its seed) of moving at all."""

    def __init__(self, *, skill: float = 1.0, evidence: bool = True) -> None:
        self.skill, self.evidence, self.resets = skill, evidence, []

    def reset(self, seed: int) -> None:
        self.resets.append(seed)

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[dict], dict]:
        chunks = []
        for observation, seed in zip(observations, seeds, strict=True):
            go = np.random.default_rng(seed).random() < self.skill
            speed = go * (1.0 if "right" in observation[INSTRUCTION] else -1.0)
            chunk = {key: np.zeros((16, width)) for key, width in KEYS.items()}
            chunk["end_effector_position"][:, 0] = speed
            chunks.append(chunk)
        rng = np.random.default_rng(seeds[0])
        rho, weights = rng.uniform(0, 1, (len(seeds), 6, 2)), rng.dirichlet(np.ones(3), (len(seeds), 6))
        rho[:, :2], weights[:, :2] = 0, 0  # padding on the left
        return chunks, {"rho": rho, "weights": weights} if self.evidence else {}
