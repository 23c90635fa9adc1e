"""What both servers share: a socket in one asyncio loop, which waits for nothing, and two threads that do the work.

    loop      takes bytes in, sends bytes
    reader    makes requests of messages, refuses what is wrong, answers what needs no policy
    policy    asks the policy

Both threads do one thing at a time, for clients in turn (`turns.py`). Only requests that the policy can compute wait
for it, bounded in number and in bytes: who waits with most gives way to who waits with none, and who was never answered
well to who was. What a client had queued that has hung up is not computed.
"""

import asyncio
import ctypes
import gc
import logging
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.serve.limits import check_exposure
from svms_gr00t.serve.places import Place
from svms_gr00t.serve.service import WAITED, Service
from svms_gr00t.serve.turns import Desk, Intake, Job

log = logging.getLogger(__name__)
STOPPING = "the server is stopping"
HEARTBEAT_S = 0.05
GRACE_S = 1.0
"""What the request at work may still take when the server stops."""
FAREWELL_S = 0.4
"""How long the last words of a server that stops may take to leave."""
BURST = 8
"""Connections that are accepted at once, before any of them is turned away."""
TURN = 64
"""Frames of one client that are taken in before the others have their turn."""
REST = 4.0
"""Strangers have a fifth of the loop, for what they send at once, and of the reader."""
SHARE = 8
"""One client may have this part of the requests that wait."""
UNREAD_BYTES = 8 << 20
"""Most that waits to be read by a client that sends on; it is dropped then."""
GONE = "the client has hung up"
TIDY_S = 2.0
"""How long after clients have gone their memory goes back to the system, which an allocator would keep."""
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""Numbers of mallopt(3)."""
LARGE, HEAPS = 1 << 20, 2
"""Bytes of what is large, and heaps for what is small."""
_settled = threading.Event()
Reply = bytes | str
Seen = Callable[[bytes, bytes], None]
"""Takes one request and its reply, to record traffic."""


class Closes(Protocol):
    """A server of asyncio or of a library on it."""

    def close(self) -> Any: ...


class LoopServer(ABC):
    """Bound on construction; `run` serves until the service stops."""

    def __init__(self, service: Service, *, host: str, port: int, seen: Seen | None) -> None:
        """Port 0 takes a free one. Raises ConfigError for an open interface without a token and for a taken port."""
        check_exposure(host, service.token)
        self.service, self.seen = service, seen
        self.intake, self.reader = Intake("intake", rest=REST), Desk("reader", rest=REST)
        self.policy = Desk("policy")
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
            for desk in (self.intake, self.reader, self.policy):
                desk.close()
            self._socket.close()

    def read(self, place: Place, size: int, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Have a message of `size` bytes read by `work`, and `then` called in the loop with what it found."""

        def done(found: Any) -> None:
            place.reading -= size
            then(found)

        place.reading += size
        self.reader.put(Job(place=place, size=size, work=lambda _job: None if place.gone else work(), then=done))

    def ask(
        self, request: Any, *, place: Place, client: str, size: int, arrived: float, reply: Callable[[Reply], None]
    ) -> None:
        """Have the policy asked, and `reply` called in the loop, once: with the answer, or with why there is none."""

        def done(found: tuple[Reply, bool]) -> None:
            answer, well = found
            place.answered(size, well=well)
            reply(answer)

        def work(job: Job) -> tuple[Reply, bool]:
            if why := GONE if place.gone else STOPPING if self.service.stopping.is_set() else "":
                return self._refused(why)
            return self._answer(request, client, job.arrived)

        place.waiting += size
        job = Job(place=place, size=size, work=work, then=done, arrived=arrived)
        if (why := self._why_not(job)) is None:
            self.policy.put(job)
        else:
            job.answer(self._refused(why))

    def _why_not(self, job: Job) -> str | None:
        """Why a request may not wait; None after others have given way to it, where they had to."""
        if self.service.stopping.is_set():
            return STOPPING
        limits, waiting = self.service.limits, self.policy.turns.waiting
        busy = f"the server is too busy: {len(waiting)} requests wait already"
        if sum(one.place is job.place for one in waiting) >= max(1, limits.max_waiting // SHARE):
            return busy
        bounds: list[tuple[int, Callable[[Job], int]]]
        bounds = [(limits.max_waiting, lambda _one: 1), (2 * limits.max_bytes, lambda one: one.size)]
        return None if all(self._fits(job, most, size, busy) for most, size in bounds) else busy

    def _fits(self, job: Job, most: int, size: Callable[[Job], int], busy: str) -> bool:
        """Whether there is room for it, by number or by bytes, when others have given way."""
        waiting = self.policy.turns.waiting
        while sum(map(size, waiting)) + size(job) > most:
            share = Counter[Place]()
            for one in waiting:
                share[one.place] += size(one)
            first = max(waiting, key=lambda one: (job.place.known and not one.place.known, share[one.place]))
            fairer = share[first.place] - size(first) >= share[job.place] + size(job)
            if not fairer and first.place.known >= job.place.known:
                return False
            self.policy.refuse(first, self._refused(busy))
        return True

    @abstractmethod
    async def _listen(self) -> Closes:
        """Begin to accept connections of `self._socket`."""

    @abstractmethod
    def _answer(self, request: Any, client: str, arrived: float) -> tuple[Reply, bool]:
        """The reply, and whether it is none of an error; in the policy's thread."""

    @abstractmethod
    def _refusal(self, text: str) -> Reply:
        """An error reply, counted."""

    @abstractmethod
    async def _goodbye(self) -> None:
        """End all connections, politely."""

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_say)
        for desk in (self.intake, self.reader, self.policy):
            desk.open(loop)
        server = await self._listen()
        self._socket.listen(socket.SOMAXCONN)  # a burst may wait; it is accepted by and by
        await self._tend()
        server.close()
        ends = time.monotonic() + GRACE_S
        while self.policy.now is not None and time.monotonic() < ends:
            await asyncio.sleep(0.01)
        late = [] if self.policy.now is None else [self.policy.now]
        for job in [*late, *self.policy.close()]:
            job.answer(self._refused(STOPPING))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._goodbye(), FAREWELL_S)

    async def _tend(self) -> None:
        """What is to be done now and then, until the service stops."""
        service, tidied, left = self.service, time.monotonic(), 0
        while not service.stopping.is_set():
            began = time.monotonic()
            await asyncio.sleep(HEARTBEAT_S)
            now = time.monotonic()
            service.places.lags(now - began - HEARTBEAT_S)
            for job in list(self.policy.turns.waiting):
                if job.place.gone:
                    self.policy.refuse(job, self._refused(GONE))
                elif now - job.arrived > service.limits.patience_s:
                    self.policy.refuse(job, self._refused(WAITED.format(service.limits.patience_s)))
            if now - tidied > TIDY_S and service.places.left != left:
                tidied, left = now, service.places.left
                _give_back()

    def _refused(self, text: str) -> tuple[Reply, bool]:
        return self._refusal(text), False


def _say(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no client can be told. Running out of descriptors ends nothing: asyncio accepts again in a second."""
    log.error("%s: %s", context.get("message", "a connection"), context.get("exception", "no more is known"))


def few_heaps() -> None:
    """Large messages get pages of their own, which go back to the system when they are freed; small ones few heaps.

    By itself glibc soon keeps large sizes too, in heaps of many threads, full of holes; other C libraries stay as they
    are. For a process that does nothing but serve, before it starts threads.
    """
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGE)
        library.mallopt(M_ARENA_MAX, HEAPS)


def settle() -> None:
    """Everything loaded so far stays, for a process that does nothing but serve.

    A full collection then looks at what clients left behind, in milliseconds, instead of at all of PyTorch. The second
    one makes Python forget how many objects there were, by which it chooses when to look again.
    """
    gc.collect()
    gc.freeze()
    gc.collect()
    _settled.set()


def _give_back() -> None:
    """What connections left in cycles, then free pages of the C library's heap; elsewhere than with glibc the first.

    Where nothing was settled a collection would hold up the robots: it comes when Python wants it.
    """
    if _settled.is_set():
        gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
