"""RoboCasa's gymnasium environments as one, in the names that GR00T N1.6 uses.

Two suites: `n1d6`, the 24 tasks of GR00T's own table (ids `robocasa_panda_omron/<Task>_PandaOmron_Env`, which N1.6's
fork of RoboCasa registers in `robocasa.utils.gym_utils`), and `robocasa365` (ids `robocasa/<Task>`, splits pretrain and
target). Both draw upright pictures and take actions by name; they differ in key names, which `ALIASES` levels. RoboCasa
never ends an episode itself: the caller's horizon does.

The fork's `reset(seed)` seeds numpy's global generator, but scenes are drawn from one that the simulator made for
itself in its constructor (read in public copies of `gymnasium_basic.py` and of robosuite): here it is set as well.
"""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from svms_gr00t.core.errors import ConfigError, SvmsError
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.sim.spaces import METADATA, gymnasium, observation_space, read_options, vector_space

Suite = Literal["n1d6", "robocasa365"]
ALIASES = {
    "video.robot0_agentview_left": "video.res256_image_side_0",
    "video.robot0_agentview_right": "video.res256_image_side_1",
    "video.robot0_eye_in_hand": "video.res256_image_wrist_0",
    "annotation.human.task_description": INSTRUCTION,
}
"""RoboCasa365 key -> the same thing as N1.6 names it."""
VIEWS = tuple(key for key in ALIASES.values() if key.startswith("video."))
ACTION = {
    "end_effector_position": 3,
    "end_effector_rotation": 3,
    "gripper_close": 1,
    "base_motion": 4,
    "control_mode": 1,
}
"""Names and widths in the order of the 12-vector (HDF5 order; LeRobot files keep another)."""
STATE = {
    "end_effector_position_relative": 3,
    "end_effector_rotation_relative": 4,
    "gripper_qpos": 2,
    "base_position": 3,
    "base_rotation": 4,
}
SPLITS = {"n1d6": ("train",), "robocasa365": ("pretrain", "target")}


@runtime_checkable
class GymEnvironment(Protocol):
    """The part of gymnasium's interface that is used."""

    def reset(self, *, seed: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]: ...

    def step(self, action: dict[str, ndarray]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]: ...

    def close(self) -> None: ...


class RobocasaEnv(gymnasium.Env[dict[str, Any], ndarray]):
    """One RoboCasa task at a time; the simulator of the last task is kept until another is asked for.

    "task" and "split" are options of a reset; a task that was named stays until another is.
    """

    metadata = METADATA

    def __init__(
        self,
        suite: Suite = "robocasa365",
        make: Callable[..., GymEnvironment] | None = None,
        *,
        task: str = "OpenDrawer",
        render_mode: str | None = None,
    ) -> None:
        """`make(id, **options)` builds an environment; gymnasium's by default. Raises ConfigError."""
        if suite not in SPLITS:
            raise ConfigError("suite", got=suite, want=f"one of {', '.join(SPLITS)}", hint="Use robocasa365")
        self.suite, self.render_mode = suite, render_mode
        self.observation_space = _space((256, 256))
        self.action_space = vector_space(12)
        self._make = make or _gymnasium_make(suite)
        self._task = task
        self._built: tuple[str, str] | None = None
        self._env: GymEnvironment | None = None
        self._seen: dict[str, Any] = {}
        self._success = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new episode. Raises ConfigError for another split, what cannot be built, and missing observations."""
        super().reset(seed=seed)
        chosen = read_options(options, task=self._task, split=SPLITS[self.suite][-1])
        if chosen["split"] not in SPLITS[self.suite]:
            want = f"one of {', '.join(SPLITS[self.suite])}"
            raise ConfigError(
                "split", got=chosen["split"], want=want, hint="RoboCasa's own default, test, does not exist"
            )
        self._task, split = chosen["task"], chosen["split"]
        if self._env is None or self._built != (self._task, split):
            self.close()
            self._env, self._built = self._build(self._task, split), (self._task, split)
        scene = int(self.np_random.integers(2**31)) if seed is None else seed
        if not seed_generators(self._env, scene) and self.suite == "n1d6":
            hint = "Install the fork of RoboCasa that GR00T N1.6 names"
            raise ConfigError("RoboCasa", got="no generator rng", want="one, to fix the scene by a seed", hint=hint)
        observation, _ = self._env.reset(seed=scene)
        self._seen, self._success = renamed(observation), False
        self.observation_space = _space(self._seen[VIEWS[0]].shape[:2])  # what this simulator draws
        return self._seen, {"success": False, "task": self._task}

    def step(self, action: Shaped[ndarray, "12"]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Execute one action (12,) in HDF5 order; success once the simulator has said so."""
        assert self._env is not None, "reset before the first step"
        observation, _reward, terminated, truncated, info = self._env.step(named(action))
        self._seen = renamed(observation)
        self._success = self._success or bool(np.any(info.get("success", False)))
        ended = self._success or bool(terminated)
        return self._seen, float(self._success), ended, bool(truncated), {"success": self._success}

    def render(self) -> ndarray | None:  # type: ignore[override]
        """The three pictures side by side, or nothing without `render_mode`."""
        wanted = self.render_mode == "rgb_array" and self._seen
        return np.concatenate([self._seen[view] for view in VIEWS], axis=1) if wanted else None

    def close(self) -> None:
        """Free the simulator."""
        if self._env is not None:
            self._env.close()
        self._env = self._built = None

    def _build(self, task: str, split: str) -> GymEnvironment:
        n1d6 = self.suite == "n1d6"
        name = f"robocasa_panda_omron/{task}_PandaOmron_Env" if n1d6 else f"robocasa/{task}"
        try:
            return self._make(name, **({} if n1d6 else {"split": split}))
        except SvmsError:
            raise
        except Exception as error:  # names that are not registered, assets that are missing, no OpenGL
            got = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no word'}"
            want, hint = "an environment that can be built", "Check the task's name, and download RoboCasa's assets"
            raise ConfigError(name, got=got, want=want, hint=hint) from error


def seed_generators(env: Any, seed: int) -> int:
    """Set the generators that `env` and those inside it made for themselves, where they are; returns how many."""
    env, found = getattr(env, "unwrapped", env), 0
    while env is not None:
        own = vars(env).get("rng")
        if isinstance(own, np.random.Generator):  # in place: samplers of objects hold the same one
            own.bit_generator.state = type(own.bit_generator)(seed).state
            found += 1
        env = vars(env).get("env")
    return found


def named(action: Shaped[ndarray, "12"]) -> dict[str, ndarray]:
    """The 12-vector as RoboCasa's action dict: `action.<name>` -> values."""
    ends = np.cumsum(list(ACTION.values()))[:-1]
    parts = np.split(np.asarray(action, dtype=np.float64), ends)
    return {f"action.{name}": part for name, part in zip(ACTION, parts, strict=True)}


def renamed(observation: dict[str, Any]) -> dict[str, Any]:
    """The observation under N1.6's names. Raises ConfigError naming what is missing or misshapen."""
    flat = {ALIASES.get(key, key): value for key, value in observation.items()}
    wanted = [*(f"state.{key}" for key in STATE), *dict.fromkeys(ALIASES.values())]
    if missing := [key for key in wanted if key not in flat]:
        hint = "Build the PandaOmron environment of RoboCasa's gym wrapper"
        raise ConfigError("RoboCasa observation", got=sorted(observation), want=f"{', '.join(missing)} too", hint=hint)
    for key, width in STATE.items():
        value = np.asarray(flat[f"state.{key}"], dtype=np.float32).reshape(-1)
        if value.shape != (width,):
            raise ConfigError(f"state.{key}", got=value.shape, want=f"{width} numbers", hint="Is it a PandaOmron?")
        flat[f"state.{key}"] = value
    words = flat[INSTRUCTION]
    flat[INSTRUCTION] = str(words if isinstance(words, str) else np.asarray(words).reshape(-1)[0])
    return {key: flat[key] for key in wanted}


def _space(size: tuple[int, int]) -> Any:
    return observation_space({f"state.{key}": width for key, width in STATE.items()}, VIEWS, size)


def _gymnasium_make(suite: Suite) -> Callable[..., GymEnvironment]:
    """Importing registers: RoboCasa365 in the package itself, N1.6's fork in a module further down."""
    modules = ["robocasa"] if suite == "robocasa365" else ["robocasa", "robocasa.utils.gym_utils"]
    try:
        for module in modules:
            importlib.import_module(module)
        if suite == "n1d6" and find_spec("robocasa.utils.gym_utils.gymnasium_groot"):
            importlib.import_module("robocasa.utils.gym_utils.gymnasium_groot")
    except ImportError as error:
        got = f"no module {error.name}"
        want = "RoboCasa" if suite == "robocasa365" else "the fork of RoboCasa that GR00T N1.6 names"
        hint = "Install it from its own repository into this environment, and download its kitchen assets"
        raise ConfigError("RoboCasa", got=got, want=want, hint=hint) from error
    return gymnasium.make  # type: ignore[return-value]  # rewards are floats, which its types leave open
