"""The embedded kitchen as a gymnasium environment, `svms_gr00t/Kitchen-v0`.

Observation keys and units follow RoboCasa as GR00T N1.6 names it: positions in metres and rotations as unit quaternions
(x, y, z, w) with x >= 0, all in the frame of the robot's base except the base itself. An episode depends on (task,
seed, split, actions) and on nothing before it: a reset writes every position, velocity and controller anew.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped
from numpy import ndarray

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.sim.camera import VIEWS, CameraPoses, Cameras
from svms_gr00t.sim.layout import TINTED, Layout, draw_layout
from svms_gr00t.sim.scene import COUNTER, FOODS, PRESSED
from svms_gr00t.sim.spaces import METADATA, gymnasium, observation_space, read_options, vector_space
from svms_gr00t.sim.tasks.suites import SuiteName, suite_named, task_named
from svms_gr00t.sim.tasks.task import HOLD, Progress, Task
from svms_gr00t.sim.world import ARM_REST, REST, build_world, reset_controllers, step_world

STATES = {
    "state.base_position": 3,
    "state.base_rotation": 4,
    "state.end_effector_position_relative": 3,
    "state.end_effector_rotation_relative": 4,
    "state.gripper_qpos": 2,
}
"""State key -> width."""
BASE_JOINTS = ("mobile_forward", "mobile_side", "mobile_yaw", "torso_height")
HINTS = (
    (0.50, 0.48, 0.46),
    (0.10, 0.20, 1.00),
    (1.00, 0.10, 0.10),
    (0.10, 0.80, 0.20),
    (0.95, 0.85, 0.10),
    (0.80, 0.15, 0.90),
    (0.10, 0.85, 0.90),
    (1.00, 0.55, 0.10),
)
"""Colours in which a counter reveals what must be remembered."""
_SETTLE = 4  # control steps in which foods come to rest before an episode starts


class KitchenEnv(gymnasium.Env[dict[str, Any], ndarray]):
    """One kitchen. Keep one per process: a process has one drawing context that is sure to work.

    A task is named here or in the `options` of a reset ("task", "split"); where neither does, the seed draws one. An
    episode ends by success alone: `gymnasium.make` adds a limit of steps.
    """

    metadata = METADATA

    def __init__(
        self,
        image_size: int = 128,
        camera_poses: CameraPoses = "close",
        fast_render: bool = True,
        render_mode: str | None = None,
        task: str | None = None,
        split: str = "train",
        suite: SuiteName = "single",
        reveal: bool = False,
    ) -> None:
        """Raises ConfigError for bad options and MissingExtra without robosuite. The first picture opens OpenGL."""
        if camera_poses not in ("close", "robocasa"):
            raise ConfigError("camera_poses", got=camera_poses, want='"close" or "robocasa"', hint='Use "close"')
        if not 16 <= image_size <= 1024:
            raise ConfigError("image_size", got=image_size, want="16 to 1024 pixels", hint="128 is enough here")
        self._tasks = list(suite_named(suite))
        self.reveal = reveal
        """Whether the counter's colour says what must be remembered: the oracle of the memory suite."""
        self._default = {"task": task and task_named(task).name, "split": split}
        self.image_size, self.render_mode = image_size, render_mode
        self.drawing = True
        """Whether observations hold pictures; who does not look at every step may switch them off between looks."""
        self.observation_space = observation_space(STATES, VIEWS, (image_size, image_size))
        self.action_space = vector_space(12)
        self._fast = fast_render
        self._world = build_world(camera_poses)
        self._model: Any = self._world.sim.model._model
        self._data: Any = self._world.sim.data._data
        self._cameras: Cameras | None = None
        self._prepare_geoms()
        self._start_qpos = self._data.qpos.copy()
        base = [self._model.joint(f"mobilebase0_joint_{name}") for name in BASE_JOINTS]
        self._base = [int(joint.qposadr[0]) for joint in base]
        self._base_speeds = [int(joint.dofadr[0]) for joint in base]
        self._hand_site = self._world.robots[0].eef_site_id["right"]
        self.task: Task | None = None
        self.target = ""
        self.instruction = ""
        self.layout: Layout | None = None
        self.progress: Progress | None = None
        self.coffee_on = False
        self.steps = 0
        self._held = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode. Raises ConfigError for an unknown task, split or option."""
        super().reset(seed=seed)
        chosen = read_options(options, **self._default)
        self.task = task_named(chosen["task"] or str(self.np_random.choice(self._tasks)))
        scene = int(self.np_random.integers(2**31)) if seed is None else seed
        name_code = list(self.task.name.encode())
        layout_rng, words_rng = (np.random.default_rng([scene, part, *name_code]) for part in (0, 1))
        layout = draw_layout(layout_rng)
        self.target = self.task.targets[int(layout_rng.integers(len(self.task.targets)))]
        self.instruction = self.task.instruction(self.target, words_rng, chosen["split"])
        layout = self.task.setup(layout, self.target, layout_rng)
        self.progress = self.task.progress(self.target) if self.task.progress else None
        self._restore(layout)
        self.steps, self._held = 0, 0
        told = {"success": False, "task": self.task.name, "target": self.target, "stage": self.stage}
        return self._observation(), told

    def step(self, action: Shaped[ndarray, "12"]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Act for 50 ms; success is a goal that has held for `HOLD` steps. Actions beyond +-1 are clipped.

        The episode also ends when its goal cannot be reached any more.
        """
        assert self.task is not None, "reset before the first step"
        assert self.layout is not None
        self._act(REST if self.held else np.array(action, dtype=np.float64))
        self.coffee_on &= self.layout.coffee_latches
        self.coffee_on |= self.joint("coffee") > PRESSED
        self.steps += 1
        if self.progress is not None:
            self.progress.see(self)
        self._held = self._held + 1 if self.task.success(self, self.target) else 0
        told = {"success": self.success, "stage": self.stage}
        return self._observation(), float(self.success), self.over, False, told

    @property
    def held(self) -> bool:
        """Whether the robot is held still now, so that no hand can keep what a light said."""
        return self.layout is not None and self.layout.wait is not None and self.steps < self.layout.wait.release

    @property
    def success(self) -> bool:
        """Whether the goal has held for the last `HOLD` steps."""
        return self._held >= HOLD

    @property
    def over(self) -> bool:
        """Whether the goal is reached, or cannot be any more."""
        return self.success or (self.progress is not None and self.progress.failed)

    @property
    def stage(self) -> str:
        """How far the task is, for whoever looks on; no observation holds it."""
        if self.held:
            return "held still"
        if self.progress is not None:
            return self.progress.stage
        return "done" if self.success else "under way"

    def _observation(self) -> dict[str, Any]:
        """The flat observation; without pictures unless `drawing`."""
        data, robot = self._data, self._world.robots[0]
        base = data.site("mobilebase0_center")
        base_axes, hand_axes = base.xmat.reshape(3, 3), data.site_xmat[self._hand_site].reshape(3, 3)
        fingers = [self._data.qpos[i] for i in robot._ref_gripper_joint_pos_indexes["right"]]
        values = (
            base.xpos,
            _quaternion(base_axes),
            base_axes.T @ (self.hand() - base.xpos),
            _quaternion(base_axes.T @ hand_axes),
            np.array(fingers),
        )
        flat: dict[str, Any] = {k: np.array(v, dtype=np.float32) for k, v in zip(STATES, values, strict=True)}
        flat[INSTRUCTION] = self.instruction
        return flat | self.draw() if self.drawing else flat

    def render(self) -> ndarray | None:  # type: ignore[override]
        """The three pictures side by side, or nothing without `render_mode`."""
        return np.concatenate(list(self.draw().values()), axis=1) if self.render_mode == "rgb_array" else None

    def draw(self) -> dict[str, ndarray]:
        """The three pictures (H, W, 3). Raises SvmsError without OpenGL."""
        self._show_states()
        if self._cameras is None:
            self._cameras = Cameras(self._model, size=self.image_size, fast=self._fast)
        return self._cameras.draw(self._data)

    def close(self) -> None:
        """Free the drawing context."""
        if self._cameras is not None:
            self._cameras.close()
            self._cameras = None

    def joint(self, name: str) -> float:
        """Position of a drawer (m), lever (rad) or button (m)."""
        return float(self._data.joint(name).qpos[0])

    def position(self, name: str) -> Float64[ndarray, "3"]:
        """World position of a body, metres."""
        return np.array(self._data.body(name).xpos)

    def hand(self) -> Float64[ndarray, "3"]:
        """World position between the fingertips, metres."""
        return np.array(self._data.site_xpos[self._hand_site])

    def hand_axes(self) -> Float64[ndarray, "3 3"]:
        """World rotation matrix of the hand."""
        return np.array(self._data.site_xmat[self._hand_site]).reshape(3, 3)

    def simulation_state(self) -> Float64[ndarray, " _N"]:
        """All positions and velocities, to compare episodes."""
        return np.concatenate([self._data.qpos, self._data.qvel])

    def _prepare_geoms(self) -> None:
        """Ours to group 2; the robot's collision shapes in one quiet grey."""
        for index in range(self._model.ngeom):
            geom = self._model.geom(index)
            body = self._model.body(geom.bodyid[0]).name
            if not body.startswith(("robot0", "gripper0", "mobilebase0")):
                geom.group = 2 if geom.name != "floor" else 4
            elif geom.group[0] == 0:
                geom.matid = -1
                geom.rgba = (0.25, 0.25, 0.28, 1.0) if body.startswith("gripper0") else (0.8, 0.8, 0.82, 1.0)

    def _restore(self, layout: Layout) -> None:
        import mujoco

        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = self._start_qpos
        for name, (x, y) in layout.fixtures.items():
            self._model.body(name).pos[:2] = (x, y)
        for name, value in layout.joints.items():
            self._data.joint(name).qpos[0] = value
        for name in FOODS:
            x, y, yaw = layout.foods[name]
            height = COUNTER + 0.03
            self._data.joint(name).qpos[:] = (x, y, height, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        for name, rgb in layout.colours.items():
            self._model.geom(name).rgba[:3] = rgb
        arm = self._world.robots[0]._ref_joint_pos_indexes
        self._data.qpos[arm] = ARM_REST + np.array(layout.arm_noise)
        self.coffee_on, self.layout = layout.coffee_on, layout
        mujoco.mj_forward(self._model, self._data)
        reset_controllers(self._world)
        for _ in range(_SETTLE):
            self._act(REST)

    def _act(self, action: ndarray) -> None:
        assert self.layout is not None
        step_world(self._world, action)
        if self.layout.base_bolted:
            import mujoco

            self._data.qpos[self._base] = self._start_qpos[self._base]
            self._data.qvel[self._base_speeds] = 0.0
            mujoco.mj_forward(self._model, self._data)

    def _show_states(self) -> None:
        """Burner, water and lamp follow what is on; the counter is dark or shines while the robot waits."""
        assert self.layout is not None
        base = self.layout.colours.get("counter", TINTED["counter"])
        if self.reveal and self.progress is not None:
            base = HINTS[self.progress.hidden % len(HINTS)]
        elif self.layout.wait is not None:
            base = self.layout.wait.colour(self.steps) or base
        self._model.geom("counter").rgba[:3] = base
        stove, faucet = self.joint("stove") > 0, self.joint("faucet") > 0
        self._model.geom("burner").rgba = (1.0, 0.25, 0.05, 1) if stove else (0.1, 0.1, 0.1, 1)
        self._model.geom("water").rgba = (0.1, 0.5, 1.0, 1.0 if faucet else 0.0)
        self._model.geom("lamp").rgba = (0.1, 0.95, 0.2, 1) if self.coffee_on else (0.3, 0.05, 0.05, 1)


def _quaternion(axes: ndarray) -> Float64[ndarray, "4"]:
    """(x, y, z, w) of a rotation matrix, with x >= 0 (and w >= 0 when x is 0)."""
    import mujoco

    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(axes).reshape(-1))
    quat = quat[[1, 2, 3, 0]]
    flip = quat[0] < -1e-6 or (abs(quat[0]) <= 1e-6 and quat[3] < 0)
    return -quat if flip else quat
