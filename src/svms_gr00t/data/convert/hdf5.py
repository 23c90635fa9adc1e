"""HDF5 demonstrations with observations (RoboCasa, robosuite, robomimic, LIBERO) -> LeRobot v2.1 with a modality.json.

    /data                  attrs env_args (JSON: env_name, env_kwargs), problem_info (LIBERO's instruction)
    /data/demo_<k>         attrs ep_meta (JSON: lang, ...)        actions (T, A)
    /data/demo_<k>/obs     <camera>_image or _rgb (T, H, W, 3), robot0_* or ee_* (T, ...)
    /mask/<name>           demo names of a filter key

Axes: T steps, A action numbers, H and W pixels.

Actions are copied, float64 and bit by bit: they are what the controller was told, and the achieved poses lag behind.
RoboCasa's twelve are reordered by name to its published order. A raw file holds no observations: replaying its states
needs the simulator, so it is refused. Source: RoboCasa 1.0.1, robomimic's dataset layout, LIBERO's create_dataset.py.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.whole import no_room
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.convert.hdf5_file import (
    REPLAY,
    UNREADABLE,
    WANT,
    Film,
    check_declared,
    demonstrations,
    json_of,
    open_hdf5,
)
from svms_gr00t.data.convert.hdf5_plan import Plan, plan_of
from svms_gr00t.data.lerobot.staging import check_free, content_of
from svms_gr00t.data.lerobot.writer import LeRobotWriter


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What a conversion made."""

    root: Path
    """The new dataset."""
    episodes: int
    """Episodes in it."""
    resumed: int
    """Of these, finished by an interrupted run before."""
    notes: tuple[str, ...]
    """Decisions that the owner should check."""


def convert_hdf5(
    source: Path,
    target: Path,
    *,
    fps: float | int = 20.0,
    instruction: str | None = None,
    filter_key: str | None = None,
    flip: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Convert `source` to a new dataset at `target`; the same call goes on with an interrupted one.

    `instruction` stands in where a demonstration has none, `filter_key` names a mask of the file, `flip` turns pictures
    of the bare simulator upright. Raises DataError for what cannot be converted, MissingExtra without h5py.
    """
    check_free(target)
    with open_hdf5(source) as file:
        with _read_from(source):
            names = demonstrations(source, file, filter_key)
            env_args = json_of(file["data"].attrs.get("env_args"), f"{source}, env_args")
            plan = plan_of(source, file["data"], names, env_args)
            text = instruction or _problem(source, file["data"])
        key: dict[str, Any] = {"converter": "hdf5", "source": source.name, "content": content_of(source)}
        key |= {"demos": names, "fps": fps, "flip": flip}
        key |= {"instruction": instruction, "robot": plan.robot, "actions": plan.action_from}
        writer = _writer(target, plan, fps, key)
        resumed = writer.done
        with writer, (progress or Silent()).task("converting demonstrations", len(names)) as task:
            task.advance(resumed)
            for name in names[resumed:]:
                with _read_from(f"{source}, {name}"):
                    _convert(writer, plan, f"{source}, {name}", file["data"][name], text, flip, name)
                task.advance()
    return Converted(root=target, episodes=len(names), resumed=resumed, notes=plan.notes)


@contextmanager
def _read_from(where: object) -> Iterator[None]:
    """What reading a damaged file raises, as a DataError."""
    try:
        yield
    except DataError:
        raise
    except UNREADABLE as error:
        if no_room(error):
            raise
        raise DataError(where, got=f"unreadable data ({error})", want=WANT, hint="Fetch it again") from error


def _writer(target: Path, plan: Plan, fps: float | int, key: dict[str, Any]) -> LeRobotWriter:
    return LeRobotWriter(
        target,
        fps=fps,
        robot_type=plan.robot,
        modality=plan.modality,
        lowdim={"observation.state": _elements(plan.state_slices), "action": _elements(plan.action_slices)},
        videos={f"observation.images.{name}": size for name, (_, size) in plan.cameras.items()},
        provenance={**key, "notes": list(plan.notes)},
        float_type="float64",
        resume=key,
    )


def _convert(
    writer: LeRobotWriter, plan: Plan, where: str, demo: Any, instruction: str | None, flip: bool, name: str
) -> None:
    """One demonstration."""
    obs = demo["obs"]
    check_declared(where, demo["actions"], *(_column(where, obs, column) for column in plan.states))
    actions = np.asarray(demo["actions"], dtype=np.float64)
    state = np.concatenate([_rows(where, obs, column, len(actions)) for column in plan.states], axis=1)
    action = np.empty((len(actions), max(entry["end"] for entry in plan.action_slices.values())))
    for key, entry in plan.action_slices.items():
        action[:, entry["start"] : entry["end"]] = _part(actions, plan.action_from, key)
    cameras = {f"observation.images.{camera}": column for camera, (column, _) in plan.cameras.items()}
    videos = {feature: _film(where, obs, column, flip, plan.turned) for feature, column in cameras.items()}
    meta = json_of(demo.attrs.get("ep_meta"), f"{where}, ep_meta")
    text = str(meta.get("lang") or instruction or "").strip()
    if not text:
        hint = "Pass --instruction with the sentence for all of them"
        raise DataError(where, got="no instruction (ep_meta has no lang)", want="one", hint=hint)
    rewards = np.ones(1)
    if "rewards" in demo:
        check_declared(f"{where}, rewards", demo["rewards"])
        rewards = np.asarray(demo["rewards"])
    extras = {"ep_meta": meta, "source": {"demo": name}}
    columns = {"observation.state": state, "action": action}
    writer.add_episode(columns, videos, text, extras, success=bool(rewards.max(initial=0.0) > 0))


def _part(actions: np.ndarray, source: Mapping[str, Any], key: str) -> np.ndarray:
    """The columns of an action key; robosuite's own order keeps the torso apart from the base."""
    if key == "base_motion" and "torso" in source:
        parts = [actions[:, source[name]["start"] : source[name]["end"]] for name in ("base_motion", "torso")]
        return np.concatenate(parts, axis=1)
    return actions[:, source[key]["start"] : source[key]["end"]]


def _film(where: str, obs: Any, column: str, flip: bool, turned: bool) -> Film:
    """Pictures of a camera the right way round."""
    if column not in obs:
        want = "the cameras of the first demonstration"
        raise DataError(where, got=f"no {column} in obs", want=want, hint=REPLAY)

    def upright(frames: np.ndarray) -> np.ndarray:
        return frames[:, ::-1] if flip else frames[:, ::-1, ::-1] if turned else frames

    return Film(f"{where}, {column}", obs[column], upright)


def _problem(source: Path, data: Any) -> str | None:
    """LIBERO's instruction for the whole file, a text or its words or letters."""
    found = json_of(data.attrs.get("problem_info"), f"{source}, problem_info").get("language_instruction")
    if isinstance(found, list):
        found = ("" if all(len(str(part)) == 1 for part in found) else " ").join(str(part) for part in found)
    return str(found).strip('"') if found else None


def _column(where: str, obs: Any, column: str) -> Any:
    if column not in obs:
        raise DataError(where, got=f"no {column} in obs", want="the observations of the first one", hint=REPLAY)
    return obs[column]


def _rows(where: str, obs: Any, column: str, length: int) -> np.ndarray:
    rows = np.asarray(_column(where, obs, column), dtype=np.float64)
    if len(rows) != length:
        got, want = f"{len(rows)} rows of {column}", f"{length}, as many as actions"
        raise DataError(where, got=got, want=want, hint=REPLAY)
    return rows.reshape(length, -1)


def _elements(slices: Mapping[str, Any]) -> list[str]:
    ordered = sorted(slices.items(), key=lambda item: item[1]["start"])
    return [f"{key}_{i}" for key, entry in ordered for i in range(entry["end"] - entry["start"])]
