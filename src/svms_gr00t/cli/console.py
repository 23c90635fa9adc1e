"""What the terminal shows: progress bars with the time left, and errors as one sentence."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from svms_gr00t.data.lerobot.sound import Skipped

console = Console(quiet=os.environ.get("RANK", "0") != "0")
"""Of several processes of a run the first one speaks; errors are everyone's."""
errors = Console(stderr=True)
LINE_EVERY = 30.0
"""Seconds between the lines of a log file."""


def tell_skipped(skipped: "Iterable[Skipped]") -> None:
    """A line for each broken episode that was left out."""
    for one in skipped:
        text = f"episode {one.episode} is left out: {one.reason}"
        console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: int = 1) -> None:
        """Move on by so many steps."""
        self._progress.advance(self._task, steps)

    def note(self, text: str) -> None:
        """Show a few live numbers at the end of the line."""
        self._progress.update(self._task, note=text)


class _Lines:
    """A bar for a log file: a line now and then, with the time left."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done, self._note = title, total, 0, ""
        self._first: tuple[float, int] | None = None
        self._said = time.monotonic()
        console.print(f"{title} ({total})", highlight=False)

    def advance(self, steps: int = 1) -> None:
        """Move on by so many steps."""
        now = time.monotonic()
        self._done += steps
        # What a resumed run finds done already took no time; the rate counts from here.
        began, before = self._first = self._first or (now, self._done)
        if now - self._said >= LINE_EVERY and self._done > before:
            left = (self._total - self._done) * (now - began) / (self._done - before)
            count = f"{self._done}/{self._total}"
            console.print(f"{self._title} {count}, {left:.0f} s left {self._note}".rstrip(), highlight=False)
            self._said = now

    def note(self, text: str) -> None:
        """Remember a few live numbers for the next line."""
        self._note = text


class Bars:
    """The library's `Progress` protocol: bars on a terminal, a line every half minute in a log file."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[_Bar | _Lines]:
        """One bar for one job."""
        if not console.is_terminal:
            yield _Lines(title, total)
            return
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as progress:
            yield _Bar(progress, progress.add_task(title, total=total, note=""))
