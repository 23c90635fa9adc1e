"""Checks of states and actions: NaN, quaternions, idle numbers, a robot that does not react, stored statistics.

Axes: T steps of an episode, D numbers of a key.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import read_raw
from svms_gr00t.data.doctor.finding import Finding, from_error
from svms_gr00t.data.doctor.subject import Subject
from svms_gr00t.data.doctor.units import is_quaternion
from svms_gr00t.data.processor.normalize import still

_NORM = 1e-2
_STUCK_SECONDS = 2.0


def check_finite(subject: Subject) -> Iterator[Finding]:
    """NaN and infinity, by key."""
    for name in subject.keys:
        bad = {i: ~np.isfinite(rows[name]).all(axis=1) for i, rows in subject.rows.items()}
        episodes = tuple(index for index, steps in bad.items() if steps.any())
        if episodes:
            step = int(np.argmax(bad[episodes[0]]))
            found = f"NaN or infinity, first at step {step}; {sum(int(b.sum()) for b in bad.values())} steps in all"
            todo = "Record those episodes again, or take them out of the list of episodes"
            yield Finding(severity="error", check="finite", where=name, found=found, todo=todo, episodes=episodes)


def check_quaternions(subject: Subject) -> Iterator[Finding]:
    """Norms away from 1, and signs that flip within an episode."""
    for name in subject.keys:
        if not is_quaternion(subject, name):
            continue
        off: dict[int, float] = {}
        flips: dict[int, int] = {}
        steps = 0
        for index, rows in subject.rows.items():
            q = rows[name]
            worst = float(np.abs(np.linalg.norm(q, axis=1) - 1).max())
            off |= {index: worst} if not worst <= _NORM else {}
            count = int(((q[1:] * q[:-1]).sum(axis=1) < 0).sum())
            flips |= {index: count} if count else {}
            steps += max(len(q) - 1, 0)
        if off:
            found = f"norms up to {max(off.values()):.2g} away from 1"
            todo = "Check start and end in modality.json, and that the column holds a quaternion (x y z w)"
            yield Finding(severity="error", check="quaternion", where=name, found=found, todo=todo, episodes=tuple(off))
        if flips:
            found = f"the sign flips at {sum(flips.values())} of {steps} steps, so the same pose has two forms"
            todo = (
                "Keep it for robocasa_panda_omron (the released checkpoint saw the same); for a new robot fix the sign"
                " of one component when recording, or store rot6d"
            )
            yield Finding(
                severity="warning", check="quaternion", where=name, found=found, todo=todo, episodes=tuple(flips)
            )


def check_idle(subject: Subject) -> Iterator[Finding]:
    """Numbers that never change: they carry nothing, and a constant action is never learned."""
    silent: dict[str, list[str]] = {"state": [], "action": []}
    for name in subject.keys:
        rows = subject.stacked(name)
        if len(rows) < 2:
            continue
        idle = np.flatnonzero(still(rows.min(axis=0), rows.max(axis=0))).tolist()
        kind, key = name.split(".", 1)
        if len(idle) == rows.shape[1]:
            silent[kind].append(key)
        elif idle:
            silent[kind].append(f"{key}[{', '.join(map(str, idle))}]")
    todo = {
        "state": "Harmless: they are normalised to 0; leave them out to save width",
        "action": "They come back as the constant; record tasks that use them, or leave them out of the action keys",
    }
    for kind, keys in silent.items():
        if keys:
            found = f"{', '.join(keys)} never change"
            yield Finding(severity="note", check="idle", where=kind, found=found, todo=todo[kind])


def check_reaction(subject: Subject) -> Iterator[Finding]:
    """A state frozen over seconds while the actions change: a stuck sensor, or rows shifted against each other."""
    need = max(int(_STUCK_SECONDS * subject.dataset.fps), 2)
    stuck: list[int] = []
    for index, rows in subject.rows.items():
        state = [part for name, part in rows.items() if name.startswith("state.")]
        action = [part for name, part in rows.items() if name.startswith("action.")]
        if not state or not action or len(state[0]) <= need:
            continue
        s, a = np.concatenate(state, axis=1), np.concatenate(action, axis=1)
        frozen = (s[1 : need + 1] == s[0]).all()
        if frozen and (np.ptp(a[:need], axis=0) > 0).any() and (s != s[0]).any():
            stuck.append(index)
    if stuck:
        found = f"the first {need + 1} states are equal while the actions change"
        todo = "Cut the start of those episodes, or check that the recorder had received a first state"
        where = "first states"
        yield Finding(severity="warning", check="stuck", where=where, found=found, todo=todo, episodes=tuple(stuck))


def check_stored_statistics(subject: Subject) -> Iterator[Finding]:
    """A stats.json that does not cover the data: tools that trust it (N1.6's own does) cut values off."""
    path = subject.dataset.root / "meta" / "stats.json"
    if not path.is_file():
        found, todo = "no stats.json", "Nothing here (statistics are computed); N1.6's own loader needs one"
        yield Finding(severity="note", check="statistics", where=str(path), found=found, todo=todo)
        return
    try:
        stored = read_raw(path)
    except DataError as error:
        yield from_error("statistics", error)
        return
    outside = [name for name in subject.keys if _beyond(subject, name, stored)]
    if outside:
        found = f"{', '.join(outside)} leave the stored range"
        todo = "The file is of other data; write it again before another tool normalises by it (none is used here)"
        yield Finding(severity="warning", check="statistics", where=str(path), found=found, todo=todo)


def _beyond(subject: Subject, name: str, stored: Mapping[str, Any]) -> bool:
    kind, key = name.split(".", 1)
    modality = subject.dataset.modality
    entry = (modality.state if kind == "state" else modality.action)[key]
    column = stored.get(modality.column("state" if kind == "state" else "action", key), {})
    rows = subject.stacked(name)
    try:
        low, high = (np.asarray(column[n], dtype=np.float64)[entry.start : entry.end] for n in ("min", "max"))
    except (KeyError, TypeError, ValueError):
        return False  # not there, or not numbers: nothing is claimed about this column
    if not len(rows) or low.shape != (rows.shape[1],) or high.shape != low.shape:
        return False
    slack = 1e-5 * np.maximum(np.abs(low), np.abs(high)) + 1e-9
    return bool(((rows < low - slack) | (rows > high + slack)).any())
