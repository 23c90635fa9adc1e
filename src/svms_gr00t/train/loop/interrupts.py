"""Ctrl-C between steps, never inside one: half an optimiser step saved is a run that resumes into other numbers.

SIGTERM (Slurm, systemd, Kubernetes) and SIGHUP (a closed terminal) are treated alike.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class BetweenSteps:
    """Context in which the first such signal waits in `asked`; a second one of its kind acts at once, as usual.

    A signal that is ignored (SIGHUP under nohup) stays so. Outside the main thread Python delivers none, and this does
    nothing.
    """

    def __init__(self) -> None:
        self.asked = 0
        """Number of the signal that waits; 0: none."""
        self._usual: dict[int, Any] = {}

    def __enter__(self) -> "BetweenSteps":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._usual[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        for number, usual in self._usual.items():
            signal.signal(number, usual)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.asked = number
        signal.signal(number, self._usual[number])
