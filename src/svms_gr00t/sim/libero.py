"""The kitchens of LIBERO-90 as a gymnasium environment, in the names that GR00T N1.6 uses for `libero_panda`.

Facts, with where they are read. Lifelong-Robot-Learning/LIBERO: the suite `libero_90` and its fixed initial states
(benchmark/__init__.py), two cameras, 20 Hz, robosuite's limit of 1,000 steps (envs/env_wrapper.py), `done` means that
the goal holds now (envs/bddl_base_domain.py). Isaac-GR00T, gr00t/eval/sim/LIBERO/libero_env.py, read in a public copy,
not at N1.6's own commit: 256 pixels, both pictures turned by 180 degrees (robosuite draws bottom row first, so they
come out upright and mirrored); "roll, pitch, yaw" are no Euler angles but axis times angle of the hand's quaternion.

Protocol. Episode i begins at initial state i, then `SETTLE` steps of no motion with an open gripper let objects drop:
N1.5's evaluation takes 10 as well, LIBERO's own takes 5 of zeros, N1.6's wrapper takes none and draws new scenes.
Found by running it: an initial state does not hold where fixtures stand. numpy's global generator draws that at every
reset, and LIBERO keeps adding samplers to the simulator that use it up: a cabinet stands elsewhere after each reset,
even with equal seeds. So every episode gets a simulator of its own, seeded before its reset.
"""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from numpy import ndarray

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.sim.camera import choose_gl
from svms_gr00t.sim.spaces import METADATA, gymnasium, observation_space, read_options, vector_space

SUITE = "libero_90"
KITCHEN = "KITCHEN_SCENE"
"""How the names of kitchen tasks begin; the suite also has living rooms and studies."""
CAMERAS = {"agentview_image": "video.image", "robot0_eye_in_hand_image": "video.wrist_image"}
POSITION = "state.end_effector_position"
"""x, y and z in one key, for whoever watches the hand; the policy has them apart."""
STATES = dict.fromkeys((f"state.{key}" for key in ("x", "y", "z", "roll", "pitch", "yaw")), 1)
STATES |= {"state.gripper": 2, POSITION: 3}
"""State key -> width."""
NO_MOTION = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SETTLE = 10
LIMIT = 1000
"""Steps, settling included, after which robosuite refuses to go on."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """What is used of the installed `libero`."""

    suite: Any
    """LIBERO-90: `tasks`, `get_task_bddl_file_path(i)`, `get_task_init_states(i)`."""
    make: Any
    """`OffScreenRenderEnv`."""

    @property
    def kitchens(self) -> dict[str, int]:
        """Name of each kitchen task -> its number in the suite."""
        names = (task.name for task in self.suite.tasks)
        return {name: number for number, name in enumerate(names) if name.startswith(KITCHEN)}


class LiberoEnv(gymnasium.Env[dict[str, Any], ndarray]):
    """One kitchen task at a time, each episode in a new simulator; "task" and "split" are options of a reset.

    A task that no reset has named is the suite's first kitchen; one that was named stays until another is.
    """

    metadata = METADATA

    def __init__(
        self, *, starts: Mapping[int, int] | None = None, image_size: int = 256, render_mode: str | None = None
    ) -> None:
        """`starts` says at which initial state the episode of a seed begins; others take seed modulo their number.

        Raises ConfigError without LIBERO.
        """
        self._package, self._starts, self._size = load_libero(), dict(starts or {}), image_size
        self.render_mode = render_mode
        self.observation_space = observation_space(STATES, CAMERAS.values(), (image_size, image_size))
        self.action_space = vector_space(7)
        self._env: Any = None
        self._task, self._seen = self.tasks[0], dict[str, Any]()
        self._steps, self._success = 0, False

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the kitchen tasks, in the suite's order."""
        return tuple(self._package.kitchens)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new episode, objects at rest. Raises ConfigError for unknown tasks, splits and options."""
        super().reset(seed=seed)
        chosen = read_options(options, task=self._task, split=SUITE)
        if chosen["split"] != SUITE:
            hint = "LIBERO has no other kitchens here; leave it out"
            raise ConfigError("split", got=chosen["split"], want=SUITE, hint=hint)
        if chosen["task"] not in self._package.kitchens:
            hint, want = (
                f"For example {', '.join(self.tasks[:2])}",
                f"one of LIBERO-90's {len(self.tasks)} kitchen tasks",
            )
            raise ConfigError("task", got=chosen["task"], want=want, hint=hint)
        self._task = chosen["task"]
        scene = int(self.np_random.integers(2**31)) if seed is None else seed
        observation = self._settled(self._package.kitchens[self._task], scene)
        self._steps, self._success = SETTLE, False
        self._seen = self._flat(observation)
        _refuse_blank(self._seen)
        return self._seen, {"success": False, "task": self._task}

    def _settled(self, number: int, seed: int) -> Mapping[str, Any]:
        """What LIBERO sees of task `number` in a new simulator, when objects have come to rest."""
        self.close()
        self._env = self._build(number)
        with _numpy_arrays_only():
            states = self._package.suite.get_task_init_states(number)
        self._env.seed(seed)
        self._env.reset()
        observation = self._env.set_init_state(states[self._starts.get(seed, seed) % len(states)])
        for _ in range(SETTLE):
            observation, *_ = self._env.step(list(NO_MOTION))
        return observation

    def step(self, action: Shaped[ndarray, "7"]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Execute one action (7,): success once the goal has held, truncated where robosuite would refuse to go on."""
        assert self._env is not None, "reset before the first step"
        observation, _reward, done, _info = self._env.step(np.asarray(action, dtype=np.float64).tolist())
        self._seen = self._flat(observation)
        self._steps, self._success = self._steps + 1, self._success or bool(done)
        info = {"success": self._success}
        return self._seen, float(self._success), self._success, self._steps >= LIMIT, info

    def render(self) -> ndarray | None:  # type: ignore[override]
        """Both pictures side by side, or nothing without `render_mode`."""
        wanted = self.render_mode == "rgb_array" and self._seen
        return np.concatenate([self._seen[view] for view in CAMERAS.values()], axis=1) if wanted else None

    def close(self) -> None:
        """Free the simulator."""
        if self._env is not None:
            self._env.close()
        self._env = None

    def _flat(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        words = str(self._package.suite.tasks[self._package.kitchens[self._task]].language)
        return renamed(observation) | {INSTRUCTION: words}

    def _build(self, number: int) -> Any:
        file = self._package.suite.get_task_bddl_file_path(number)
        return self._package.make(bddl_file_name=file, camera_heights=self._size, camera_widths=self._size)


def renamed(observation: Mapping[str, Any]) -> dict[str, Any]:
    """The observation under N1.6's names, pictures turned by 180 degrees. Raises ConfigError naming what is missing."""
    wanted = [*CAMERAS, "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]
    if missing := [key for key in wanted if key not in observation]:
        hint = "Build OffScreenRenderEnv with its default cameras"
        raise ConfigError("LIBERO observation", got=sorted(observation), want=f"{', '.join(missing)} too", hint=hint)
    flat: dict[str, Any] = {new: turned(np.asarray(observation[old])) for old, new in CAMERAS.items()}
    position = np.asarray(observation["robot0_eef_pos"], dtype=np.float32)
    rotation = axis_angle(np.asarray(observation["robot0_eef_quat"], dtype=np.float64)).astype(np.float32)
    for key, value in zip(("x", "y", "z", "roll", "pitch", "yaw"), (*position, *rotation), strict=True):
        flat[f"state.{key}"] = np.array([value], dtype=np.float32)
    flat["state.gripper"] = np.asarray(observation["robot0_gripper_qpos"], dtype=np.float32)
    flat[POSITION] = position
    return flat


def turned(picture: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "h w 3"]:
    """Turned by 180 degrees, as its own array: torch takes no views that run backwards."""
    return np.ascontiguousarray(picture[::-1, ::-1])


def axis_angle(quaternion: Float[ndarray, "4"]) -> Float[ndarray, "3"]:
    """Axis times angle of a quaternion x, y, z, w: 2 arccos(w) in [0, 2 pi], as the training data have it.

    The usual choice of an angle below pi would turn the sign of a hand that points down whenever w crosses zero.
    """
    w = float(np.clip(quaternion[3], -1.0, 1.0))
    length = np.sqrt(1.0 - w * w)
    return np.zeros(3) if length < 1e-9 else quaternion[:3] / length * (2.0 * np.arccos(w))


def load_libero() -> Package:
    """The installed LIBERO. Raises ConfigError, saying what to install, when there is none that works."""
    choose_gl()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # robosuite warns about optional parts at import
    try:
        from libero.libero import benchmark
        from libero.libero.envs import OffScreenRenderEnv
    except ImportError as error:
        got = f"no module {error.name}" if isinstance(error, ModuleNotFoundError) else str(error)
        hint = "Install LIBERO with its assets and robosuite 1.4.0 into an environment of their own, then this package"
        raise ConfigError("LIBERO", got=got, want="libero on robosuite 1.4.0", hint=hint) from error
    except EOFError as error:
        hint = "Run `python -c 'import libero.libero'` once in a terminal and answer, or set LIBERO_CONFIG_PATH"
        raise ConfigError("LIBERO", got="no config.yaml", want="its paths", hint=hint) from error
    finally:
        logging.disable(before)
    return Package(suite=benchmark.get_benchmark_dict()[SUITE](), make=OffScreenRenderEnv)


def _numpy_arrays_only() -> AbstractContextManager[Any]:
    """LIBERO calls torch.load on pickled numpy arrays, which torch refuses since 2.6: let it read those and no more."""
    import torch

    kind = type(np.dtype(np.float64))
    rebuild = np.zeros(0).__reduce__()[0]
    known: list[Any] = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    return torch.serialization.safe_globals([*known, np.ndarray, np.dtype, kind])


def _refuse_blank(seen: Mapping[str, Any]) -> None:
    for key in CAMERAS.values():
        if seen[key].min() == seen[key].max():
            hint = "Set MUJOCO_GL=egl or osmesa, and drive one simulator in each process"
            raise ConfigError(f"LIBERO {key}", got="one colour everywhere", want="a picture", hint=hint)
