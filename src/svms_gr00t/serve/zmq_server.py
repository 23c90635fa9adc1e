"""N1.6's ZMQ server on tcp: one msgpack request, one msgpack reply.

It speaks the wire protocol itself (ZMTP 3.0, https://rfc.zeromq.org/spec/23, without encryption) to ZMQ's own REQ and
DEALER sockets. A socket of the library hides its connections: it accepts until the process has no descriptor left,
takes half messages of everybody into memory, and may end the process when clients hang up at the wrong moment.
"""

import asyncio
import socket
import struct
import time
from contextlib import suppress
from functools import partial
from typing import Any

from svms_gr00t.serve.loop import BURST, TURN, UNREAD_BYTES, Closes, LoopServer, Reply, Seen
from svms_gr00t.serve.places import Place
from svms_gr00t.serve.service import LATER, Service
from svms_gr00t.serve.wire import pack

HANDSHAKE_S = 5.0
"""A connection that speaks no ZMQ by then is dropped."""
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
"""Signature, version, mechanism, and 32 bytes of nothing."""
READY = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"ROUTER\x08Identity" + bytes(4)
MORE, LONG, COMMAND = 1, 2, 4
"""Flags of a frame."""
MOST_COMMAND = 4096
MOST_PARTS = 4


class ZmqServer(LoopServer):
    """Bound on construction; `run` serves until the service stops."""

    def __init__(
        self, service: Service, *, host: str = "127.0.0.1", port: int = 5555, seen: Seen | None = None
    ) -> None:
        """Port 0 takes a free one. Raises ConfigError for an open interface without a token and for a taken port."""
        super().__init__(service, host=host, port=port, seen=seen)
        self.peers: set[_Peer] = set()
        self._met = 0

    def received(self, peer: "_Peer", parts: list[bytes]) -> bool:
        """Whether a whole message of a client is a request, which is read now."""
        if len(parts) != 2 or parts[0]:
            self.service.refuse("no request")
            return False
        message, arrived = parts[1], time.monotonic()
        read = partial(self._read, peer, message, arrived)
        self.read(peer.place, len(message), partial(self._opened, message), read)
        return True

    def _opened(self, message: bytes) -> tuple[Any, bytes | None]:
        """The request of a message, and its reply where it needs no policy; in the reader's thread."""
        request, reply = self.service.receive(message)
        return request, None if reply is LATER else _packed(self.service, reply)

    def _read(self, peer: "_Peer", message: bytes, arrived: float, found: tuple[Any, bytes | None] | None) -> None:
        if found is None:  # it has hung up
            return
        (request, reply), place, told = found, peer.place, partial(self._send, peer, message)
        if reply is not None:
            told(reply)
        elif place.admitted or self.service.places.admit(place, asking=True):
            self.ask(request, place=place, client=peer.name, size=len(message), arrived=arrived, reply=told)
        else:
            told(self._refusal("the server is too busy: no place is left"))
        peer.go_on()

    def name(self) -> str:
        """Of a new connection, whose memory may be meant."""
        self._met += 1
        return f"zmq {self._met}"

    async def _listen(self) -> Closes:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _Peer(self), sock=self._socket, backlog=BURST)

    def _answer(self, request: Any, client: str, arrived: float) -> tuple[bytes, bool]:
        reply = _packed(self.service, self.service.ask_policy(request, arrived, client))
        return reply, not reply.startswith(b"\x81\xa5error")

    def _refusal(self, text: str) -> bytes:
        return pack(self.service.refuse(text))

    async def _goodbye(self) -> None:
        try:
            while any(peer.unread for peer in self.peers):
                await asyncio.sleep(0.01)
        finally:
            for peer in list(self.peers):
                peer.drop_now()

    def _send(self, peer: "_Peer", message: bytes, reply: Reply) -> None:
        assert isinstance(reply, bytes)
        if self.seen is not None:
            self.seen(message, reply)
        peer.send(reply)


class _Peer(asyncio.Protocol):
    """One connection: a greeting, a READY, then frames, which a message has one or more of."""

    def __init__(self, server: ZmqServer) -> None:
        self.server, self.name = server, server.name()
        self.place: Place = Place(self.drop)
        self._loop = asyncio.get_running_loop()
        self._buffer, self._parts = bytearray(), list[bytes]()
        self._greeted = self._ready = self._resting = self._asking = False

    def connection_made(self, transport: Any) -> None:
        """Take a place; without one, hang up: a client of ZMQ keeps its request, and comes again."""
        self.transport: asyncio.Transport = transport
        place = self.server.service.places.enter(self.drop)
        if place is None:
            transport.abort()
            return
        self.place = place
        self.server.peers.add(self)
        _notice_death(transport.get_extra_info("socket"))
        self._loop.call_later(HANDSHAKE_S, self._hurry)
        transport.write(GREETING)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back, and forget what was sent."""
        self.server.service.places.leave(self.place)
        self.server.peers.discard(self)
        self._buffer, self._parts = bytearray(), []

    def data_received(self, data: bytes) -> None:
        """Count before reading; who holds too much is dropped, and who does not read what it is sent."""
        if self.unread > UNREAD_BYTES:
            self.transport.abort()
            return
        self._buffer += data
        self._count()
        self.server.service.places.weigh()
        if self._resting or self._asking:
            self.transport.pause_reading()
        else:
            self._read()

    @property
    def unread(self) -> int:
        """Bytes that wait to be read by the client."""
        return self.transport.get_write_buffer_size()

    def send(self, reply: bytes) -> None:
        """One message: an empty frame, and the reply."""
        if not self.transport.is_closing():
            self.transport.write(b"\x01\x00" + _frame(0, reply))

    def drop(self) -> None:
        """End it soon; from any thread."""
        with suppress(RuntimeError):  # the loop has ended, and with it every connection
            self._loop.call_soon_threadsafe(self.drop_now)

    def drop_now(self) -> None:
        """End it; what was written is still sent."""
        if self.unread:
            self.transport.abort()
        else:
            self.transport.close()

    def _hurry(self) -> None:
        if not self._ready:
            self.transport.abort()

    def go_on(self) -> None:
        """Its message has been read: now the next one."""
        self._asking = False
        if not self._resting:
            self._rested()

    def _read(self) -> None:
        """Take what is complete: one message until it has been read, and a few frames at a time."""
        for _ in range(TURN):
            if self.transport.is_closing() or self._asking or not self._step():
                self._count()
                return
        self._count()
        self._resting = True
        self.transport.pause_reading()
        self.server.intake.later(self.place, self._rested)

    def _rested(self) -> None:
        self._resting = False
        if not self.transport.is_closing() and not self._asking:
            self.transport.resume_reading()
            self._read()

    def _count(self) -> None:
        self.place.hold(len(self._buffer) + sum(map(len, self._parts)))

    def _step(self) -> bool:
        """Read one greeting or frame; False when it is not complete, or was no ZMQ."""
        if not self._greeted:
            return self._greet()
        buffer, most = self._buffer, self.server.service.limits.max_bytes
        start = 9 if buffer and buffer[0] & LONG else 2
        if len(buffer) < start:
            return False
        flags, size = buffer[0], int.from_bytes(buffer[1:start], "big")
        taken = sum(map(len, self._parts))
        bound = MOST_COMMAND if flags & COMMAND else most - taken if self._ready else 0
        if flags > MORE | LONG | COMMAND or size > bound or len(self._parts) >= MOST_PARTS:
            self.transport.abort()
            return False
        if len(buffer) < start + size:
            return False
        body = bytes(memoryview(buffer)[start : start + size])
        del buffer[: start + size]
        self._take(flags, body)
        return True

    def _take(self, flags: int, body: bytes) -> None:
        if flags & COMMAND:
            self._obey(body)
        elif not self._ready:
            self.transport.abort()
        else:
            self._parts.append(body)
            if not flags & MORE:
                parts, self._parts = self._parts, []
                self._count()
                self._asking = self.server.received(self, parts)

    def _greet(self) -> bool:
        seen = bytes(self._buffer[:64])
        wrong = seen[:1] != b"\xff" or (len(seen) > 10 and (not seen[9] & 1 or seen[10] < 3))
        if wrong or (len(seen) == 64 and seen[12:32] != GREETING[12:32]):
            self.transport.abort()
        if wrong or len(seen) < 64 or self.transport.is_closing():
            return False
        del self._buffer[:64]
        self._greeted = True
        self.transport.write(_frame(COMMAND, READY))
        return True

    def _obey(self, body: bytes) -> None:
        """READY once, PING at any time; other commands say nothing to a server."""
        if body.startswith(b"\x05READY"):
            self._ready = True
            self.place.progressed()
        elif body.startswith(b"\x04PING") and not self.transport.is_closing():
            self.transport.write(_frame(COMMAND, b"\x04PONG" + body[7:23]))
        elif body.startswith(b"\x05ERROR"):
            self.transport.abort()


def _frame(flags: int, body: bytes) -> bytes:
    if len(body) > 255:
        return struct.pack(">BQ", flags | LONG, len(body)) + body
    return bytes((flags, len(body))) + body


def _notice_death(one: Any) -> None:
    """A peer that answers no probe for ten seconds is gone, and what it held is freed."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 4), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3), ("TCP_NODELAY", 1)):
        if hasattr(socket, option):
            one.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _packed(service: Service, reply: Any) -> bytes:
    """Bytes of a reply; a policy that says what cannot be sent is an error too, not the end."""
    packed = service.guarded(lambda: pack(reply))
    return packed if isinstance(packed, bytes) else pack(packed)
