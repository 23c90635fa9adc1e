"""Checks of counts, times and language: totals, order of rows, task indices, instructions and their token labels.

Axes: T steps of an episode, D numbers of its states.

    roughness = mean |s[t + 1] - s[t]| / mean |s[i] - s[j]|          near 0 for motion, near 1 for rows in any order
"""

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from svms_gr00t.core.files.documents import read_raw
from svms_gr00t.data.doctor.finding import Finding, Severity
from svms_gr00t.data.doctor.subject import Subject
from svms_gr00t.data.labels.coverage import coverage
from svms_gr00t.data.processor.normalize import still

_SHORT = 16
_KNOWN_SHARE = 0.8
_ROUGH = 0.75


def check_totals(subject: Subject) -> Iterator[Finding]:
    """Counts in info.json against what is listed, and episodes shorter than an action chunk."""
    dataset = subject.dataset
    where, info = str(dataset.root / "meta" / "info.json"), read_raw(dataset.root / "meta" / "info.json")
    real = {
        "total_episodes": len(dataset.episodes),
        "total_frames": sum(episode.length for episode in dataset.episodes),
    }
    for name, count in real.items():
        if name in info and info[name] != count:
            found, todo = f"{name} {info[name]}, but {count} are listed", f"Write {count}; readers here ignore it"
            yield Finding(severity="warning", check="totals", where=where, found=found, todo=todo)
    extra = sorted(dataset.tasks)[info.get("total_tasks", len(dataset.tasks)) :]
    if extra:
        texts = ", ".join(repr(dataset.tasks[i]) for i in extra[:3])
        found = f"total_tasks {info['total_tasks']}, but the list has {len(dataset.tasks)} (also {texts})"
        todo = "Nothing: RoboCasa appends class names; they are never used as instructions unless a column says so"
        yield Finding(severity="note", check="totals", where=where, found=found, todo=todo)
    empty = tuple(episode.index for episode in dataset.episodes if episode.length < 1)
    if empty:
        found, todo = "no steps", "Take it out of the list of episodes"
        yield Finding(severity="error", check="totals", where="episodes", found=found, todo=todo, episodes=empty)
    short = tuple(episode.index for episode in dataset.episodes if 0 < episode.length < _SHORT)
    if short:
        found = f"{len(short)} episodes of fewer than {_SHORT} steps, an action chunk"
        todo = "Check that they are whole; the missing steps are masked out in training"
        yield Finding(severity="note", check="totals", where="episodes", found=found, todo=todo, episodes=short)


def check_times(subject: Subject) -> Iterator[Finding]:
    """Timestamps that do not fit the frame rate; rows in another order, with gaps, or of another episode."""
    fps = subject.dataset.fps
    found: dict[str, list[int]] = defaultdict(list)
    for index, columns in subject.columns.items():
        if "timestamp" in columns:
            times = columns["timestamp"][:, 0].astype(np.float64)
            off = np.abs(times - times[0] - np.arange(len(times)) / fps)
            found["drift"] += [index] if off.max() > 0.5 / fps else []
        if "frame_index" in columns:
            found[_numbering(columns["frame_index"][:, 0])].append(index)
        if "episode_index" in columns and (columns["episode_index"][:, 0] != index).any():
            found["foreign"].append(index)
    said: dict[str, tuple[Severity, str, str, str]] = {
        "drift": (
            *("warning", "timestamp", f"timestamps more than half a step away from {fps:g} steps a second"),
            "Correct fps in info.json, or resample: a model learns actions of one rate",
        ),
        "shuffled": (
            *("error", "frame_index", "rows in another order than their frame_index: step k is not picture k"),
            "Sort the rows of those files by frame_index",
        ),
        "gaps": (
            *("warning", "frame_index", "frame_index is not 0, 1, 2, ..."),
            "Rows are missing or counted twice; record those again",
        ),
        "foreign": (
            *("error", "episode_index", "rows that say they are of another episode"),
            "Files were renamed or copied over one another: put them back, or correct the column",
        ),
    }
    for name, (severity, where, text, todo) in said.items():
        if found[name]:
            yield Finding(
                severity=severity, check="times", where=where, found=text, todo=todo, episodes=tuple(found[name])
            )


def _numbering(frames: np.ndarray) -> str:
    """What frame_index says of the order: "shuffled", "gaps", or nothing."""
    if (frames == np.arange(len(frames))).all():
        return ""
    return "shuffled" if len(set(frames.tolist())) == len(frames) and (np.diff(frames) < 0).any() else "gaps"


def check_smooth(subject: Subject) -> Iterator[Finding]:
    """States that differ from step to step as much as between any two steps: no robot moves so."""
    rough = []
    for index, rows in subject.rows.items():
        state = [part for name, part in rows.items() if name.startswith("state.")]
        if state and len(state[0]) >= _SHORT and roughness(np.concatenate(state, axis=1)) > _ROUGH:
            rough.append(index)
    if rough:
        found = "states differ from one step to the next as much as between any two: the rows are in no order of time"
        todo = "Look at it with svms-gr00t data show; rows were shuffled and numbered afterwards, or it is noise"
        yield Finding(
            severity="warning", check="shuffled", where="state", found=found, todo=todo, episodes=tuple(rough)
        )


def roughness(state: np.ndarray) -> float:
    """See the top; 0 for states that stand still, NaN or infinite ones."""
    state = state[:, ~still(state.min(axis=0), state.max(axis=0))]
    if not state.size or not np.isfinite(state).all():
        return 0.0
    state = (state - state.min(axis=0)) / np.ptp(state, axis=0)
    count = len(state)
    weights = 2 * np.arange(count) - count + 1  # of the sorted values in the sum of all differences
    any_two = 2 * (weights[:, None] * np.sort(state, axis=0)).sum(axis=0).mean() / (count * (count - 1))
    return float(np.abs(np.diff(state, axis=0)).mean() / any_two)


def check_tasks(subject: Subject) -> Iterator[Finding]:
    """Task indices without a text, gaps in the list, and columns that name marks instead of instructions."""
    dataset = subject.dataset
    known = set(dataset.tasks)
    where = str(dataset.root / "meta")
    if gaps := sorted(set(range(max(known, default=-1) + 1)) - known):
        found = f"task indices {', '.join(map(str, gaps[:5]))} are missing from the list"
        todo = "Nothing breaks while no row uses them; complete the list so that other tools agree"
        yield Finding(severity="warning", check="tasks", where=where, found=found, todo=todo)
    twice = [text for text, count in Counter(dataset.tasks.values()).items() if count > 1]
    if twice:
        found, todo = f"{twice[0]!r} has several indices", "Harmless; merge them to count tasks rightly"
        yield Finding(severity="note", check="tasks", where=where, found=found, todo=todo)
    names = sorted({name for columns in subject.columns.values() for name in columns})
    for name in (n for n in names if n == "task_index" or n.startswith("annotation.")):
        bad = {i: c[name][:, 0] for i, c in subject.columns.items() if name in c and set(c[name][:, 0]) - known}
        if bad:
            first = next(iter(bad.values()))
            value = next(v for v in first if v not in known)
            todo = "Add that row to the list of tasks, or correct the column"
            found = f"index {value:g} has no text among {len(known)} tasks"
            yield Finding(severity="error", check="tasks", where=name, found=found, todo=todo, episodes=tuple(bad))


def check_language(subject: Subject) -> Iterator[Finding]:
    """Instructions that say nothing, and words that no token label knows."""
    counts = instructions(subject)
    where = "instructions"
    if not counts:
        found = "no episode has a readable instruction"
        todo = "Name the column in modality.json's annotation (human.action.task_description)"
        yield Finding(severity="error", check="language", where=where, found=found, todo=todo)
        return
    for text in (text for text in counts if len(text.split()) < 2):
        found = f"{text!r} is no instruction ({counts[text]} episodes)"
        todo = "Point modality.json's annotation at the column of instructions, or write them"
        yield Finding(severity="warning", check="language", where=where, found=found, todo=todo)
    seen = coverage(counts, subject.labeler)
    if seen.known_share < _KNOWN_SHARE:
        words = ", ".join(word for word, _ in seen.unknown[:8])
        found = f"the label lexicon knows {seen.known_share:.0%} of the words (not {words})"
        todo = "See svms-gr00t data labels --dataset-path; spelling and neighbours decide the others"
        yield Finding(severity="warning", check="labels", where=where, found=found, todo=todo)
    for name in seen.silent:
        found = f"no word carries the {name} label"
        todo = f"That auxiliary loss learns nothing from this data; mix in tasks with {name} words, or accept it"
        yield Finding(severity="note", check="labels", where=where, found=found, todo=todo)


def instructions(subject: Subject) -> Counter[str]:
    """Every instruction of the examined episodes with the number of episodes that use it."""
    dataset = subject.dataset
    key = dataset.modality.instruction_key
    name = "task_index" if key is None else dataset.modality.column("annotation", key)
    counts: Counter[str] = Counter()
    for columns in subject.columns.values():
        indices = set(columns.get(name, np.zeros((0, 1)))[:, 0].tolist())
        counts.update(dataset.tasks[int(i)] for i in indices if int(i) in dataset.tasks)
    return counts
