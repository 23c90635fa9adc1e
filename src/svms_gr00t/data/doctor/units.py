"""What numbers measure, as far as names and values tell: metres, radians, degrees; and steps that no robot can make.

Axes: T steps of an episode, D numbers of a key.

    angle between unit quaternions p and q = 2 acos |p . q|
    joints beyond a turn (2 pi) are no radians: LeRobot's SO-100 writes degrees, or -100 to 100
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from svms_gr00t.data.doctor.finding import Finding
from svms_gr00t.data.doctor.subject import Subject
from svms_gr00t.data.lerobot.elements import METRES, is_position

TURN = 7.0
"""A full turn in radians, and a little."""
_FINEST = 16  # numbers of fewer values are codes
_DEGREES = 180 / np.pi


@dataclass(frozen=True)
class Unit:
    """One unit, and what is credible in it."""

    name: str
    """As it stands behind a number; empty when nothing is known."""
    most: float
    """No robot moves further in one step."""


METRE, RADIAN, DEGREE = Unit("m", 0.5), Unit("rad", np.pi / 2), Unit("degrees", 90.0)


def is_quaternion(subject: Subject, name: str) -> bool:
    """A key of unit quaternions, by its rotation type or its name."""
    kind, key = name.split(".", 1)
    entry = (subject.dataset.modality.state if kind == "state" else subject.dataset.modality.action)[key]
    named = "quat" in key or (entry.rotation_type is None and "rotation" in key)
    return entry.width == 4 and (entry.rotation_type == "quaternion" or named)


def unit_of(subject: Subject, name: str) -> Unit:
    """The unit of a state key; of unknown ones a step over half the range is not credible."""
    if is_quaternion(subject, name):
        return RADIAN
    rows = subject.stacked(name)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return Unit("", np.inf)
    largest, half = float(np.abs(rows).max(initial=0.0)), float(np.ptp(rows, axis=0).max(initial=0.0)) / 2
    if len(np.unique(rows)) < _FINEST:
        return Unit("", np.inf)
    if is_position(name):
        return METRE if largest <= METRES else Unit("", half)
    if "grip" in name or largest > 2 * 360:
        return Unit("", max(half, TURN))
    return RADIAN if largest <= TURN else DEGREE


def check_jumps(subject: Subject) -> Iterator[Finding]:
    """Steps that no robot can make: positions, quaternions and joint angles of the state."""
    for name in subject.keys:
        if not name.startswith("state."):
            continue
        unit = unit_of(subject, name)
        position = is_position(name)
        worst: dict[int, tuple[float, int]] = {}
        for index, rows in subject.rows.items():
            size = _steps_of(rows[name], quaternion=is_quaternion(subject, name), position=position)
            if len(size) and np.nanmax(size, initial=0.0) > unit.most:
                worst[index] = (float(np.nanmax(size)), int(np.nanargmax(size)))
        if worst:
            index, (most, step) = max(worst.items(), key=lambda item: item[1][0])
            size_of, limit = (f"{n:.2f} {unit.name}".rstrip() for n in (most, unit.most))
            found = f"jumps by {size_of} after step {step} of episode {index} (at most {limit} is credible)"
            todo = "Look at it with svms-gr00t data show; a wrap of an angle, two episodes in one, or lost packets"
            yield Finding(severity="warning", check="jump", where=name, found=found, todo=todo, episodes=tuple(worst))


def _steps_of(rows: np.ndarray, *, quaternion: bool, position: bool) -> np.ndarray:
    if quaternion:
        dots = np.abs((rows[1:] * rows[:-1]).sum(axis=1))
        norms = np.linalg.norm(rows[1:], axis=1) * np.linalg.norm(rows[:-1], axis=1)
        return 2 * np.arccos(np.clip(dots / np.maximum(norms, 1e-9), 0, 1))
    moved = np.diff(rows, axis=0)
    return np.linalg.norm(moved, axis=1) if position else np.abs(moved).max(axis=1, initial=0.0)


def check_units(subject: Subject) -> Iterator[Finding]:
    """Joints that are no radians, positions that are no metres; episodes, or state and action, of two units."""
    for name in (name for name in subject.keys if name.startswith("state.")):
        rows, unit = subject.stacked(name), unit_of(subject, name)
        if not np.isfinite(rows).any():
            continue
        largest = float(np.nanmax(np.abs(rows)))
        if unit is DEGREE:
            found = f"values up to {largest:.3g}: degrees, or the recorder's own scale, no radians"
            todo = (
                "Nothing with its own statistics; a base that learned radians needs radians (data statistics"
                " --base-model-path shows it), and so do sines and cosines (sin_cos_embedding_keys)"
            )
            yield Finding(severity="note", check="units", where=name, found=found, todo=todo)
        elif is_position(name) and largest > METRES:
            found = f"values up to {largest:.4g}: millimetres, or an odometer, no metres of an arm"
            todo = (
                "Nothing with its own statistics; a base that learned metres needs metres (data statistics"
                " --base-model-path)"
            )
            yield Finding(severity="note", check="units", where=name, found=found, todo=todo)
        yield from _two_units(subject, name)


def _two_units(subject: Subject, name: str) -> Iterator[Finding]:
    """A key of radians in some episodes and degrees in others, or in the state and in the action of its name."""
    spans = {i: float(np.abs(rows[name] - rows[name][0]).max(initial=0.0)) for i, rows in subject.rows.items()}
    tops = {i: float(np.abs(rows[name]).max(initial=0.0)) for i, rows in subject.rows.items()}
    small = tuple(i for i in spans if tops[i] <= TURN / 2 and spans[i] > 0)
    large = [spans[i] for i in spans if tops[i] > TURN]
    if small and large and not is_position(name):
        ratio = float(np.median(large) / np.median([spans[i] for i in small]))
        if _DEGREES / 2.5 < ratio < _DEGREES * 2.5:
            found = f"{len(small)} episodes move {ratio:.0f} times less than the others: radians among degrees"
            todo = "Bring all episodes to one unit (180 / pi = 57.3)"
            yield Finding(severity="error", check="units", where=name, found=found, todo=todo, episodes=small)
    action = f"action.{name.split('.', 1)[1]}"
    if action in subject.keys and subject.stacked(action).shape == subject.stacked(name).shape:
        of = [np.nanstd(subject.stacked(key), axis=0) for key in (name, action)]
        ratios = [max(a, b) / min(a, b) for a, b in zip(*of, strict=True) if min(a, b) > 1e-9]
        top = [float(np.nanmax(np.abs(subject.stacked(key)), initial=0.0)) for key in (name, action)]
        if ratios and min(top) <= TURN < max(top) and _DEGREES / 1.5 < np.median(ratios) < _DEGREES * 1.5:
            found = f"{np.median(ratios):.0f} times the spread of {action}: one is in degrees, the other in radians"
            todo = "Bring both to one unit; relative actions are their difference"
            yield Finding(severity="warning", check="units", where=name, found=found, todo=todo)
