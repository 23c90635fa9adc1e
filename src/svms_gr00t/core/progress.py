"""How long jobs report progress without printing: the library calls this protocol, the command line draws the bar."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Task(Protocol):
    """One bar. `advance` moves it; `note` shows a few live numbers beside it."""

    def advance(self, steps: int = 1) -> None: ...

    def note(self, text: str) -> None: ...


@runtime_checkable
class Progress(Protocol):
    """Opens bars; leaving the context closes the bar."""

    def task(self, title: str, total: int) -> AbstractContextManager[Task]: ...


class _SilentTask:
    def advance(self, steps: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Silent:
    """The default: reports nothing."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[_SilentTask]:
        yield _SilentTask()
