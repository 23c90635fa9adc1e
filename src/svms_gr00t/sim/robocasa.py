"""RoboCasa's gymnasium environments as an `Environment`, in the names that GR00T N1.6 uses.

Two suites: `n1d6`, the 24 tasks of GR00T's own table (ids `robocasa_panda_omron/<Task>_PandaOmron_Env`), and
`robocasa365` (ids `robocasa/<Task>`, splits pretrain and target). Both draw upright pictures and take actions by name;
they differ in key names, which `ALIASES` levels. RoboCasa never ends an episode itself: the caller's horizon does.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from svms_gr00t.core.errors import ConfigError

Suite = Literal["n1d6", "robocasa365"]
INSTRUCTION = "annotation.human.action.task_description"
ALIASES = {
    "video.robot0_agentview_left": "video.res256_image_side_0",
    "video.robot0_agentview_right": "video.res256_image_side_1",
    "video.robot0_eye_in_hand": "video.res256_image_wrist_0",
    "annotation.human.task_description": INSTRUCTION,
}
"""RoboCasa365 key -> the same thing as N1.6 names it."""
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


class RobocasaEnv:
    """One RoboCasa task at a time; the simulator of the last task is kept until another is asked for."""

    def __init__(self, suite: Suite = "robocasa365", make: Callable[..., GymEnvironment] | None = None) -> None:
        """`make(id, **options)` builds an environment; gymnasium's by default. Raises ConfigError."""
        if suite not in SPLITS:
            raise ConfigError("suite", got=suite, want=f"one of {', '.join(SPLITS)}", hint="Use robocasa365")
        self.suite = suite
        self._make = make or _gymnasium_make()
        self._built: tuple[str, str] | None = None
        self._env: GymEnvironment | None = None
        self._seen: dict[str, Any] = {}
        self.success = False

    def reset(self, task: str, seed: int, split: str = "target") -> str:
        """A new episode; returns its instruction. Raises ConfigError for another split and for missing observations."""
        if split not in SPLITS[self.suite]:
            want = f"one of {', '.join(SPLITS[self.suite])}"
            raise ConfigError("split", got=split, want=want, hint="RoboCasa's own default, test, does not exist")
        if self._env is None or self._built != (task, split):
            self.close()
            self._env, self._built = self._build(task, split), (task, split)
        observation, _ = self._env.reset(seed=seed)
        self._seen, self.success = renamed(observation), False
        return str(self._seen[INSTRUCTION])

    def observe(self, render: bool = True) -> dict[str, Any]:
        """The flat observation after the last step; RoboCasa draws at every step, so `render` only leaves keys out."""
        return {key: value for key, value in self._seen.items() if render or not key.startswith("video.")}

    def step(self, action: Shaped[ndarray, "12"]) -> bool:
        """Execute one action (12,) in HDF5 order; True when the simulator says success or ends the episode."""
        assert self._env is not None, "reset before the first step"
        observation, _reward, terminated, truncated, info = self._env.step(named(action))
        self._seen = renamed(observation)
        self.success = self.success or bool(np.any(info.get("success", False)))
        return self.success or bool(terminated) or bool(truncated)

    def close(self) -> None:
        """Free the simulator."""
        if self._env is not None:
            self._env.close()
        self._env = self._built = None

    def _build(self, task: str, split: str) -> GymEnvironment:
        if self.suite == "n1d6":
            return self._make(f"robocasa_panda_omron/{task}_PandaOmron_Env")
        return self._make(f"robocasa/{task}", split=split)


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


def _gymnasium_make() -> Callable[..., GymEnvironment]:
    try:
        import gymnasium
        import robocasa  # noqa: F401 - importing it registers its environments
    except ImportError as error:
        got = f"no module {error.name}"
        hint = "Install it from its own repository into this environment, and download its kitchen assets"
        raise ConfigError("RoboCasa", got=got, want="gymnasium and robocasa", hint=hint) from error
    return gymnasium.make  # type: ignore[return-value]  # rewards are floats, which its types leave open
