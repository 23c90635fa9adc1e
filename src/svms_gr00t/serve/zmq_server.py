"""N1.6's ZMQ server on tcp: one msgpack request, one msgpack reply.

    socket thread   reads, answers at once what needs no policy, queues the rest, sends
    worker thread   asks the policy, one request at a time

A REP socket, as the original uses, is a state machine that one malformed envelope can stop, and it cannot say that it
is alive while the policy computes. A ROUTER socket knows who asked, serves the same REQ clients, and drops what is no
request. What a killed client had queued is computed once, and its reply goes nowhere.
"""

import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import zmq

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.serve.limits import check_exposure
from svms_gr00t.serve.service import LATER, Service
from svms_gr00t.serve.wire import pack

POLL_MS = 100
HEARTBEAT_MS = 2000
"""A peer that is silent for three of these is gone, and what it held is freed."""
HANDSHAKE_MS = 5000
"""A connection that speaks no ZMQ by then is dropped."""
Seen = Callable[[bytes, bytes], None]
"""Takes one request and its reply, to record traffic."""


@dataclass(frozen=True)
class _Job:
    client: bytes
    message: bytes
    request: Any
    arrived: float


class ZmqServer:
    """Bound on construction; `run` serves until the service stops."""

    def __init__(
        self, service: Service, *, host: str = "127.0.0.1", port: int = 5555, seen: Seen | None = None
    ) -> None:
        """Port 0 takes a free one. Raises ConfigError for an open interface without a token and for a taken port."""
        check_exposure(host, service.token)
        self.service, self.seen = service, seen
        self._waiting: deque[_Job] = deque()
        self._working: _Job | None = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._bell, self._ring = socket.socketpair()
        self._context = zmq.Context()
        self._socket = _router(self._context, service.limits.max_bytes, ipv6=":" in host)
        name = {"localhost": "127.0.0.1", "::1": "[::1]", "0.0.0.0": "*"}.get(host, host)
        try:
            self._socket.bind(f"tcp://{name}:{port if port else '*'}")
        except zmq.ZMQError as error:
            self.close()
            hint = "Choose another --port, or stop the server that holds it"
            raise ConfigError("--port", got=port, want=f"a free port on {host} ({error})", hint=hint) from error
        self.port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    def run(self) -> None:
        """Answer requests until `service.stopping` is set; the request at work is finished first."""
        worker = threading.Thread(target=self._work, daemon=True, name="policy")
        worker.start()
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._bell, zmq.POLLIN)
        try:
            while not self.service.stopping.is_set():
                ready = dict(poller.poll(POLL_MS))
                if self._bell.fileno() in ready:
                    self._bell.recv(1)
                    self._finish(self._done.get())
                if self._socket in ready:
                    self._receive()
                self._next()
            self._drain()
        finally:
            self._jobs.put(None)
            self.close()

    def _work(self) -> None:
        """The worker thread; the bell wakes the socket thread, because ZMQ sockets stay in theirs."""
        while (job := self._jobs.get()) is not None:
            self._done.put(_packed(self.service, self.service.ask_policy(job.request, job.arrived, job.client.hex())))
            with suppress(OSError):  # the server has closed without waiting for this
                self._ring.send(b"!")

    def _receive(self) -> None:
        parts = self._socket.recv_multipart()
        if len(parts) != 3 or parts[1]:
            self.service.refuse("no request")
            return
        client, _, message = parts
        request, reply = self.service.receive(message)
        if reply is not LATER:
            self._send(client, message, _packed(self.service, reply))
        elif self._full(len(message)):
            busy = self.service.refuse(f"the server is too busy: {len(self._waiting)} requests wait already")
            self._send(client, message, pack(busy))
        else:
            self._waiting.append(_Job(client, message, request, time.monotonic()))

    def _full(self, size: int) -> bool:
        limits = self.service.limits
        held = sum(len(job.message) for job in self._waiting)
        return len(self._waiting) >= limits.max_waiting or held + size > 2 * limits.max_bytes

    def _next(self) -> None:
        if self._working is None and self._waiting and not self.service.stopping.is_set():
            self._working = self._waiting.popleft()
            self._jobs.put(self._working)

    def _finish(self, reply: bytes) -> None:
        assert self._working is not None
        self._send(self._working.client, self._working.message, reply)
        self._working = None

    def _drain(self) -> None:
        """The last reply of the policy, and a word to those who wait."""
        if self._working is not None:
            with suppress(queue.Empty):
                self._finish(self._done.get(timeout=self.service.limits.patience_s))
        for job in self._waiting:
            self._send(job.client, job.message, pack(self.service.refuse("the server is stopping")))

    def _send(self, client: bytes, message: bytes, reply: bytes) -> None:
        if self.seen is not None:
            self.seen(message, reply)
        with suppress(zmq.Again):  # a client that does not read its replies loses them
            self._socket.send_multipart([client, b"", reply], zmq.NOBLOCK)

    def close(self) -> None:
        """Free the port, after replies under way have left."""
        self._bell.close()
        self._ring.close()
        self._socket.close()
        self._context.term()


def _router(context: zmq.Context, max_bytes: int, *, ipv6: bool) -> zmq.Socket:
    made = context.socket(zmq.ROUTER)
    # Larger messages are dropped with their connection before they are read into memory.
    options = {zmq.MAXMSGSIZE: max_bytes, zmq.RCVHWM: 4, zmq.LINGER: 500, zmq.IPV6: int(ipv6)}
    options |= {zmq.HEARTBEAT_IVL: HEARTBEAT_MS, zmq.HEARTBEAT_TIMEOUT: 3 * HEARTBEAT_MS}
    for option, value in (options | {zmq.HANDSHAKE_IVL: HANDSHAKE_MS}).items():
        made.setsockopt(option, value)
    return made


def _packed(service: Service, reply: Any) -> bytes:
    """Bytes of a reply; a policy that says what cannot be sent is an error too, not the end."""
    packed = service.guarded(lambda: pack(reply))
    return packed if isinstance(packed, bytes) else pack(packed)
