"""What both servers share: a socket in one asyncio loop, which never waits for the policy, and a thread that does.

    loop      reads, answers at once what needs no policy, queues the rest, sends
    worker    asks the policy, one request at a time

Requests wait in one queue, bounded in number and in bytes. Clients have their turn one after the other, however many
requests one of them sends; when the queue is full, who waits with most gives way to who waits with none, and who was
never answered well to who was. What a killed client had queued is computed once, and its reply goes nowhere.
"""

import asyncio
import ctypes
import logging
import queue
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.serve.limits import check_exposure
from svms_gr00t.serve.places import Place
from svms_gr00t.serve.service import Service

log = logging.getLogger(__name__)
STOPPING = "the server is stopping"
GRACE_S = 1.0
"""What the request at work may still take when the server stops."""
FAREWELL_S = 0.4
"""How long the last words of a server that stops may take to leave."""
BURST = 8
"""Connections that are accepted at once, before any of them is turned away."""
SHARE = 8
"""One client may have this part of the requests that wait."""
UNREAD_BYTES = 8 << 20
"""Most that waits to be read by a client that sends on; it is dropped then."""
TIDY_S = 2.0
"""How long after clients were dropped their memory goes back to the system, which an allocator would keep."""
Reply = bytes | str
Seen = Callable[[bytes, bytes], None]
"""Takes one request and its reply, to record traffic."""


class Closes(Protocol):
    """A server of asyncio or of a library on it."""

    def close(self) -> Any: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """A request that waits for the policy."""

    request: Any
    size: int
    """Bytes of its message."""
    client: str
    place: Place
    reply: Callable[[Reply], None]
    """Called in the loop, once."""
    arrived: float = field(default_factory=time.monotonic)


class LoopServer(ABC):
    """Bound on construction; `run` serves until the service stops."""

    def __init__(self, service: Service, *, host: str, port: int, seen: Seen | None) -> None:
        """Port 0 takes a free one. Raises ConfigError for an open interface without a token and for a taken port."""
        check_exposure(host, service.token)
        self.service, self.seen = service, seen
        self._waiting: list[Job] = []
        self._working: Job | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            address = ("" if host == "*" else host, port)
            self._socket = socket.create_server(address, family=family, backlog=socket.SOMAXCONN)
        except OSError as error:
            hint = "Choose another --port, or stop the server that holds it"
            raise ConfigError("--port", got=port, want=f"a free port on {host} ({error})", hint=hint) from error
        self.port = int(self._socket.getsockname()[1])

    def run(self) -> None:
        """Serve until `service.stopping` is set; the request at work has a second to finish."""
        try:
            asyncio.run(self._serve())
        finally:
            self._jobs.put(None)
            self._socket.close()

    def submit(self, job: Job) -> str | None:
        """Queue a request; or say why not."""
        limits = self.service.limits
        if self.service.stopping.is_set():
            return STOPPING
        busy = f"the server is too busy: {len(self._waiting)} requests wait already"
        waits = Counter(one.client for one in self._waiting)
        if waits[job.client] >= max(1, limits.max_waiting // SHARE):
            return busy
        if sum(one.size for one in self._waiting) + job.size > 2 * limits.max_bytes:
            return busy
        if len(self._waiting) >= limits.max_waiting:
            most = max(self._waiting, key=lambda one: (job.place.known and not one.place.known, waits[one.client]))
            if waits[most.client] < waits[job.client] + 2 and most.place.known >= job.place.known:
                return busy
            self._waiting.remove(most)
            self._settle(most, self._refusal(busy), well=False)
        job.place.waiting += job.size
        self._waiting.append(job)
        self._next()
        return None

    @abstractmethod
    async def _listen(self) -> Closes:
        """Begin to accept connections of `self._socket`."""

    @abstractmethod
    def _answer(self, job: Job) -> tuple[Reply, bool]:
        """The reply, and whether it is none of an error; in the worker thread."""

    @abstractmethod
    def _refusal(self, text: str) -> Reply:
        """An error reply, counted."""

    @abstractmethod
    async def _goodbye(self) -> None:
        """End all connections, politely."""

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_say)
        threading.Thread(target=self._work, args=(loop,), daemon=True, name="policy").start()
        server = await self._listen()
        self._socket.listen(socket.SOMAXCONN)  # a burst may wait; it is accepted by and by
        tidied, lost = time.monotonic(), 0
        while not self.service.stopping.is_set():
            await asyncio.sleep(0.05)
            if time.monotonic() - tidied > TIDY_S and self.service.places.lost != lost:
                tidied, lost = time.monotonic(), self.service.places.lost
                _give_back()
        server.close()
        ends = time.monotonic() + GRACE_S
        while self._working is not None and time.monotonic() < ends:
            await asyncio.sleep(0.01)
        late = [] if self._working is None else [self._working]
        for job in [*late, *self._waiting]:
            self._settle(job, self._refusal(STOPPING), well=False)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._goodbye(), FAREWELL_S)

    def _next(self) -> None:
        if self._working is None and self._waiting and not self.service.stopping.is_set():
            first = min(range(len(self._waiting)), key=lambda i: self._waiting[i].place.served)
            self._working = self._waiting.pop(first)
            self._working.place.served = time.monotonic()
            self._jobs.put(self._working)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (job := self._jobs.get()) is not None:
            reply, well = self._answer(job)
            with suppress(RuntimeError):  # the loop has ended without waiting for this
                loop.call_soon_threadsafe(self._finish, job, reply, well)
            del job, reply

    def _finish(self, job: Job, reply: Reply, well: bool) -> None:
        self._working = None
        self._settle(job, reply, well=well)
        self._next()

    def _settle(self, job: Job, reply: Reply, *, well: bool) -> None:
        job.place.answered(job.size, well=well)
        job.reply(reply)


def _say(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no client can be told. Running out of descriptors ends nothing: asyncio accepts again in a second."""
    log.error("%s: %s", context.get("message", "a connection"), context.get("exception", "no more is known"))


def _give_back() -> None:
    """Free pages of the C library's heap; elsewhere than with glibc nothing."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
