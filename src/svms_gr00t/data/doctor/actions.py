"""Checks of what action numbers mean: the order of RoboCasa's twelve, and how grippers and modes are coded."""

from collections.abc import Iterator

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.doctor.finding import Finding
from svms_gr00t.data.doctor.subject import Subject
from svms_gr00t.data.lerobot.robocasa import ACTION_ORDERS, ActionOrder, action_order

_CODED = ("gripper", "mode")


def check_order(subject: Subject) -> Iterator[Finding]:
    """12-D actions: does modality.json name the columns that look like gripper and mode?"""
    columns = {subject.dataset.modality.column("action", key) for key in subject.dataset.modality.action}
    for column in sorted(columns):
        feature = subject.dataset.info.features.get(column)
        if feature is None or feature.shape != [12]:
            continue
        order = _order(subject, column)
        said = _said(subject, column)
        if order is None:
            if said:
                found = f"modality.json says {said}; the numbers do not tell (gripper or mode never change)"
                todo = "Check one episode with svms-gr00t data show: the gripper's column must step where it closes"
                yield Finding(severity="note", check="order", where=column, found=found, todo=todo)
            continue
        if said is not None and said != order:
            found = f"the numbers are in {order} order, but modality.json says {said}"
            todo = f"Correct the slices: {_layout(order)}"
            yield Finding(severity="error", check="order", where=column, found=found, todo=todo)
        elif said is None:
            found = f"twelve numbers in {order} order, which modality.json does not name"
            todo = f"Name them: {_layout(order)}"
            yield Finding(severity="warning", check="order", where=column, found=found, todo=todo)


def _order(subject: Subject, column: str) -> ActionOrder | None:
    parts = []
    for index in subject.rows:
        try:
            parts.append(subject.dataset.columns(index, [column])[column])
        except DataError:
            continue
    return action_order(np.concatenate(parts)) if parts else None


def _said(subject: Subject, column: str) -> ActionOrder | None:
    """The order that modality.json's slices spell out."""
    modality = subject.dataset.modality
    starts = {k: e.start for k, e in modality.action.items() if modality.column("action", k) == column}
    gripper = next((start for key, start in starts.items() if "gripper" in key), None)
    mode = next((start for key, start in starts.items() if "mode" in key), None)
    for order, slices in ACTION_ORDERS.items():
        want = (slices["gripper_close"]["start"], slices["control_mode"]["start"])
        if (gripper, mode) == want:
            return order
    return None


def _layout(order: ActionOrder) -> str:
    return ", ".join(f"{key} {entry['start']}:{entry['end']}" for key, entry in ACTION_ORDERS[order].items())


def check_coding(subject: Subject) -> Iterator[Finding]:
    """Grippers and modes are coded -1/1 or 0/1: the two must not meet in one dataset, nor change under a checkpoint."""
    for name in subject.keys:
        kind, key = name.split(".", 1)
        if kind != "action" or not any(word in key for word in _CODED):
            continue
        if subject.dataset.modality.action[key].width != 1:
            continue
        codings = {index: _coding(rows[name][:, 0]) for index, rows in subject.rows.items()}
        kinds = {coding for coding in codings.values() if coding}
        if len(kinds) > 1:
            found = f"episodes with different codings: {', '.join(sorted(kinds))}"
            todo = "Bring all episodes to one coding; a model cannot tell which one it is asked for"
            fewest = min(kinds, key=lambda c: sum(v == c for v in codings.values()))
            few = tuple(index for index, coding in codings.items() if coding == fewest)
            yield Finding(severity="error", check="coding", where=name, found=found, todo=todo, episodes=few)
        elif kinds:
            todo = (
                "Nothing to do with its own statistics; with those of a checkpoint, compare: svms-gr00t data statistics"
                " --base. The released one is said to have 0 and 1, map with (x > 0)"
            )
            yield Finding(severity="note", check="coding", where=name, found=f"coded as {kinds.pop()}", todo=todo)


def _coding(values: np.ndarray) -> str:
    """ "-1/1", "0/1" or "continuous"; empty for values that fit several."""
    present = set(np.unique(values[np.isfinite(values)]).tolist())
    if not present <= {-1.0, 0.0, 1.0}:
        return "continuous"
    if -1.0 in present:
        return "-1/1"
    return "0/1" if present == {0.0, 1.0} else ""
