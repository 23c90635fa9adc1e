"""Doors that hold: few descriptors, silent clients, half messages, clients that never read, and a policy that hangs."""

import http.client
import multiprocessing
import resource
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
import torch
import zmq

from svms_gr00t.policy import Policy
from svms_gr00t.serve import loop
from svms_gr00t.serve.client import PolicyClient, ServerError
from svms_gr00t.serve.limits import Limits
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.wire import pack, unpack
from svms_gr00t.serve.zmq_server import ZmqServer

websockets = pytest.importorskip("websockets", reason="the websocket server needs the serve extra")

from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from svms_gr00t.serve.websocket import WebsocketServer  # noqa: E402

ROOM = 100
"""Descriptors that the server's process may open beside those it was born with."""


class Served:
    """Both protocols in a process of their own, which has few descriptors."""

    def __init__(self, policy: Policy) -> None:
        self.limit, reads = psutil.Process().num_fds() + ROOM, multiprocessing.SimpleQueue()
        self.process = multiprocessing.get_context("fork").Process(target=self._serve, args=(policy, reads))
        self.process.start()
        self.zmq, self.websocket = reads.get()
        self.seen = psutil.Process(self.process.pid)

    def _serve(self, policy: Policy, ports: Any) -> None:
        torch.set_num_threads(1)  # threads of torch do not survive a fork
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit, self.limit))
        service = Service(policy=policy, limits=Limits(max_bytes=32 << 20))
        servers = ZmqServer(service, port=0), WebsocketServer(service, port=0)
        ports.put([server.port for server in servers])
        signal.signal(signal.SIGTERM, lambda *_: service.stopping.set())
        threading.Thread(target=servers[1].run).start()
        servers[0].run()

    def stop(self) -> float:
        """Seconds until it has ended."""
        began = time.monotonic()
        self.process.terminate()
        self.process.join(10)
        assert self.process.exitcode == 0
        return time.monotonic() - began


@pytest.fixture(scope="module")
def command(policy: Policy) -> Iterator[Served]:
    made = Served(policy)
    yield made
    assert made.stop() < 2.0


def openpi(observation: dict[str, Any]) -> bytes:
    parts = [(part, key, value) for part in ("video", "state") for key, value in observation[part].items()]
    return pack({f"{part}.{key}": value[0, 0] for part, key, value in parts} | {"prompt": "open"}, "openpi")


def ask(port: int, message: bytes, seconds: float = 15.0) -> tuple[Any, int]:
    """An answer over a new websocket, tried again while there is no place, and how often it was turned away."""
    turned, ends = 0, time.monotonic() + seconds
    while True:
        try:
            with connect(f"ws://127.0.0.1:{port}", max_size=None, open_timeout=seconds) as robot:
                robot.recv(timeout=seconds)
                robot.send(message)
                return robot.recv(timeout=seconds), turned
        except (InvalidStatus, ConnectionClosed, OSError, AssertionError):  # the last is the library's own
            if time.monotonic() > ends:
                raise
            turned += 1
            time.sleep(0.05)


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def test_more_connections_than_descriptors_are_answered_with_503_and_the_loop_goes_on(
    command: Served, observation: dict[str, Any]
) -> None:
    with ExitStack() as held:
        silent = [held.enter_context(dial(command.websocket)) for _ in range(3 * ROOM)]
        time.sleep(0.3)
        assert command.seen.num_fds() < command.limit
        refused = 0
        for one in silent:
            one.setblocking(False)
            try:
                refused += b" 503 " in one.recv(200)
            except BlockingIOError:
                continue
        assert refused > ROOM, "those beyond the descriptors were told so"
        time.sleep(1.0)  # now the others have been silent for a second, and give way
        assert isinstance(ask(command.websocket, openpi(observation))[0], bytes)
        with PolicyClient(port=command.zmq, timeout_ms=5000) as robot:
            assert robot.get_action(observation)[0]
    assert isinstance(ask(command.websocket, openpi(observation))[0], bytes)


def test_silent_clients_of_zmq_lock_nobody_out(command: Served, observation: dict[str, Any]) -> None:
    with zmq.Context() as context, ExitStack() as held:
        context.set(zmq.MAX_SOCKETS, 4096)
        for _ in range(2 * ROOM):
            one = held.enter_context(context.socket(zmq.DEALER))
            one.setsockopt(zmq.LINGER, 0)
            one.setsockopt(zmq.RECONNECT_IVL, 1000)
            one.connect(f"tcp://127.0.0.1:{command.zmq}")
        time.sleep(1.5)
        with PolicyClient(port=command.zmq, timeout_ms=8000) as robot:
            assert robot.get_action(observation)[0]
        assert isinstance(ask(command.websocket, openpi(observation))[0], bytes), "the places are shared"
        assert command.seen.num_fds() < command.limit


def half_message(port: int, size: int) -> socket.socket:
    """A websocket whose one frame says `size` bytes and brings all but one."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    one = dial(port)
    one.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n".encode())
    one.recv(4096)
    return _stuff(one, b"\x82\xff" + struct.pack(">Q", size) + b"\0" * 4, size)


def half_zmq(port: int, size: int) -> socket.socket:
    """The same in ZMTP."""
    one = dial(port)
    one.sendall(b"\xff" + b"\0" * 8 + b"\x7f\x03\x00NULL" + b"\0" * 48)
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 3) + b"REQ"
    one.sendall(b"\x04" + bytes([len(ready)]) + ready)
    time.sleep(0.05)
    one.recv(4096)
    return _stuff(one, b"\x01\x00\x02" + struct.pack(">Q", size), size)


def _stuff(one: socket.socket, head: bytes, size: int) -> socket.socket:
    try:
        one.sendall(head + b"\1" * (size - 1))
    except OSError:
        one.close()  # dropped while it sent
    return one


@pytest.mark.parametrize("attack", [half_message, half_zmq], ids=["websocket", "zmq"])
def test_half_messages_of_many_are_bounded_together(command: Served, observation: dict[str, Any], attack: Any) -> None:
    """Twenty times 28 MB come in, and 64 MB may wait in all."""
    assert isinstance(ask(command.websocket, openpi(observation))[0], bytes)
    before, most, done = command.seen.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, command.seen.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    port = command.websocket if attack is half_message else command.zmq
    held = [attack(port, 28 << 20) for _ in range(20)]
    answer, _ = ask(command.websocket, openpi(observation))
    time.sleep(0.3)
    done.set()
    watcher.join()
    for one in held:
        one.close()
    assert isinstance(answer, bytes)
    assert most < 200 << 20, f"{most >> 20} MB for 560 MB of half messages"


def test_a_client_that_never_reads_is_bounded(command: Served, observation: dict[str, Any]) -> None:
    """It sends pings, whose pongs nobody fetches; and it asks and asks for what it does not read."""
    before = command.seen.memory_info().rss
    pinging = half_message(command.websocket, 1)
    pinging.settimeout(1.0)
    pings = (b"\x89\xfd\0\0\0\0" + b"p" * 125) * 8000
    sent = 0
    try:
        while sent < 100 << 20:
            sent += pinging.send(pings)
    except OSError:
        pass
    with zmq.Context() as context, context.socket(zmq.DEALER) as asking:
        asking.setsockopt(zmq.LINGER, 0)
        asking.setsockopt(zmq.RCVHWM, 1)
        asking.connect(f"tcp://127.0.0.1:{command.zmq}")
        for _ in range(20_000):
            asking.send_multipart([b"", b"\x81\xa8endpoint\xa4none"])
    pinging.close()
    assert isinstance(ask(command.websocket, openpi(observation))[0], bytes)
    assert command.seen.memory_info().rss - before < 64 << 20


def test_life_can_be_asked_for_when_all_places_are_taken(policy: Policy) -> None:
    service = Service(policy=policy, limits=Limits(max_clients=1))
    made, thread = serving(WebsocketServer(service, port=0))
    with connect(f"ws://127.0.0.1:{made.port}") as robot:
        robot.recv()
        with pytest.raises(InvalidStatus, match="503"):
            connect(f"ws://127.0.0.1:{made.port}")
        health = http.client.HTTPConnection("127.0.0.1", made.port, timeout=5)
        health.request("GET", "/healthz")
        assert health.getresponse().status == 200
    service.stopping.set()
    thread.join(5)
    assert not thread.is_alive()


def serving(server: Any) -> tuple[Any, threading.Thread]:
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    return server, thread


def test_stopping_takes_two_seconds_at_most_whatever_the_policy_does(slow: Any, observation: dict[str, Any]) -> None:
    """One request is at work for ever and one waits behind it, on both sockets; all are told, and the loops end."""
    service = Service(policy=slow)
    robots, (web, second) = serving(ZmqServer(service, port=0)), serving(WebsocketServer(service, port=0))
    said: list[str] = []

    def over_zmq() -> None:
        with PolicyClient(port=robots[0].port) as robot:
            try:
                robot.get_action(observation)
            except ServerError as error:
                said.append(str(error))

    def over_websocket() -> None:
        with connect(f"ws://127.0.0.1:{web.port}") as robot:
            robot.recv()
            robot.send(openpi(observation))
            said.append(str(robot.recv()))

    askers = [threading.Thread(target=one) for one in (over_zmq, over_zmq, over_websocket, over_websocket)]
    for one in askers:
        one.start()
    ends = time.monotonic() + 5
    lines = [one.policy.turns for one in (web, robots[0])]
    while not (slow.calls and all(len(line.waiting) == 1 for line in lines)) and time.monotonic() < ends:
        time.sleep(0.01)
    began = time.monotonic()
    service.stopping.set()
    for thread in (robots[1], second):
        thread.join(5)
    assert time.monotonic() - began < 2.0
    for one in askers:
        one.join(5)
    assert said == ["the server is stopping"] * 4


def test_a_request_at_work_is_answered_before_the_websocket_closes(
    slow: Any, observation: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "GRACE_S", 20.0)  # a busy machine takes its time
    service = Service(policy=slow)
    web, thread = serving(WebsocketServer(service, port=0))
    with connect(f"ws://127.0.0.1:{web.port}") as robot:
        robot.recv()
        robot.send(openpi(observation))
        while not slow.calls:
            time.sleep(0.01)
        service.stopping.set()
        time.sleep(0.1)  # longer than the loop takes to notice
        slow.go.set()
        assert isinstance(robot.recv(timeout=5), bytes)
        with pytest.raises(ConnectionClosed, match="1001"):
            robot.recv(timeout=5)
    thread.join(5)
    assert not thread.is_alive()


def test_one_client_may_not_fill_the_queue_of_all(start: Any, slow: Any, observation: dict[str, Any]) -> None:
    server = start(served=slow)
    request = pack({"endpoint": "get_action", "data": {"observation": observation}})
    with zmq.Context() as context, context.socket(zmq.DEALER) as greedy:
        greedy.setsockopt(zmq.LINGER, 0)
        greedy.connect(f"tcp://127.0.0.1:{server.port}")
        for _ in range(30):
            greedy.send_multipart([b"", request])
        replies = [unpack(greedy.recv_multipart()[1]) for _ in range(15)]
        assert all("too busy" in reply["error"] for reply in replies)
        with PolicyClient(port=server.port) as robot:
            slow.go.set()
            assert robot.get_action(observation)[0]


@pytest.mark.parametrize("timeout", [250, 250.0, 249.5])
def test_a_client_waits_for_any_number_of_milliseconds(timeout: Any) -> None:
    with dial_nobody() as port, PolicyClient(port=port, timeout_ms=timeout) as robot:
        began = time.monotonic()
        with pytest.raises(ServerError, match=r"within (250|249\.5) ms"):
            robot.reset()
        assert 0.2 < time.monotonic() - began < 2.0


def test_or_for_ever(start: Any, observation: dict[str, Any]) -> None:
    for timeout in (None, float("inf"), 1e12):
        with PolicyClient(port=start().port, timeout_ms=timeout) as robot:
            assert robot.wait(5.0)
            assert robot.timeout_ms == timeout
            assert robot.get_action(observation)[0]


@pytest.mark.parametrize("timeout", [0, -1, -1.0, float("nan")])
def test_but_not_for_less_than_nothing(timeout: float) -> None:
    with pytest.raises(ValueError, match=r"timeout_ms = .*more than 0, or None"):
        PolicyClient(timeout_ms=timeout)


class dial_nobody:
    """A port that takes connections and says nothing."""

    def __enter__(self) -> int:
        self.socket = socket.create_server(("127.0.0.1", 0))
        return int(self.socket.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self.socket.close()
