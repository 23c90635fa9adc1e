"""N1.6's ZMQ server on tcp: one msgpack request, one msgpack reply.

A REP socket, as the original uses, is a state machine that one malformed envelope can stop. A ROUTER socket says who
asked, serves the same REQ clients, and drops what is no request.
"""

from collections.abc import Callable
from contextlib import suppress

import zmq

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.wire import MAX_BYTES, pack

LOOPBACK = ("127.0.0.1", "localhost", "::1")
POLL_MS = 100
HEARTBEAT_MS = 2000
"""A peer that is silent for three of these is gone, and what it held is freed."""
Seen = Callable[[bytes, bytes], None]
"""Takes one request and its reply, to record traffic."""


def check_exposure(host: str, token: str | None) -> None:
    """Refuse to serve a network without a token. Raises ConfigError."""
    if host not in LOOPBACK and not token:
        hint = "Add --api-token, or serve 127.0.0.1 and reach it through a tunnel"
        raise ConfigError("--host", got=host, want="the loopback interface, or a token", hint=hint)


class ZmqServer:
    """Bound on construction; `run` serves until the service stops."""

    def __init__(
        self,
        service: Service,
        *,
        host: str = "127.0.0.1",
        port: int = 5555,
        max_bytes: int = MAX_BYTES,
        seen: Seen | None = None,
    ) -> None:
        """Port 0 takes a free one. Raises ConfigError for an open interface without a token and for a taken port."""
        check_exposure(host, service.token)
        self.service, self.max_bytes, self.seen = service, max_bytes, seen
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        # Larger messages are dropped with their connection before they are read into memory.
        self._socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS)
        try:
            self._socket.bind(f"tcp://{host}:{port if port else '*'}")
        except zmq.ZMQError as error:
            self.close()
            hint = "Choose another --port, or stop the server that holds it"
            raise ConfigError("--port", got=port, want=f"a free port on {host} ({error})", hint=hint) from error
        self.port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    def run(self) -> None:
        """Answer requests until `service.stopping` is set; the request at work is finished first."""
        try:
            while not self.service.stopping.is_set():
                if self._socket.poll(POLL_MS):
                    self._serve_one()
        finally:
            self.close()

    def _serve_one(self) -> None:
        parts = self._socket.recv_multipart()
        if len(parts) != 3 or parts[1]:
            self.service.errors += 1
            return
        client, _, request = parts
        answer = pack(self.service.answer_bytes(request, limit=self.max_bytes))
        if self.seen is not None:
            self.seen(request, answer)
        with suppress(zmq.Again):  # a client that does not read its replies loses them
            self._socket.send_multipart([client, b"", answer], zmq.NOBLOCK)

    def close(self) -> None:
        """Free the port, after replies under way have left."""
        self._socket.close()
        self._context.term()
