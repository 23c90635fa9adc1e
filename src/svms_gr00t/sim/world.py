"""PandaOmron at the counter: robosuite's models and controllers, stepped without its episode bookkeeping.

Control runs at 20 Hz over 10 physics steps of 5 ms (a step that does not divide 50 ms changes the rate silently). The
12 numbers of an action: eef position 3 and axis-angle 3 (in [-1, 1], at most 5 cm and 0.5 rad a step, base frame),
gripper, base 3, torso, mode. The base stands still here, whatever the last five say.
"""

import logging
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from svms_gr00t.core.errors import MissingExtra
from svms_gr00t.sim.camera import CameraPoses, add_cameras, choose_gl
from svms_gr00t.sim.scene import kitchen_xml

SUBSTEPS = 10
TIMESTEP = 0.005
ACTION_PARTS = {"right": (0, 6), "right_gripper": (6, 7), "base": (7, 10), "torso": (10, 11)}
ARM_REST = np.array([0.0, -0.45, 0.0, -2.55, 0.0, 2.1, np.pi / 4])
"""Arm joints at the start of an episode, before noise: the open hand high over the near edge, pointing down."""
REST = np.array([0.0] * 6 + [-1.0] + [0.0] * 4 + [-1.0])
"""The action of an open hand that stays where it is."""


def build_world(poses: CameraPoses = "close") -> Any:
    """The robosuite environment, with the third-person cameras at `poses`. Raises MissingExtra without robosuite."""
    choose_gl()
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # robosuite warns about optional parts at import
    try:
        import robosuite.macros as macros
        from robosuite.controllers import load_composite_controller_config
    except ImportError as error:
        raise MissingExtra("the embedded kitchen, on Python 3.11 or 3.12,", package="robosuite", extra="sim") from error
    finally:
        logging.disable(level)
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    macros.SIMULATION_TIMESTEP = TIMESTEP
    config = load_composite_controller_config(robot="PandaOmron")
    config["composite_controller_specific_configs"] = {"body_part_ordering": list(ACTION_PARTS)}
    world = _environment_class(poses)(
        robots="PandaOmron",
        controller_configs=config,
        initialization_noise=None,
        use_camera_obs=False,
        has_renderer=False,
        render_camera="agentview_left",
        has_offscreen_renderer=False,
        control_freq=20,
        lite_physics=True,
        ignore_done=True,
        hard_reset=False,
    )
    parts = dict(world.robots[0].composite_controller._action_split_indexes)
    assert parts == ACTION_PARTS, f"robosuite orders the action otherwise: {parts}"
    return world


def _environment_class(poses: CameraPoses) -> type:
    from robosuite.environments.manipulation.manipulation_env import ManipulationEnv
    from robosuite.models.arenas import EmptyArena
    from robosuite.models.tasks import ManipulationTask

    class CounterKitchen(ManipulationEnv):
        """One robot and our bodies; episodes, observations and rewards live in `KitchenEnv`."""

        def _load_model(self) -> None:
            super()._load_model()
            self.robots[0].robot_model.set_base_xpos([0.0, 0.0, 0.0])
            arena = EmptyArena()
            arena.set_origin([0, 0, 0])
            for geom in arena.worldbody.findall("geom"):
                if "wall" in geom.get("name", ""):
                    arena.worldbody.remove(geom)
            for camera in arena.worldbody.findall("camera"):
                arena.worldbody.remove(camera)
            for child in ElementTree.fromstring(kitchen_xml()).findall("worldbody/*"):
                arena.worldbody.append(child)
            add_cameras(arena.worldbody, poses)
            self.model = ManipulationTask(mujoco_arena=arena, mujoco_robots=[r.robot_model for r in self.robots])

        def reward(self, action: ndarray | None = None) -> float:
            return 0.0

        def _check_success(self) -> bool:
            return False

    return CounterKitchen


def reset_controllers(world: Any) -> None:
    """Make every controller hold the present joint positions, with no memory of earlier episodes."""
    robot = world.robots[0]
    for gripper in robot.gripper.values():
        gripper.current_action = np.zeros(gripper.dof)
    controllers = robot.composite_controller
    controllers.update_state()
    for name, part in controllers.part_controllers.items():
        part.update(force=True)
        if name == "right":
            part.update_initial_joints(np.array(part.joint_pos))
    controllers.reset()


def step_world(world: Any, action: Float64[ndarray, "12"]) -> None:
    """Run one control step of 50 ms."""
    command = np.clip(action, -1.0, 1.0)
    command[7:11] = 0.0
    command[11] = -1.0
    for substep in range(SUBSTEPS):
        world.sim.step1()
        world.robots[0].control(command, policy_step=substep == 0)
        world.sim.step2()
