"""The viewer's record as a rerun recording, for people who use rerun; its SDK is an optional extra.

    episode_3/camera/front                       picture
    episode_3/action/arm/x, .../predicted/x      number, and what would be executed of the chunk in force
    episode_3/rho/<edge>, routes/<stream>        numbers at the steps where the policy is asked
    episode_3/instruction                        text

Timelines: "step" of the episode, and "time" in seconds.
"""

import base64
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from svms_gr00t.core.errors import MissingExtra
from svms_gr00t.evaluate.viewer.record import Recording, Watched


def require() -> None:
    """Raise MissingExtra without rerun's SDK."""
    if find_spec("rerun") is None:
        raise MissingExtra("writing a rerun recording", package="rerun-sdk", extra="rerun")


def save_rerun(recording: Recording, path: Path | str) -> Path:
    """Write the recording; returns its path. Raises MissingExtra without rerun's SDK."""
    require()
    rr: Any = import_module("rerun")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = rr.RecordingStream("svms_gr00t_view")
    stream.save(str(path))
    for episode in recording.episodes:
        _episode(rr, stream, recording, episode)
    stream.flush()
    stream.disconnect()
    return path


def _episode(rr: Any, stream: Any, recording: Recording, episode: Watched) -> None:
    root = f"episode_{episode.index}"

    def at(step: int) -> None:
        stream.set_time("step", sequence=step)
        stream.set_time("time", duration=step / recording.fps)

    def number(step: int, place: str, name: str, value: float) -> None:
        at(step)
        stream.log([root, *place.split("/"), name], rr.Scalars(value))

    for saying in episode.sayings:
        at(saying.step)
        stream.log([root, "instruction"], rr.TextLog(saying.text))
    for camera in episode.cameras:
        for step, picture in zip(episode.steps, camera.pictures, strict=True):
            at(step)
            kind, _, content = picture.removeprefix("data:").partition(";base64,")
            stream.log(
                [root, "camera", camera.name], rr.EncodedImage(contents=base64.b64decode(content), media_type=kind)
            )
    for panel in episode.panels:
        for name, values in zip(panel.elements, panel.values, strict=True):
            for step, value in enumerate(values):
                number(step, f"{panel.kind}/{panel.name}", name, value)
    for plan in episode.plans:
        for panel in (one for one in episode.panels if one.kind == "action" and one.name in plan.chunk):
            for name, values in zip(panel.elements, plan.chunk[panel.name], strict=False):
                for ahead, value in enumerate(values[: min(recording.every, episode.length - plan.step)]):
                    number(plan.step + ahead, f"predicted/{panel.name}", name, value)
        for edge, value in zip(recording.edges, plan.rho, strict=False):
            number(plan.step, "rho", edge, value)
        for name, value in zip(recording.streams, plan.routes, strict=False):
            number(plan.step, "routes", name, value)
