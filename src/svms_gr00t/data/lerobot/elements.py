"""What each number of a key is called and measured in: for pictures of the data, which name their axes.

Axes: T steps of an episode, D numbers of a key.

    info.json's own names            "shoulder_pan.pos", unless they only count ("base_position_0")
    positions, axis_angle            x, y, z
    euler_angles_rpy                 roll, pitch, yaw in the order that it says
    anything else                    0, 1, 2, ...

A unit is named only where name and values agree: metres for positions within a room, radians for angles within two
turns. Differences (`absolute: false`) are in whatever the controller takes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.modality import LowDim

METRES = 20.0
"""No arm's reach or kitchen goes further."""
TURNS = 4 * np.pi
"""Larger angles are no radians."""
_EULER = {"r": "roll", "p": "pitch", "y": "yaw"}
_XYZ = ("x", "y", "z")


@dataclass(frozen=True, kw_only=True)
class Key:
    """One state or action key of one episode."""

    kind: Literal["state", "action"]
    name: str
    elements: tuple[str, ...]
    """What each number is called."""
    unit: str
    """"m", "rad", "change" of a difference; empty when nothing is known."""
    values: Float32[np.ndarray, "T D"]

    @property
    def flat(self) -> bool:
        """Whether it stays within a hundredth of its largest value: a line that a plot shows as straight."""
        return bool(np.ptp(self.values, axis=0).max(initial=0.0) <= 0.01 * np.abs(self.values).max(initial=0.0))


def is_position(name: str) -> bool:
    """A key in metres, by its name."""
    last = name.split(".")[-1]
    return any(part in last for part in ("position", "_pos", "xyz")) and not any(w in last for w in ("joint", "grip"))


def keys_of(dataset: LeRobotDataset, episode: int) -> Iterator[Key]:
    """State, then action keys of an episode in modality.json's order. Raises DataError when it cannot be read."""
    rows = dataset.lowdim(episode)
    for kind, entries in (("state", dataset.modality.state), ("action", dataset.modality.action)):
        for name, entry in entries.items():
            column = dataset.modality.column(kind, name)  # type: ignore[arg-type]
            feature = dataset.info.features.get(column)
            given = _flattened(None if feature is None else feature.names)[entry.start : entry.end]
            values = rows[f"{kind}.{name}"]
            elements = names_of(name, entry, given)
            yield Key(kind=kind, name=name, elements=elements, unit=unit_of(name, entry, values), values=values)  # type: ignore[arg-type]


def _flattened(names: Any) -> tuple[str, ...]:
    """LeRobot's lists, and its older {"motors": [...]} and {"x": 0, ...}."""
    if isinstance(names, dict):
        inner = list(names.values())
        return _flattened(inner[0]) if len(inner) == 1 and isinstance(inner[0], list) else tuple(map(str, names))
    return tuple(map(str, names)) if isinstance(names, list) else ()


def names_of(key: str, entry: LowDim, given: tuple[str, ...]) -> tuple[str, ...]:
    """What each number of a key is called; `given` are info.json's names."""
    counted = re.compile(r"\W*\d*")  # what is left of "base_position_0" says no more than its place
    own = [name.removeprefix(key).lstrip("_.") for name in given]
    if len(own) == entry.width and not all(counted.fullmatch(name) for name in own):
        return tuple(name or given[place] for place, name in enumerate(own))
    rotation = entry.rotation_type or ""
    if entry.width == 3 and rotation.startswith("euler_angles_"):
        return tuple(_EULER[letter] for letter in rotation.removeprefix("euler_angles_"))
    if entry.width == 3 and (rotation == "axis_angle" or is_position(key)):
        return _XYZ
    return tuple(map(str, range(entry.width)))


def unit_of(key: str, entry: LowDim, values: Float32[np.ndarray, "T D"]) -> str:
    """As in `Key.unit`."""
    if not entry.absolute:
        return "change"
    largest = float(np.abs(values).max(initial=0.0))
    if is_position(key) and largest <= METRES:
        return "m"
    angles = (entry.rotation_type or "").startswith(("axis_angle", "euler"))
    return "rad" if angles and largest <= TURNS else ""
