"""Ctrl-C between steps, never inside one: half an optimiser step saved is a run that resumes into other numbers."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class BetweenSteps:
    """Context in which the first Ctrl-C waits for `check`; a second one stops at once, as usual.

    Outside the main thread Python delivers no signals, and this does nothing.
    """

    def __init__(self) -> None:
        self._asked = False
        self._usual: Any = None

    def __enter__(self) -> "BetweenSteps":
        if threading.current_thread() is threading.main_thread():
            self._usual = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        if self._usual is not None:
            signal.signal(signal.SIGINT, self._usual)

    def check(self) -> None:
        """Raise the KeyboardInterrupt that is waiting, if one is."""
        if self._asked:
            raise KeyboardInterrupt

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
