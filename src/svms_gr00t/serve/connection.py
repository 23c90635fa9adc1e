"""One websocket, whose bytes are counted while they come in. Needs the serve extra: import it late.

A message is in memory long before it is complete, one-byte fragments cost a hundred times what they say, and pongs pile
up for a client that sends pings and reads nothing. The library bounds each message; here all of them are.
"""

from collections import deque
from contextlib import suppress
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES
from websockets.http11 import Request
from websockets.protocol import CONNECTING, OPEN, SEND_EOF

from svms_gr00t.serve.loop import TURN, UNREAD_BYTES
from svms_gr00t.serve.places import Place, Places
from svms_gr00t.serve.turns import Intake

PIECE = 4096
"""Bytes that the library reads at once: there may be a frame in every six of them."""
FRAME_BYTES = 256
"""What a frame costs beside its data."""
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 22\r\n\r\nno place left, retry.\n"


class Connection(ServerConnection):
    """The library's, with a place in the room; without one it is answered with 503 at once."""

    def __init__(self, places: Places, intake: Intake, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.places, self.place, self._inside, self._intake = places, Place(self.drop), False, intake
        self._partial = self._growing = self._ready = self._frames = 0
        self._complete: deque[int] = deque()  # bytes of each message that nobody has taken; _ready in all
        self._rest, self._resting = bytearray(), False

    def connection_made(self, transport: Any) -> None:
        """Take a place, or turn away."""
        place = self.places.enter(self.drop)
        if place is None:
            transport.write(BUSY)
            transport.close()
            return
        self.place, self._inside = place, True
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Count before reading, and drop whoever holds too much."""
        if not self._inside:
            return
        self._rest += data
        self._count()
        if self.transport.get_write_buffer_size() > UNREAD_BYTES:
            self.transport.abort()
            return
        self.places.weigh()
        if self._resting:
            self.transport.pause_reading()
        else:
            self._feed()

    def _feed(self) -> None:
        """Read a few frames, and the rest when the others have had their turn."""
        self._frames = 0
        while self._rest and self._frames < TURN and not self.transport.is_closing():
            piece = bytes(self._rest[:PIECE])
            del self._rest[:PIECE]
            self._partial += len(piece)
            super().data_received(piece)
            if self.protocol.close_expected():  # what comes after a goodbye is thrown away
                self._partial = 0
        self._count()
        if self._rest:
            self._resting = True
            self.transport.pause_reading()
            self._intake.later(self.place, self._rested)

    def _rested(self) -> None:
        self._resting = False
        if not self.transport.is_closing():
            if not self.recv_messages.paused:  # else the library reads again by itself
                self.transport.resume_reading()
            self._feed()

    def send_data(self) -> None:
        """What the library has to send, at once: it asks of a thousand pings for a thousand pongs."""
        writes = self.protocol.data_to_send()
        if self.transport.is_closing():
            return
        if data := b"".join(writes):
            self.transport.write(data)
        if SEND_EOF in writes:
            self.transport.write_eof()

    def process_event(self, event: Any) -> None:
        """A frame or a handshake is complete: nothing of it is partial any more, and little of the next."""
        self._partial = 0
        self._frames += 1
        if not isinstance(event, Request) and event.opcode in DATA_OPCODES:
            self._growing += len(event.data) + FRAME_BYTES
            if event.fin:
                self._complete.append(self._growing)
                self._ready += self._growing
                self._growing = 0
        super().process_event(event)

    def taken(self) -> int:
        """The handler has the next message, which is no longer held; its bytes."""
        size = self._complete.popleft()
        self._ready -= size
        self._count()
        return size

    def _count(self) -> None:
        self.place.hold(len(self._rest) + self._partial + self._growing + self._ready)

    def eof_received(self) -> None:
        if self._inside:
            self._rest.clear()  # nobody is there to be answered
            super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        if self._inside:
            self._rest.clear()
            self.places.leave(self.place)
            super().connection_lost(exc)

    def drop(self) -> None:
        """End it soon, with a word where there is a reader; from any thread."""
        with suppress(RuntimeError):  # the loop has ended, and with it every connection
            self.loop.call_soon_threadsafe(self._drop)

    def _drop(self) -> None:
        if self.transport.is_closing():
            return
        if self.protocol.state is OPEN:
            self.protocol.fail(1013, "this place was needed: ask again later")
            self.send_data()
        elif self.protocol.state is CONNECTING and not self.protocol.close_expected():
            self.transport.write(BUSY)
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()
