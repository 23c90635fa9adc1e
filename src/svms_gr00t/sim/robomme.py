"""RoboMME's sixteen memory tasks as a gymnasium environment, driven in a Python of their own.

An episode of some tasks begins with a demonstration. RoboMME hands all of its frames over at reset; here they are
`info["watched"]`, oldest first, and the observation is the last frame, the first one that is acted on. Names:

    video.image, video.wrist_image (256, 256, 3)    state.joints (7) radians, state.gripper (1) of one finger, metres
    action: joints (7) absolute, gripper (1), -1 closed and +1 open        (action space `joint_angle`)

the slices of the columns `state` and `actions` in LeRobot's copy of its data. Scenes are fixed: episode i of a split is
the benchmark's own i, whatever the seed. Success is RoboMME's: the status when an episode ends (scripts/evaluation.py).
Sources: RoboMME/robomme_benchmark at 598e3b4, doc/env_format.md and env_record_wrapper/.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.protocols import INSTRUCTION, WATCHED
from svms_gr00t.sim import robomme_worker as worker
from svms_gr00t.sim.spaces import METADATA, gymnasium, observation_space, read_options, vector_space

SPLITS = worker.SPLITS
HORIZON = 1300
"""Steps an episode may take in RoboMME's own evaluation; a demonstration does not count."""
CAMERAS = {"front_rgb": "video.image", "wrist_rgb": "video.wrist_image"}
POSITION = "state.end_effector_position"
"""x, y and z, for whoever watches the hand; RoboMME's data have it apart."""
STATES = {"state.joints": 7, "state.gripper": 1, POSITION: 3}
"""State key -> width."""
REACH = 4.0
"""Radians that no joint of a Panda goes beyond."""
HINT = "Run scripts/set_up_robomme.sh FOLDER, then pass --simulator FOLDER/python"


class RobommeEnv(gymnasium.Env[dict[str, Any], ndarray]):
    """One task at a time; "task" and "split" are options of a reset. A task that was named stays until another is."""

    metadata = METADATA | {"render_fps": 10}

    def __init__(
        self,
        python: Path | str,
        *,
        starts: Mapping[int, int] | None = None,
        horizon: int = HORIZON,
        render_mode: str | None = None,
    ) -> None:
        """`python` is an interpreter that has RoboMME; `starts` says which of the benchmark's episodes a seed means,
        others take seed modulo their number. Raises ConfigError for an interpreter without RoboMME.
        """
        self._worker, self._starts, self._horizon = Worker(python), dict(starts or {}), horizon
        self.render_mode = render_mode
        self.observation_space = observation_space(STATES, CAMERAS.values(), (256, 256))
        self.action_space = vector_space(8, REACH)
        try:
            said, _ = self._worker.ask("hello")
        except SimulatorError as error:
            self.close()
            want = "a Python in which RoboMME can be imported"
            raise ConfigError("RoboMME", got=str(error), want=want, hint=HINT) from error
        self.versions: dict[str, str] = said["versions"]
        """Of the packages in the other Python."""
        self._counts: dict[str, dict[str, int]] = said["episodes"]
        self._task, self._words, self._seen = self.tasks[0], "", dict[str, Any]()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names, in RoboMME's order."""
        return tuple(self._counts[SPLITS[-1]])

    def count(self, task: str, split: str) -> int:
        """Episodes that the benchmark has of a task."""
        return self._counts[split][task]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new episode, its demonstration in info["watched"]. Raises ConfigError for unknown tasks and splits."""
        super().reset(seed=seed)
        chosen = read_options(options, task=self._task, split=SPLITS[-1])
        if chosen["split"] not in SPLITS:
            raise ConfigError("split", got=chosen["split"], want=f"one of {', '.join(SPLITS)}", hint="test is judged")
        check_tasks("task", (chosen["task"],), self.tasks)
        self._task = chosen["task"]
        scene = int(self.np_random.integers(2**31)) if seed is None else seed
        episode = self._starts.get(scene, scene) % self.count(self._task, chosen["split"])
        said, frames = self._worker.ask("reset", **chosen, episode=episode, steps=self._horizon)
        self._words = str(said["goal"])
        rows = [self._flat(frames, row) for row in range(len(frames["front_rgb"]))]
        self._seen = rows[-1]
        return self._seen, {"success": False, "task": self._task, "episode": episode, WATCHED: tuple(rows[:-1])}

    def step(self, action: Shaped[ndarray, "8"]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Execute one action (8,). Raises SimulatorError for one that RoboMME cannot execute."""
        said, frames = self._worker.ask("step", action=np.asarray(action, dtype=np.float64))
        self._seen = self._flat(frames, -1)
        ended = said["terminated"], said["truncated"]
        success = any(ended) and said["status"] == "success"
        return self._seen, float(success), *ended, {"success": success, "status": said["status"]}

    def render(self) -> ndarray | None:  # type: ignore[override]
        """Both pictures side by side, or nothing without `render_mode`."""
        wanted = self.render_mode == "rgb_array" and self._seen
        return np.concatenate([self._seen[view] for view in CAMERAS.values()], axis=1) if wanted else None

    def close(self) -> None:
        """End the other process."""
        self._worker.close()

    def _flat(self, frames: Mapping[str, ndarray], row: int) -> dict[str, Any]:
        seen: dict[str, Any] = {new: frames[old][row] for old, new in CAMERAS.items()}
        numbers = frames["joint_state"][row], frames["gripper_state"][row][:1], frames["eef_state"][row][:3]
        states = {key: np.asarray(value, np.float32) for key, value in zip(STATES, numbers, strict=True)}
        return seen | states | {INSTRUCTION: self._words}


class SimulatorError(RuntimeError):
    """The other process said that something failed, or is gone."""


class Worker:
    """`robomme_worker.py` in another Python, at the other end of two pipes."""

    def __init__(self, python: Path | str) -> None:
        """Raises ConfigError for a path that cannot be started."""
        self._log = TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        command = [str(python), "-I", worker.__file__]  # -I: neither our paths nor the user's packages
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        except OSError as error:
            self._log.close()
            got = f"{python}, {error.strerror}"
            raise ConfigError("RoboMME", got=got, want="the Python of its own environment", hint=HINT) from error

    def ask(self, do: str, **given: Any) -> worker.Message:
        """What the other half answers. Raises SimulatorError for what failed there, and when it is gone."""
        arrays = {name: value for name, value in given.items() if isinstance(value, ndarray)}
        facts = {"do": do} | {name: value for name, value in given.items() if name not in arrays}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            worker.send(self._process.stdin, facts, arrays)  # type: ignore[arg-type]
            said, found = worker.receive(self._process.stdout)  # type: ignore[arg-type]
        except (OSError, EOFError, ValueError) as error:
            raise SimulatorError(f"its process ended ({self._last_words()})") from error
        if "error" in said:
            raise SimulatorError(said["error"])
        return said, found

    def _last_words(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"exit code {code}: {lines[-1] if lines else 'no word'}"

    def close(self) -> None:
        """End it; a second time does nothing."""
        if self._process.stdin is None or self._process.stdin.closed:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def check_tasks(where: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raises ConfigError for names that RoboMME does not have."""
    if unknown := sorted(set(names) - set(known)):
        want = f"names among RoboMME's {len(known)} tasks"
        raise ConfigError(where, got=", ".join(unknown), want=want, hint=f"It has {', '.join(known)}")
