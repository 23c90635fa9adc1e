"""What the terminal shows: text as it is, progress bars with the time left, and how a command ended."""

import errno
import logging
import os
import platform
import shlex
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from svms_gr00t.core.errors import SvmsError
from svms_gr00t.core.escape import plain
from svms_gr00t.core.files.whole import NO_ROOM
from svms_gr00t.core.provenance import commit, versions

if TYPE_CHECKING:
    from svms_gr00t.data.lerobot.sound import Skipped


class PlainConsole(Console):
    """Shows every text as it is: no markup, no emoji, and of control characters their escapes.

    Colours come from `style=` and from `rich.text.Text`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """In a pipe or a file a text is one line, however long: 80 columns are nobody's there."""
        if not self.is_terminal and all(isinstance(one, (str, Text)) for one in objects):
            options.setdefault("soft_wrap", True)
        super().print(*objects, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Before the layout, so that escapes have their room."""
        return super().render_str(plain(text, lines=True), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything that is drawn comes by here, whatever it is made of."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else plain(text, lines=True), style, control)


console = PlainConsole(quiet=os.environ.get("RANK", "0") != "0")
"""Of several processes of a run the first one speaks; errors are everyone's."""
errors = PlainConsole(stderr=True)
INTERRUPTED = "Stopped. What was finished is kept; run the same command again to go on."
MENDABLE, BUG = 2, 70
"""Exit codes: something that the user can mend; a fault of ours (EX_SOFTWARE of sysexits)."""
_ADVICE = dict.fromkeys(NO_ROOM, "Make room there, then run the same command again")
_ADVICE |= {errno.EMFILE: "Raise the limit of open files (ulimit -n)"}
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
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=console) as progress:
            yield _Bar(progress, progress.add_task(title, total=total, note=""))


class _PlainLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record), lines=True)


def ended(command: Callable[[], int], words: Sequence[str]) -> int:
    """Run a command given by these words; its exit code, or that of what ended it, which is said in one sentence.

    What nobody foresaw is a fault of ours: the traceback goes into a file that may be sent to us.
    """
    if logging.lastResort is not None:  # it shows warnings, with names out of files in them
        logging.lastResort.setFormatter(_PlainLines())
    try:
        return command()
    except SvmsError as error:
        return _say(str(error))
    except OSError as error:
        return _say(f"{error}. {_ADVICE.get(error.errno or 0, 'Check the path and its permissions')}")
    except KeyboardInterrupt as stop:
        errors.print(INTERRUPTED)
        return 128 + (stop.args[0] if stop.args else 2)  # as a shell tells it: 130 after Ctrl-C, 143 after SIGTERM
    except Exception as error:  # noqa: BLE001  # written down whole
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's own for a GPU
            return _say(f"not enough memory ({_first_line(error)}). `svms-gr00t plan` says what takes less")
        return _say(f"a fault of svms-gr00t itself ({_first_line(error)}). {_report(error, words)}", BUG)


def _say(text: str, code: int = MENDABLE) -> int:
    errors.print(f"error: {text}", style="red", soft_wrap=True)
    return code


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0][:200]


def _report(error: BaseException, words: Sequence[str]) -> str:
    """Write everything about a fault of ours but secrets into a new file; a sentence that says where."""
    facts = {"command": shlex.join(["svms-gr00t", *_without_secrets(words)]), "system": platform.platform()}
    facts |= versions() | {"commit": commit() or "unknown"}
    text = "".join(f"{name}: {value}\n" for name, value in facts.items())
    text += "\n" + "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(prefix="svms-gr00t-fault-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:  # no room for it either
        errors.print(text, soft_wrap=True)
        return "Report what stands above"
    return f"Report it with {path}, which holds the traceback, versions and the command"


def _without_secrets(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for word in words:
        flag, equals, _ = word.partition("=")
        if "token" in flag and flag.startswith("-"):
            word = f"{flag}=..." if equals else flag
        elif kept and "token" in kept[-1] and kept[-1].startswith("-") and "=" not in kept[-1]:
            word = "..."
        kept.append(word)
    return kept
