"""LIBERO's import names, spaces and conventions without its assets, and a checkpoint of the robot that it drives.

Like the real one: pictures bottom row first; -1 opens the gripper; an initial state holds objects and hand but not
where the cabinet stands; every reset draws the cabinet from numpy's global generator, after samplers that pile up with
every reset of the same simulator; `done` says whether the goal holds now; robosuite refuses to go on after 1,000 steps.
"""

import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from svms_gr00t.recipes.shipped import shipped

NAMES = (
    "LIVING_ROOM_SCENE1_lift_it",
    "KITCHEN_SCENE1_lift_it_up",
    "STUDY_SCENE1_lift_it",
    "KITCHEN_SCENE10_lift_it_again",
)
KITCHENS = (NAMES[1], NAMES[3])
KEYS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
STATES = 4


@dataclass(frozen=True, kw_only=True)
class Task:
    name: str
    language: str


class Suite:
    """LIBERO-90, shortened; initial states lie on disk as torch saves numpy arrays."""

    folder: ClassVar[Path]

    def __init__(self) -> None:
        self.tasks = [
            Task(name=n, language=n.partition("SCENE")[2].lstrip("0123456789_").replace("_", " ")) for n in NAMES
        ]

    def get_task_bddl_file_path(self, i: int) -> str:
        return f"{NAMES[i]}.bddl"

    def get_task_init_states(self, i: int) -> Any:
        return torch.load(self.folder / f"{NAMES[i]}.pruned_init")


@dataclass(kw_only=True)
class Log:
    """What the stand-ins were asked to do."""

    made: list[str] = field(default_factory=list)
    closed: int = 0
    begun: list[tuple[str, float, float]] = field(default_factory=list)
    """Task, initial state and cabinet of each episode."""
    actions: list[np.ndarray] = field(default_factory=list)


class StandIn:
    """The hand goes where the action says; with closed fingers above 0.3 m the goal holds."""

    log: ClassVar[Log]
    blank: ClassVar[bool] = False

    def __init__(self, *, bddl_file_name: str, camera_heights: int, camera_widths: int) -> None:
        self.task, self.shape = bddl_file_name.removesuffix(".bddl"), (camera_heights, camera_widths, 3)
        self.samplers = 1
        self.log.made.append(self.task)

    def seed(self, seed: int) -> None:
        np.random.seed(seed)

    def reset(self) -> dict[str, Any]:
        np.random.random(self.samplers)
        self.samplers += 1
        self.cabinet, self.steps, self.closed = np.random.random(), 0, False
        return self.set_init_state(np.zeros(3))

    def set_init_state(self, state: np.ndarray) -> dict[str, Any]:
        self.hand, self.start, self.bowl = np.array([0.0, 0.0, 0.01 * state[0]]), float(state[0]), float(state[1])
        return self._look()

    def step(self, action: list[float]) -> tuple[dict[str, Any], float, bool, dict[str, Any]]:
        if self.steps >= 1000:
            raise ValueError("executing action in terminated episode")
        if self.steps == 0:
            self.log.begun.append((self.task, self.start, self.cabinet))
        self.log.actions.append(np.array(action))
        self.steps += 1
        self.hand = self.hand + 0.05 * np.array(action[:3])
        self.closed, self.bowl = action[6] > 0, max(0.0, self.bowl - 0.02)
        done = bool(self.hand[2] > 0.3 and self.closed)
        return self._look(), float(done), done, {}

    def close(self) -> None:
        self.log.closed += 1

    def _look(self) -> dict[str, Any]:
        seen = np.zeros(self.shape, dtype=np.uint8)
        if not self.blank:
            seen[0, 0], seen[-1, 0] = (255, 0, 0), (0, 255, 0)  # as a person sees it: red top left, green bottom left
        return {
            "agentview_image": seen[::-1],
            "robot0_eye_in_hand_image": seen[::-1],
            "robot0_eef_pos": self.hand,
            "robot0_eef_quat": np.array([1.0, 0.0, 0.0, 0.0]),
            "robot0_gripper_qpos": np.array([0.0, -0.0] if self.closed else [0.04, -0.04]),
            "bowl_height": self.bowl,
        }


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Log:
    """`import libero` finds the stand-in, with its initial states in `folder`; returns its log."""
    names = ("libero", "libero.libero", "libero.libero.benchmark", "libero.libero.envs")
    modules = {name: ModuleType(name) for name in names}
    modules["libero.libero"].benchmark = modules["libero.libero.benchmark"]
    modules["libero.libero.benchmark"].get_benchmark_dict = lambda: {"libero_90": Suite}
    modules["libero.libero.envs"].OffScreenRenderEnv = StandIn
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    states = np.stack([np.arange(STATES), np.full(STATES, 0.15), np.zeros(STATES)], axis=1)
    for name in NAMES:
        torch.save(states, folder / f"{name}.pruned_init")
    monkeypatch.setattr(Suite, "folder", folder, raising=False)
    log = Log()
    monkeypatch.setattr(StandIn, "log", log, raising=False)
    return log


def libero_checkpoint(folder: Path, gripper: tuple[float, float] = (0.0, 1.0)) -> Path:
    """The tiny base with the cameras, states and actions of `libero_panda`; it has not learnt to drive it."""
    shutil.copytree(shipped("tiny_base"), folder)
    file = folder / "processor_config.json"
    config = json.loads(file.read_text())
    (robot,) = config["processor_kwargs"]["modality_configs"].values()
    robot["video"]["modality_keys"] = ["image", "wrist_image"]
    robot["state"]["modality_keys"] = list(KEYS)
    robot["action"] |= {"modality_keys": list(KEYS), "action_configs": robot["action"]["action_configs"][:1] * 7}
    config["processor_kwargs"]["modality_configs"] = {"libero_panda": robot}
    config["svms"]["embodiment_tag"] = "libero_panda"
    file.write_text(json.dumps(config))
    action = {key: _range(-1.0, 1.0) for key in KEYS[:-1]} | {"gripper": _range(*gripper)}
    state = {key: _range(-4.0, 4.0) for key in KEYS[:-1]} | {"gripper": _range(-0.05, 0.05, width=2)}
    (folder / "statistics.json").write_text(json.dumps({"libero_panda": {"state": state, "action": action}}))
    (folder / "embodiment_id.json").write_text(json.dumps({"libero_panda": 2}))
    return folder


def _range(low: float, high: float, width: int = 1) -> dict[str, list[float]]:
    values = {"min": low, "max": high, "mean": (low + high) / 2, "std": (high - low) / 4, "q01": low, "q99": high}
    return {name: [value] * width for name, value in values.items()}
