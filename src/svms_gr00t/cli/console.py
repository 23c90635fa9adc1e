"""What the terminal shows: progress bars with the time left, and errors as one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

console = Console()
errors = Console(stderr=True)


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: int = 1) -> None:
        """Move on by so many steps."""
        self._progress.advance(self._task, steps)

    def note(self, text: str) -> None:
        """Show a few live numbers at the end of the line."""
        self._progress.update(self._task, note=text)


class Bars:
    """The library's `Progress` protocol on a terminal; without one (a log file) each job is a line at its start."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[_Bar]:
        """One bar for one job."""
        if not console.is_terminal:
            console.print(f"{title} ({total})", highlight=False)
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            yield _Bar(progress, progress.add_task(title, total=total, note=""))
