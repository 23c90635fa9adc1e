"""Checks of what action numbers mean: the order of RoboCasa's twelve, codes of grippers and modes, states for commands.

Axes: T steps of an episode, D numbers of a key.

    a[t] = s[t]       the policy learns to repeat what it reads: the first step of each chunk stands still
    a[t] = s[t - 1]   the columns are shifted against each other
    a[t] = s[t + 1]   what was reached, not what was commanded: no grip, no push, and always a little late
"""

from collections.abc import Iterator

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.doctor.finding import Finding, Severity
from svms_gr00t.data.doctor.subject import Subject
from svms_gr00t.data.lerobot.robocasa import ACTION_ORDERS, ActionOrder, action_order

_CODED = ("gripper", "mode")
_ALMOST = 0.99
_FEWEST = 8  # steps in motion
_CODES = 8  # grippers and modes have fewer values than this, and may well be what was commanded
_SAID: dict[int, tuple[Severity, str, str]] = {
    0: (
        "error",
        "equals {state} at the same step: a policy learns to repeat what it reads, and stands still",
        "Record commands; without any, a[t] = s[t + 1] at least moves",
    ),
    -1: ("error", "equals {state} one step before", "Actions and states are shifted against each other: move one back"),
    1: (
        "warning",
        "equals {state} at the next step: what was reached, not what was commanded",
        "Record commands if there are any: what was reached holds nothing and pushes nothing, and lags a little",
    ),
}


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
                " --base-model-path. The released one is said to have 0 and 1, map with (x > 0)"
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


def check_echo(subject: Subject) -> Iterator[Finding]:
    """Every action key against every state key of its width."""
    for action in (name for name in subject.keys if name.startswith("action.")):
        states = [name for name in subject.keys if name.startswith("state.")]
        for state in sorted(states, key=lambda name: name.split(".", 1)[1] != action.split(".", 1)[1]):
            shift = _shift(subject, action, state)
            if shift is not None:
                severity, text, todo = _SAID[shift]
                found = text.format(state=state)
                yield Finding(severity=severity, check="echo", where=action, found=found, todo=todo)
                break


def _shift(subject: Subject, action: str, state: str) -> int | None:
    """The k for which a[t] = s[t + k] in nearly all steps in motion, or None."""
    if subject.stacked(action).shape[-1] != subject.stacked(state).shape[-1]:
        return None
    if len(np.unique(subject.stacked(state))) <= _CODES:
        return None
    spread = np.maximum(np.ptp(subject.stacked(state), axis=0), 1e-9)
    for shift in _SAID:
        same = [_equal(rows[action] / spread, rows[state] / spread, shift) for rows in subject.rows.values()]
        steps = np.concatenate(same) if same else np.zeros(0)
        if len(steps) >= _FEWEST and steps.mean() >= _ALMOST:
            return shift
    return None


def _equal(action: np.ndarray, state: np.ndarray, shift: int) -> np.ndarray:
    """Whether a[t] = s[t + shift], for the steps around which the state moves; (n,) booleans."""
    steps = np.arange(1, len(state) - 1)
    moving = steps[(np.abs(np.diff(state, axis=0)) > 1e-4).any(axis=1)[steps - 1]]
    return (np.abs(action[moving] - state[moving + shift]) < 1e-5).all(axis=1)
