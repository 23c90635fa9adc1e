"""The half of the RoboMME adapter that runs in RoboMME's own Python, and the words that both halves speak.

RoboMME wants versions (numpy 1.26.4, gymnasium 0.29.1) that this package's environment need not have, so it is driven
over two pipes: this file is started by its path, imports nothing of ours, and ends when its input does.

A message is eight bytes of length and a numpy archive (no pickle): its arrays, and "facts" as JSON text.

Axes: n frames (those of the demonstration and the first of the robot's own after a reset, one after a step).
Source of names and meanings: RoboMME/robomme_benchmark, doc/env_format.md.
"""

import io
import json
import logging
import os
import struct
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any, BinaryIO

import numpy as np

Message = tuple[dict[str, Any], dict[str, np.ndarray]]
SEEN = ("front_rgb", "wrist_rgb", "joint_state", "gripper_state", "eef_state")
"""What comes of every frame; RoboMME's own names without "_list"."""
SPLITS = ("train", "val", "test")
PACKAGES = ("numpy", "gymnasium", "mani-skill", "sapien", "torch")
WRIST = {"hand_camera": {"width": 256, "height": 256}}
"""As RoboMME's data have it. Its own fork of ManiSkill draws so; the released one draws 128 pixels."""
STICK = ("PatternLock", "RouteStick")
"""Tasks of a robot whose wrist camera only the fork has."""
log = logging.getLogger(__name__)


def send(pipe: BinaryIO, facts: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> None:
    """Write one message."""
    archive = io.BytesIO()
    text = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    np.savez(archive, **{"facts": text, **(arrays or {})})  # type: ignore[arg-type]
    pipe.write(struct.pack(">Q", archive.tell()) + archive.getvalue())
    pipe.flush()


def receive(pipe: BinaryIO) -> Message:
    """Read one message. Raises EOFError when the other half is gone."""
    (length,) = struct.unpack(">Q", _exactly(pipe, 8))
    with np.load(io.BytesIO(_exactly(pipe, length)), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays.pop("facts").tobytes()), arrays


def _exactly(pipe: BinaryIO, count: int) -> bytes:
    found = pipe.read(count)
    if len(found) < count:
        raise EOFError("the pipe was closed")
    return found


class Simulator:
    """One episode at a time."""

    def __init__(self) -> None:
        self._env: Any = None

    def hello(self) -> Message:
        """How many episodes each task has in each split, and the versions."""
        from robomme.env_record_wrapper import BenchmarkEnvBuilder as Builder

        names = Builder.get_task_list()
        episodes = {split: {name: Builder(name, dataset=split).get_episode_num() for name in names} for split in SPLITS}
        return {"episodes": episodes, "versions": {name: _version(name) for name in PACKAGES}}, {}

    def reset(self, task: str, split: str, episode: int, steps: int) -> Message:
        """Begin an episode: every frame that RoboMME hands over, the last of which is the first to be acted on."""
        import gymnasium
        import robomme.robomme_env  # noqa: F401 - names the tasks
        from robomme.env_record_wrapper import BenchmarkEnvBuilder

        self.close()
        if task not in STICK:
            gymnasium.spec(task).kwargs["sensor_configs"] = WRIST
        builder = BenchmarkEnvBuilder(task, dataset=split, action_space="joint_angle", max_steps=steps)
        self._env = builder.make_env_for_episode(episode)
        seen, info = self._env.reset()
        goal = info["task_goal"]
        return {"goal": goal if isinstance(goal, str) else str(goal[0])}, _frames(seen)

    def step(self, action: np.ndarray) -> Message:
        """One action (8,). RoboMME reports what it cannot execute in words, without frames."""
        seen, _reward, terminated, truncated, info = self._env.step(action)
        status = str(info.get("status", "ongoing"))
        if status == "error":
            raise RuntimeError(str(info.get("error_message", "no word")))
        ended = {"terminated": bool(terminated), "truncated": bool(truncated)}
        return {"status": status, **ended}, {name: rows[-1:] for name, rows in _frames(seen).items()}

    def close(self) -> None:
        """Free the simulator."""
        if self._env is not None:
            self._env.close()
        self._env = None


def _frames(seen: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.stack([np.asarray(one) for one in seen[f"{name}_list"]]) for name in SEEN}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def serve(inward: BinaryIO, outward: BinaryIO, simulator: Simulator) -> None:
    """Answer until the other half is gone; what fails is said and ends nothing."""
    while True:
        try:
            asked, arrays = receive(inward)
        except EOFError:
            return simulator.close()
        try:
            said, found = getattr(simulator, asked.pop("do"))(**asked, **arrays)
        except Exception as error:
            log.exception("RoboMME failed")
            said, found = {"error": f"{type(error).__name__}: {error}"}, {}
        send(outward, said, found)


def main() -> None:
    """Keep the pipes for messages: whatever RoboMME prints goes to the log."""
    inward, outward = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = sys.stderr
    serve(inward, outward, Simulator())


if __name__ == "__main__":
    main()
