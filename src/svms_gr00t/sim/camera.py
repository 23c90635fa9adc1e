"""Pictures of the kitchen: two fixed cameras and the wrist, drawn off-screen by MuJoCo.

Close cameras show every fixture at 96 px; "robocasa" puts them where RoboCasa does. Fast drawing shows the robot's
collision shapes and leaves out shadows, reflections and antialiasing, about eight times faster on a CPU.
"""

import atexit
import importlib
import os
import sys
from ctypes.util import find_library
from typing import Any, Literal
from xml.etree.ElementTree import SubElement

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from svms_gr00t.core.errors import SvmsError

CameraPoses = Literal["close", "robocasa"]
VIEWS = ("video.res256_image_side_0", "video.res256_image_side_1", "video.res256_image_wrist_0")
_EYES: dict[str, dict[str, tuple[tuple[float, float, float], tuple[float, float, float], float]]] = {
    "close": {
        "left": ((0.02, 0.72, 1.72), (0.56, 0.03, 0.97), 54.0),
        "right": ((0.02, -0.72, 1.72), (0.56, 0.01, 0.97), 54.0),
    },
    "robocasa": {
        "left": ((-0.5, 0.35, 1.95), (0.55, 0.05, 1.0), 60.0),
        "right": ((-0.5, -0.35, 1.95), (0.55, -0.05, 1.0), 60.0),
    },
}
"""Per camera: where it is, where it looks (both metres) and its vertical field of view (degrees)."""


def choose_gl() -> None:
    """On Linux, let MuJoCo draw without a display: EGL, or OSMesa where there is no EGL. A set MUJOCO_GL is kept."""
    if not sys.platform.startswith("linux"):
        return
    default = "osmesa" if find_library("OSMesa") and not find_library("EGL") else "egl"
    wanted = os.environ.setdefault("MUJOCO_GL", default)
    loaded = sys.modules.get("mujoco.gl_context")
    if loaded is not None and wanted not in getattr(loaded, "GLContext", object).__module__:
        importlib.reload(loaded)  # MuJoCo was imported before the variable was set, and chose a window


def add_cameras(worldbody: Any, poses: CameraPoses) -> None:
    """Append agentview_left and agentview_right to an MJCF worldbody."""
    for side, (eye, target, fovy) in _EYES[poses].items():
        back = np.array(eye) - np.array(target)
        right = np.cross([0.0, 0.0, 1.0], back)
        up = np.cross(back, right)
        axes = np.concatenate([right / np.linalg.norm(right), up / np.linalg.norm(up)])
        look = {"pos": " ".join(map(str, eye)), "xyaxes": " ".join(map(str, axes)), "fovy": str(fovy)}
        SubElement(worldbody, "camera", {"name": f"agentview_{side}", "mode": "fixed", **look})


class Cameras:
    """An off-screen renderer for one model."""

    def __init__(self, model: Any, *, size: int, fast: bool) -> None:
        """Raises SvmsError when MuJoCo cannot draw on this machine."""
        import mujoco

        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0
        self._options.geomgroup[:] = 0
        self._options.geomgroup[2] = 1
        self._options.geomgroup[0 if fast else 1] = 1
        if fast:
            model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, size)
        model.vis.global_.offheight = max(model.vis.global_.offheight, size)
        self._renderer = _open_renderer(mujoco, model, size)
        if fast:
            for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                self._renderer.scene.flags[flag] = 0
        # At interpreter exit EGL goes before Python's objects do, so close first or see errors.
        atexit.register(self.close)
        self._names = ("agentview_left", "agentview_right", "robot0_eye_in_hand")

    def draw(self, data: Any) -> dict[str, UInt8[ndarray, "_S _S 3"]]:
        """One upright picture per view."""
        pictures = {}
        for view, name in zip(VIEWS, self._names, strict=True):
            self._renderer.update_scene(data, camera=name, scene_option=self._options)
            pictures[view] = self._renderer.render()
        return pictures

    def close(self) -> None:
        """Free the drawing context."""
        atexit.unregister(self.close)
        self._renderer.close()


def _open_renderer(mujoco: Any, model: Any, size: int) -> Any:
    try:
        return mujoco.Renderer(model, height=size, width=size)
    except Exception as error:  # EGL, OSMesa and GLFW each raise types of their own
        raise SvmsError(
            f"drawing the kitchen: found no working OpenGL ({type(error).__name__}: {error}), but need EGL or OSMesa. "
            "Install libegl1 and libgl1-mesa-dri, or libosmesa6 and set MUJOCO_GL=osmesa"
        ) from error
