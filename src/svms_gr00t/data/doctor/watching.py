"""Cameras over time: pictures that freeze or go blank in an episode while the robot moves.

Axes: T steps of an episode, n of them, P pixels of a coarse grid, D numbers of the state.

    run      steps whose pictures equal the first of them, up to compression
    motion   furthest way of the state from the first of a run: root mean square over its numbers, in their ranges
    frozen   a run whose motion is far beyond the camera's other runs: a still scene has still states, too

Every picture of a handful of episodes is decoded, more of them where pictures are small and episodes short.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.doctor.finding import Finding, Severity, from_error
from svms_gr00t.data.doctor.subject import Subject
from svms_gr00t.data.lerobot.dataset import spread
from svms_gr00t.data.processor.normalize import still

BUDGET = 2_000_000_000
"""Pixels that one visit decodes: half a minute of one core."""
_FEWEST = 6  # episodes, however large
_GRID = 64
_SAME = 16.0  # compression changes hardly a pixel in a thousand by more (of 255), a moving arm changes many
_BLANK = 1.5
_BLOCK = 64
_LONG = 8
"""Steps: a shorter run is a slow camera or a dropped frame."""
_MOTION = 0.08
"""A picture that shows none of so much motion is frozen."""
_JITTER = 0.01
"""What sensors say of a robot at rest."""
_BEYOND = 4.0


@dataclass(frozen=True)
class Run:
    """Equal pictures of one camera in one episode."""

    episode: int
    first: int
    last: int
    whole: bool
    """It is the whole episode."""
    blank: bool
    """Of one colour."""
    motion: float


def check_cameras(subject: Subject) -> Iterator[Finding]:
    """Frozen and blank pictures, by camera."""
    ranges = _ranges(subject)
    for view in subject.dataset.modality.video:
        runs: list[Run] = []
        for index in watched(subject):
            try:
                runs += _runs(subject, index, view, ranges)
            except DataError as error:
                if "frames, but need" not in str(error):  # the length is reported by another check
                    yield from_error("picture", error, (index,))
        yield from _frozen(view, runs)
        yield from _blank(view, runs)


def watched(subject: Subject) -> tuple[int, ...]:
    """The episodes whose pictures are looked at: as many as the budget allows, evenly spread."""
    features = [subject.dataset.info.features.get(c) for c in _columns(subject)]
    pixels = sum(int(np.prod(feature.shape)) // 3 for feature in features if feature is not None and feature.shape)
    steps = sum(len(next(iter(rows.values()), ())) for rows in subject.rows.values())
    each = max(pixels * steps // max(len(subject.rows), 1), 1)
    return spread(tuple(subject.rows), max(BUDGET // each, _FEWEST))


def _columns(subject: Subject) -> list[str]:
    return [subject.dataset.modality.column("video", view) for view in subject.dataset.modality.video]


def _ranges(subject: Subject) -> dict[str, np.ndarray]:
    """The range of every state number, infinite for what does not move."""
    found = {}
    for name in (name for name in subject.keys if name.startswith("state.")):
        rows = subject.stacked(name)
        low, high = rows.min(axis=0, initial=np.inf), rows.max(axis=0, initial=-np.inf)
        found[name] = np.where(still(low, high), np.inf, high - low)
    return found


def _posture(subject: Subject, index: int, ranges: dict[str, np.ndarray]) -> np.ndarray:
    """The numbers of the state that move, in units of their ranges, (T, D)."""
    rows = subject.rows[index]
    parts = [(rows[name] / width)[:, np.isfinite(width)] for name, width in ranges.items()]
    return (
        np.nan_to_num(np.concatenate(parts, axis=1)) if parts else np.zeros((subject.dataset.episode(index).length, 0))
    )


def _motion(posture: np.ndarray) -> float:
    if not posture.size:
        return 0.0
    return float(np.sqrt(np.square(posture - posture[0]).mean(axis=1)).max())


def _runs(subject: Subject, index: int, view: str, ranges: dict[str, np.ndarray]) -> list[Run]:
    length, posture = subject.dataset.episode(index).length, _posture(subject, index, ranges)
    edges, blank = [0], []
    anchor: np.ndarray | None = None
    for start in range(0, length, _BLOCK):
        steps = range(start, min(start + _BLOCK, length))
        for step, picture in zip(steps, subject.dataset.frames(index, view, steps, _coarse), strict=True):
            blank.append(bool(picture.std(axis=0).max() < _BLANK))
            if anchor is None or np.quantile(np.abs(picture - anchor), 0.999) >= _SAME:
                edges += [step] if step else []
                anchor = picture
    ends = [*edges[1:], length]
    return [
        Run(
            episode=index,
            first=first,
            last=end - 1,
            whole=end - first == length,
            blank=all(blank[first:end]),
            motion=_motion(posture[first:end]),
        )
        for first, end in zip(edges, ends, strict=True)
    ]


def _coarse(frames: np.ndarray) -> np.ndarray:
    """A grid of pixels of each picture, (n, P, 3) float32."""
    strides = [max(size // _GRID, 1) for size in frames.shape[1:3]]
    return frames[:, :: strides[0], :: strides[1]].reshape(len(frames), -1, 3).astype(np.float32)


def _frozen(view: str, runs: list[Run]) -> Iterator[Finding]:
    seen = [run for run in runs if not run.blank]
    usual = float(np.quantile([run.motion for run in seen], 0.9)) if len(seen) > _FEWEST else 0.0
    whole = [run.episode for run in seen if run.whole and run.motion > _JITTER]
    if whole:
        found, todo = "every picture equals the first while the numbers change", "Record those episodes again"
        yield Finding(severity="error", check="stuck", where=view, found=found, todo=todo, episodes=tuple(whole))
    long = [run for run in seen if not run.whole and run.last - run.first >= _LONG]
    frozen = [run for run in long if run.motion > max(_MOTION, _BEYOND * usual)]
    if frozen:
        worst = max(frozen, key=lambda run: run.motion)
        found = (
            f"the picture stands still from step {worst.first} to {worst.last} of episode {worst.episode} while the"
            " robot moves"
        )
        todo = "Leave those episodes out, or cut them there; a camera or its cable stopped while recording"
        episodes = tuple(dict.fromkeys(run.episode for run in frozen))
        yield Finding(severity="error", check="stuck", where=view, found=found, todo=todo, episodes=episodes)


def _blank(view: str, runs: list[Run]) -> Iterator[Finding]:
    """One colour: an error while the robot moves, else a warning (a camera that warms up)."""
    for moving in (True, False):
        blank = [run for run in runs if run.blank and (run.motion > _JITTER) == moving]
        if not blank:
            continue
        longest = max(blank, key=lambda run: run.last - run.first)
        found = f"pictures of one colour, such as steps {longest.first} to {longest.last} of episode {longest.episode}"
        found += " while the robot moves" if moving else ""
        todo = "Check the camera; cut those steps or leave the episodes out"
        severity: Severity = "error" if moving else "warning"
        episodes = tuple(dict.fromkeys(run.episode for run in blank))
        yield Finding(severity=severity, check="picture", where=view, found=found, todo=todo, episodes=episodes)
