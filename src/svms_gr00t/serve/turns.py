"""Whose turn it is, when many clients want one thread: that takes bytes in, that reads messages, that asks the policy.

Clients whom the policy answered well before and strangers take turns; among each, whoever has had least of the thread's
time lately goes first (start-time fair queueing: Goyal, Vin and Cheng 1996).

    start(c)  = max(V, end(c))        when client c, of whom nothing waits, wants something
    V         = start(c)              of the client whose turn it is
    end(c)    = start(c) + seconds    that its turn took

So a client that asks and asks, or whose messages are long to read, waits for itself; one that comes now and then waits
for at most one turn of each of the others. Where strangers could use up the processor with what costs them nothing,
all of them together have a share of it.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from svms_gr00t.serve.places import Place

LONGEST_REST_S = 0.02
"""A good client is a stranger at first: one long message of another may not keep it waiting."""


@dataclass(eq=False, kw_only=True)
class Job:
    """Something that a client waits for."""

    place: Place
    size: int
    """Bytes of its message."""
    work: Callable[["Job"], Any]
    """Called in the thread; raises nothing."""
    then: Callable[[Any], None]
    """Called in the loop with what `work` returned, once; or with a refusal."""
    arrived: float = field(default_factory=time.monotonic)
    answered: bool = False

    def answer(self, found: Any) -> None:
        """Tell the client, who has waited for this; the first time alone."""
        if not self.answered:
            self.answered = True
            self.then(found)


class Turns:
    """Jobs that wait, and who goes first. Of one thread."""

    def __init__(self) -> None:
        self.waiting: list[Job] = []
        self._start: WeakKeyDictionary[Place, float] = WeakKeyDictionary()  # of its next turn
        self._now, self._strangers_next = 0.0, False

    def add(self, job: Job) -> None:
        """It waits, behind others of its client."""
        if all(one.place is not job.place for one in self.waiting):
            self._start[job.place] = max(self._now, self._start.get(job.place, 0.0))
        self.waiting.append(job)

    def take(self, *, strangers: bool = True) -> Job | None:
        """The next one, no longer waiting, where `strangers` may be; None when there is none."""
        may = [one for one in self.waiting if strangers or one.place.known]
        if not may:
            return None
        of_its_kind = [one for one in may if one.place.known is not self._strangers_next] or may
        first = min(of_its_kind, key=lambda one: self._start[one.place])
        self._strangers_next = first.place.known
        self._now = max(self._now, self._start[first.place])
        self.waiting.remove(first)
        return first

    def took(self, job: Job, seconds: float) -> None:
        """How long the turn of a job was."""
        self._start[job.place] = max(self._now, self._start[job.place]) + seconds


class Desk:
    """A thread that does one job at a time. Everything but the work happens in the loop."""

    def __init__(self, name: str, *, rest: float = 0.0) -> None:
        """After the turn of a stranger no other stranger has one for `rest` times as long, and 20 ms at most."""
        self.turns = Turns()
        self.now: Job | None = None
        self._name, self._rest, self._strangers_from, self._closed = name, rest, 0.0, False
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to work."""
        self.loop = loop
        self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        threading.Thread(target=self._work, args=(loop,), daemon=True, name=self._name).start()

    def put(self, job: Job) -> None:
        """Do it when its turn comes."""
        self.turns.add(job)
        self._next()

    def refuse(self, job: Job, reply: Any) -> None:
        """It waits no longer, and gets this reply."""
        self.turns.waiting.remove(job)
        job.answer(reply)

    def close(self) -> list[Job]:
        """Begin nothing more; what still waits."""
        self._closed = True
        self._jobs.put(None)
        return self.turns.waiting

    def _next(self) -> None:
        if self.now is not None or self._closed:
            return
        wait = self._strangers_from - time.monotonic()
        self.now = self.turns.take(strangers=wait <= 0)
        if self.now is not None:
            self._start(self.now)
        elif self.turns.waiting:
            self.loop.call_later(wait, self._next)

    def _start(self, job: Job) -> None:
        self._jobs.put(job)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (job := self._jobs.get()) is not None:
            began = time.monotonic()
            found = job.work(job)
            with suppress(RuntimeError):  # the loop has ended without waiting for this
                loop.call_soon_threadsafe(self._done, job, found, time.monotonic() - began)
            del job, found

    def _done(self, job: Job, found: Any, seconds: float) -> None:
        self.now = None
        self.turns.took(job, seconds)
        if not job.place.known:
            self._strangers_from = time.monotonic() + min(self._rest * seconds, LONGEST_REST_S)
        try:
            job.answer(found)
        finally:
            self._next()


class Intake(Desk):
    """The loop itself, which does the others' work between any two jobs."""

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Needs no thread."""

    def _start(self, job: Job) -> None:
        self.loop.call_soon(self._run, job)

    def _run(self, job: Job) -> None:
        began = time.monotonic()
        found = job.work(job)
        self._done(job, found, time.monotonic() - began)

    def later(self, place: Place, work: Callable[[], None]) -> None:
        """Go on with a client that sent more than fits into one turn."""
        self.put(Job(place=place, size=0, work=lambda _job: work(), then=lambda _found: None))
