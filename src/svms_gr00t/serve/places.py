"""Who may stay connected when there is room for no more: those who ask, before those who only hold the line.

A server has places for so many clients, and never for more than its process has descriptors. When a newcomer finds no
place, the client that has gone longest without an answer of the policy loses its own, if it is idle; if nobody is idle,
the newcomer is turned away. Both protocols share the places of one service.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from svms_gr00t.serve.limits import Limits

RESERVE = 64
"""Descriptors that are left alone: for the servers, for files, and for connections that are just being turned away."""
LOBBY = 64
"""Connections beside the clients: those whose handshake goes on, and health checks."""

HANDSHAKE_TURNS = 4
"""How often the loop must come round between a connection and its first request."""
STALL_S = 0.1
"""Half a message counts as so much older than it is: of two that are new the larger one is dropped."""


@dataclass(eq=False)
class Place:
    """One connection."""

    drop: Callable[[], None]
    """Ends the connection; may be called from any thread."""
    since: float = field(default_factory=time.monotonic)
    """Of its last answer, or of its arrival."""
    admitted: bool = False
    """Whether it is a client, and no longer in the lobby."""
    gone: bool = False
    """Whether the connection has ended."""
    known: bool = False
    """Whether the policy answered it before."""
    waiting: int = 0
    """Bytes of its requests that wait for their answer; not 0 while there are any."""
    reading: int = 0
    """Bytes of its messages that wait to be read."""
    held: int = 0
    """Bytes in memory of requests that are not complete, or behind the one that waits."""
    holds_since: float = 0.0

    def hold(self, size: int) -> None:
        """It holds so many bytes now."""
        if size and not self.held:
            self.holds_since = time.monotonic()
        self.held = size

    def progressed(self) -> None:
        """Its handshake is done: from now on a request may be on its way."""
        self.since = time.monotonic()

    def answered(self, size: int, *, well: bool) -> None:
        """A request of `size` bytes has its reply; `well`, by the policy and without an error."""
        self.waiting -= size
        if well:
            self.since, self.known = time.monotonic(), True


class Places:
    """The connections of a service; may be used from several threads."""

    def __init__(self, limits: "Limits", descriptors: int | None = None) -> None:
        """`descriptors` is how many the connections may have, by default what the process has left."""
        self.limits, left = limits, _left() if descriptors is None else descriptors
        self.most = min(limits.max_clients + LOBBY, left)
        self._all: set[Place] = set()
        self._guard = threading.Lock()
        self.lost = self.refused = 0
        """Connections that lost their place, and that found none."""
        self.left = 0
        """Connections that have ended."""
        self._lag = 0.0

    def enter(self, drop: Callable[[], None]) -> Place | None:
        """A place in the lobby for a new connection; None when it must be turned away."""
        with self._guard:
            crowded = len(self._all) >= self.most
            idlest = self._take_from(self._all, asking=False) if crowded else None
            place = Place(drop) if idlest is not None or not crowded else None
            if place is not None:
                self._all.add(place)
        return self._told(place, idlest)

    def admit(self, place: Place, *, asking: bool = False) -> bool:
        """Whether a connection of the lobby may be a client; who is `asking` goes before everybody who never did."""
        with self._guard:
            clients = [one for one in self._all if one.admitted]
            crowded = len(clients) >= self.limits.max_clients
            idlest = self._take_from(clients, asking=asking) if crowded else None
            place.admitted, place.since = place in self._all and (idlest is not None or not crowded), time.monotonic()
        return self._told(place if place.admitted else None, idlest) is not None

    def leave(self, place: Place) -> None:
        """Its connection has ended."""
        with self._guard:
            self._all.discard(place)
            self.left += 1
        place.gone = True

    def lags(self, seconds: float) -> None:
        """How late a server's loop is at the moment: nobody is called silent who was not listened to."""
        self._lag = max(seconds, 0.9 * self._lag)

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        with self._guard:
            return sum(one.admitted for one in self._all)

    def weigh(self) -> None:
        """When all together hold twice the largest message, drop who holds most of it for longest.

        A good message is large for a moment, half a message is until somebody drops it.
        """
        with self._guard:
            load = {one: one.held + one.reading for one in self._all}
            if sum(load.values()) <= 2 * self.limits.max_bytes:
                return
            now = time.monotonic()
            greediest = max(load, key=lambda one: load[one] * (STALL_S + now - one.holds_since))
            self._all.discard(greediest)
        self.lost += 1
        greediest.drop()

    def _take_from(self, places: Iterable[Place], *, asking: bool) -> Place | None:
        """The idlest of these, without its place: first who never asked for anything, then who did so long ago."""
        now, limits = time.monotonic(), self.limits
        patience = {False: 0.0 if asking else limits.silent_s + HANDSHAKE_TURNS * self._lag, True: limits.idle_s}
        quiet = [one for one in places if not one.waiting and not one.reading]
        idle = [one for one in quiet if now - one.since > patience[one.known]]
        idlest = min(idle, key=lambda one: (one.known, one.since), default=None)
        if idlest is not None:
            self._all.discard(idlest)
        return idlest

    def _told(self, place: Place | None, idlest: Place | None) -> Place | None:
        """The place, after the one that it was taken from has been dropped."""
        if idlest is not None:
            self.lost += 1
            idlest.drop()
        self.refused += place is None
        return place


def _left() -> int:
    """How many descriptors this process may still open, less what is left alone; at least a handful."""
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = len(os.listdir("/dev/fd"))
    except (ImportError, OSError):  # Windows counts sockets otherwise
        return 1 << 62
    return (1 << 62) if soft == resource.RLIM_INFINITY else max(soft - taken - RESERVE, 8)
