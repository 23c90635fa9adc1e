"""Ways to break what a robot sees, feels and hears.

    stale       the value of k steps ago, not one that stands still: it moves as the robot does, only later
    black       zeros in every camera, or in the first
    exchanged   two cameras of one size in each other's place
    swapped     the instruction of another task

A stale sensor is tried from step k on; before, it shows the first step as a robot at rest does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.protocols import INSTRUCTION, fixed_seed
from svms_gr00t.evaluate.open_loop.paraphrases import other_instructions
from svms_gr00t.evaluate.open_loop.recorded import Recorded

SECONDS = (0.5, 1.0, 2.0)
"""How stale a sensor is."""
Observations = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One way to break observations of a recorded episode at some steps."""

    spoil: Callable[[Recorded, Sequence[int]], Observations]
    after: int = 0
    """First step at which something differs."""


def shifts(dataset: Any) -> dict[str, Shift]:
    """By name; those that this dataset allows. Raises DataError for tasks with one instruction only where asked."""
    views = list(dataset.modality.video)
    named = {"cameras black": Shift(spoil=black(views))}
    if len(views) > 1:
        named[f"{views[0]} black"] = Shift(spoil=black(views[:1]))
        named["cameras exchanged"] = Shift(spoil=exchanged(views))
    if len(set(dataset.tasks.values())) > 1:
        named["words swapped"] = Shift(spoil=swapped(dataset))
    for what, kind in (("state", "state."), ("cameras", "video.")):
        for seconds in SECONDS:
            steps = round(seconds * dataset.fps)
            named[f"{what} {seconds:g} s stale"] = Shift(spoil=stale(kind, steps), after=steps)
    return named


def black(views: Sequence[str]) -> Callable[[Recorded, Sequence[int]], Observations]:
    """These cameras show nothing."""

    def spoil(recorded: Recorded, steps: Sequence[int]) -> Observations:
        keys = [f"video.{view}" for view in views]
        return [one | {key: np.zeros_like(one[key]) for key in keys} for one in recorded.at(steps)]

    return spoil


def exchanged(views: Sequence[str]) -> Callable[[Recorded, Sequence[int]], Observations]:
    """The first two cameras in each other's place. Raises DataError where they differ in size."""
    one, other = (f"video.{view}" for view in views[:2])

    def spoil(recorded: Recorded, steps: Sequence[int]) -> Observations:
        found = recorded.at(steps)
        if found and found[0][one].shape != found[0][other].shape:
            got, hint = f"{found[0][one].shape} and {found[0][other].shape}", "Leave the exchange out"
            raise DataError("cameras", got=got, want="one size", hint=hint)
        return [seen | {one: seen[other], other: seen[one]} for seen in found]

    return spoil


def stale(kind: str, ago: int) -> Callable[[Recorded, Sequence[int]], Observations]:
    """Keys that begin with `kind` as they were `ago` steps before, everything else as it is."""

    def spoil(recorded: Recorded, steps: Sequence[int]) -> Observations:
        old = recorded.at([max(step - ago, 0) for step in steps])
        pairs = zip(recorded.at(steps), old, strict=True)
        return [now | {key: value for key, value in then.items() if key.startswith(kind)} for now, then in pairs]

    return spoil


def swapped(dataset: Any) -> Callable[[Recorded, Sequence[int]], Observations]:
    """The words of another task, the same ones for the same words."""

    def spoil(recorded: Recorded, steps: Sequence[int]) -> Observations:
        return [one | {INSTRUCTION: other(one[INSTRUCTION])} for one in recorded.at(steps)]

    def other(words: str) -> str:
        others = other_instructions(words, dataset.tasks.values())
        if not others:
            want, hint = "a dataset with more than one instruction", "Leave the swap out"
            raise DataError(dataset.root, got="one instruction", want=want, hint=hint)
        return others[fixed_seed(*words.encode()[:64]) % len(others)]

    return spoil
