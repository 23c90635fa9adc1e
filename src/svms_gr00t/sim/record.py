"""Scripted demonstrations as a LeRobot dataset in RoboCasa's layout.

T steps; `observation.state` is 16-D (base position 3 and rotation 4, hand position 3 and rotation 4, gripper 2) and
`action` 12-D with base and mode first, the order of RoboCasa's LeRobot files (the environment's own order differs).
Episode i depends on (seed, i) alone, whatever the number of workers; tries that fail are counted and made again.
"""

import multiprocessing
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

from svms_gr00t.core.errors import ConfigError, DataError, SvmsError
from svms_gr00t.core.progress import Progress, Silent, Task
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.data.lerobot.modality import LowDim, Modality, Source
from svms_gr00t.data.lerobot.writer import LeRobotWriter
from svms_gr00t.sim.camera import VIEWS
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.experts.expert import NOISE, Expert
from svms_gr00t.sim.tasks.suites import SuiteName, suite_named, task_named

FPS = 20
STATE = {
    "base_position": 3,
    "base_rotation": 4,
    "end_effector_position_relative": 3,
    "end_effector_rotation_relative": 4,
    "gripper_qpos": 2,
}
"""State key -> width, in file order."""
ACTION = {
    "base_motion": 4,
    "control_mode": 1,
    "end_effector_position": 3,
    "end_effector_rotation": 3,
    "gripper_close": 1,
}
"""Action key -> width, in file order."""
_TO_FILE = np.array([7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6])  # environment's element for each element of the file
_TRIES = 10


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What `record` made."""

    root: Path
    """The dataset."""
    episodes: int
    """Demonstrations written, all successful."""
    failed: int
    """Tries of the expert that failed and were left out."""


def to_file_order(actions: ndarray) -> ndarray:
    """(..., 12) from the environment's order to that of the files."""
    return actions[..., _TO_FILE]


def to_env_order(actions: ndarray) -> ndarray:
    """(..., 12) from the files' order to the environment's."""
    return actions[..., np.argsort(_TO_FILE)]


def record_episode(
    env: KitchenEnv, task: str, seed: int, *, render: bool = True, blind: bool = False
) -> dict[str, Any]:
    """Let the expert try once, or with `blind` one without a memory.

    Keys: `observation.state` (T, 16) and `action` (T, 12) float32, the views (T, H, W, 3) uint8 when rendered, and
    `instruction`, `task`, `seed`, `target`, `success`.
    """
    env.drawing = render
    seen, _ = env.reset(seed=seed, options={"task": task})
    expert = Expert(env, seed, blind=blind)
    states: list[Float32[ndarray, 16]] = []
    actions: list[Float32[ndarray, 12]] = []
    frames: dict[str, list[UInt8[ndarray, "_S _S 3"]]] = {view: [] for view in VIEWS if render}
    while not env.over and env.steps < task_named(task).horizon:
        states.append(np.concatenate([seen[f"state.{key}"] for key in STATE]))
        for view, pictures in frames.items():
            pictures.append(seen[view])
        # Executed as stored, in float32, so that a replay of the file is exact.
        actions.append(expert.act().astype(np.float32))
        seen, *_ = env.step(actions[-1])
    env.drawing = True
    return {
        "observation.state": np.stack(states),
        "action": to_file_order(np.stack(actions)),
        **{view: np.stack(pictures) for view, pictures in frames.items()},
        "instruction": env.instruction,
        "task": task,
        "seed": seed,
        "target": env.target,
        "success": env.success,
    }


def kitchen_modality() -> Modality:
    """`meta/modality.json` of the recorded datasets, with the keys of GR00T N1.6's RoboCasa configuration."""
    return Modality(
        state=_slices(STATE, relative=()),
        action=_slices(ACTION, relative=("end_effector_position", "end_effector_rotation")),
        video={view.removeprefix("video."): Source(original_key=_column(view)) for view in VIEWS},
        annotation={INSTRUCTION.removeprefix("annotation."): Source()},
    )


def record(
    out: Path | str,
    *,
    episodes: int,
    seed: int,
    tasks: Sequence[str] | None = None,
    suite: SuiteName = "single",
    reveal: bool = False,
    image_size: int = 128,
    workers: int = 1,
    progress: Progress | None = None,
) -> Recorded:
    """Write `episodes` demonstrations, the tasks (or those of a suite) in turn, and return what was made.

    With `reveal` the counter's colour says what must be remembered: the oracle of the memory suite.

    Finished episodes survive an interruption, and the same call goes on after them; it may ask for more or fewer.
    Raises ConfigError for bad options, DataError when `out` is in use, MissingExtra without robosuite and SvmsError
    when the expert keeps failing or nothing can be drawn.
    """
    names = [task_named(name).name for name in (suite_named(suite) if tasks is None else tasks)]
    for what, value in (("episodes", episodes), ("workers", workers), ("number of tasks", len(names))):
        if value < 1:
            raise ConfigError(f"record.{what}", got=value, want="1 or more", hint="Ask for at least one")
    key: dict[str, Any] = {
        "recorder": "svms_gr00t.sim",
        "seed": seed,
        "tasks": names,
        "image_size": image_size,
        "noise": NOISE,
    }
    provenance: dict[str, Any] = {"source": "svms_gr00t.sim", "seed": seed, "tasks": names, "action_noise": NOISE}
    if reveal:
        key, provenance = key | {"reveal": True}, provenance | {"reveal": True}
    jobs = [(names[index % len(names)], seed, index) for index in range(episodes)]
    writer = LeRobotWriter(
        out,
        fps=FPS,
        robot_type="PandaOmron",
        modality=kitchen_modality(),
        lowdim={"observation.state": _names(STATE), "action": _names(ACTION)},
        videos=dict.fromkeys(map(_column, VIEWS), (image_size, image_size)),
        provenance=provenance,
        resume=key,
    )
    with writer, (progress or Silent()).task("recording demonstrations", episodes) as bar:
        done = writer.done
        if done > episodes:
            hint = f"Record {done} or more, or delete the unfinished dataset beside it"
            raise DataError(out, got=f"{done} episodes recorded already", want=f"{episodes} at most", hint=hint)
        bar.advance(done)
        failed = sum(writer.extras(index, "episode")["tries"] - 1 for index in range(done))
        with closing(_demonstrations(jobs[done:], image_size, reveal, workers)) as demonstrations:
            failed += _write(writer, demonstrations, bar)
    return Recorded(root=Path(out), episodes=episodes, failed=failed)


def _write(writer: LeRobotWriter, demonstrations: Iterable[tuple[dict[str, Any], int]], bar: Task) -> int:
    """Add what comes; the number of failed tries."""
    failed = 0
    for demo, tries in demonstrations:
        failed += tries - 1
        writer.add_episode(
            {name: demo[name] for name in ("observation.state", "action")},
            {_column(view): demo[view] for view in VIEWS},
            demo["instruction"],
            {"episode": {key: demo[key] for key in ("task", "seed", "target")} | {"tries": tries}},
        )
        bar.advance()
    return failed


def _demonstrations(
    jobs: list[tuple[str, int, int]], image_size: int, reveal: bool, workers: int
) -> Generator[tuple[dict[str, Any], int]]:
    """Successful demonstrations in the order of `jobs`, each with the number of tries it took."""
    if workers == 1:
        env = KitchenEnv(image_size, reveal=reveal)
        try:
            yield from map(partial(_demonstrate, env), jobs)
        finally:
            env.close()
        return
    # Spawned, because a drawing context does not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_open_worker, initargs=(image_size, reveal)
    ) as pool:
        ahead = 4 * workers  # finished demonstrations wait in memory: keep few
        for start in range(0, len(jobs), ahead):
            yield from pool.map(_demonstrate_in_worker, jobs[start : start + ahead])


def _demonstrate(env: KitchenEnv, job: tuple[str, int, int]) -> tuple[dict[str, Any], int]:
    task, seed, index = job
    for attempt in range(_TRIES):
        episode_seed = int(np.random.SeedSequence([seed, index, attempt]).generate_state(1)[0])
        demo = record_episode(env, task, episode_seed)
        if demo["success"]:
            return demo, attempt + 1
    raise SvmsError(
        f"episode {index} of {task}: found {_TRIES} failed tries of the expert, but need a success. "
        "Record with another seed or without this task"
    )


_WORKER: list[KitchenEnv] = []


def _open_worker(image_size: int, reveal: bool) -> None:
    _WORKER.append(KitchenEnv(image_size, reveal=reveal))


def _demonstrate_in_worker(job: tuple[str, int, int]) -> tuple[dict[str, Any], int]:
    return _demonstrate(_WORKER[0], job)


def _column(view: str) -> str:
    return "observation.images." + view.removeprefix("video.")


def _slices(widths: dict[str, int], relative: tuple[str, ...]) -> dict[str, LowDim]:
    rotations = {3: "axis_angle", 4: "quaternion"}
    entries, start = {}, 0
    for key, width in widths.items():
        kind = rotations.get(width) if "rotation" in key else None
        entries[key] = LowDim(start=start, end=start + width, rotation_type=kind, absolute=key not in relative)
        start += width
    return entries


def _names(widths: dict[str, int]) -> list[str]:
    return [f"{key}_{element}" for key, width in widths.items() for element in range(width)]
