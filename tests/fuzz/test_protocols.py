"""Both protocols, from requests that are almost right down to bytes that are no protocol at all.

    pytest tests/fuzz                   seconds, the same cases every time
    SVMS_FUZZ=50 pytest tests/fuzz      50 times as many

After each example a good client of each protocol must be answered within two seconds of the processor's time, nothing
may have been logged but what was foreseen, and the process may not have grown.
"""

import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
import psutil
import pytest
import zmq
from hostile import HOSTILE, msgpack_form
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.serve.client import PolicyClient
from svms_gr00t.serve.limits import Limits
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.wire import unpack
from svms_gr00t.serve.zmq_server import GREETING, READY, ZmqServer, _frame

websockets = pytest.importorskip("websockets", reason="the websocket server needs the serve extra")

from websockets.exceptions import ConnectionClosed  # noqa: E402
from websockets.sync.client import ClientConnection, connect  # noqa: E402

from svms_gr00t.serve.websocket import WebsocketServer  # noqa: E402

often = settings(
    max_examples=60 * int(os.environ.get("SVMS_FUZZ", "1")),
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
SOON = 2.0
"""Seconds of the processor in which good clients must be answered; a busy machine has others to serve."""
EVER = 60.0
"""Seconds in which everybody must be."""
GROWTH = 200 << 20
"""Bytes that the process may grow by, over all examples."""
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass
class Attacked:
    """A policy behind both sockets, a good client of each, and what has gone wrong."""

    robots: ZmqServer
    web: WebsocketServer
    good: PolicyClient
    openpi: ClientConnection
    logged: list[str] = field(default_factory=list)
    size: int = field(default_factory=lambda: psutil.Process().memory_info().rss)

    def check(self) -> None:
        """Good clients are served, in time."""
        began = time.process_time()
        assert "video" in self.good.get_modality_config()
        self.openpi.send(b"\x80")
        assert "found no video." in self.openpi.recv(timeout=EVER)
        assert time.process_time() - began < SOON
        assert not self.logged
        assert psutil.Process().memory_info().rss - self.size < GROWTH


class _Kept(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.found = found

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage() + str(record.exc_info or ""))


@pytest.fixture(scope="module")
def attacked() -> Iterator[Attacked]:
    service = Service(policy=Policy.from_pretrained(shipped("tiny_base")), limits=Limits(max_bytes=8 << 20))
    robots, web = ZmqServer(service, port=0), WebsocketServer(service, port=0)
    threads = [threading.Thread(target=one.run, daemon=True) for one in (robots, web)]
    for thread in threads:
        thread.start()
    with (
        PolicyClient(port=robots.port, timeout_ms=1e3 * EVER) as good,
        connect(f"ws://127.0.0.1:{web.port}", ping_interval=None) as openpi,
    ):
        openpi.recv()
        made = Attacked(robots, web, good, openpi)
        handler = _Kept(made.logged)
        logging.getLogger("svms_gr00t").addHandler(handler)
        made.check()
        yield made
        made.check()
        logging.getLogger("svms_gr00t").removeHandler(handler)
    service.stopping.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def request_tree(attacked: Attacked) -> dict[str, Any]:
    """A good request, in plain values."""
    config, widths = attacked.robots.service.policy.get_modality_config(), {"base_rotation": 4, "gripper_qpos": 2}
    widths |= {"end_effector_rotation_relative": 4}
    frames, numbers = (
        np.zeros((1, 1, 64, 64, 3), np.uint8),
        {k: widths.get(k, 3) for k in config["state"].modality_keys},
    )
    observation = {
        "video": {key: msgpack_form(frames) for key in config["video"].modality_keys},
        "state": {key: msgpack_form(np.zeros((1, 1, n), np.float32)) for key, n in numbers.items()},
        "language": {config["language"].modality_keys[0]: [["open the drawer"]]},
    }
    return {"endpoint": "get_action", "data": {"observation": observation, "options": {"seed": 1}}}


small = st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20) | st.binary(max_size=20) | st.booleans()
scalars = small | st.none() | st.sampled_from([0, -1, 1, 2**40, "", b"", "get_action", float("nan"), "x" * 3000])
arrays = st.builds(
    lambda kind, shape: msgpack_form(np.zeros(shape, kind)),
    st.sampled_from(["<f4", "<f8", "|u1", "|b1", "<i8", ">f4", "<f2", "<U3", "<c8"]),
    st.lists(st.integers(0, 6), max_size=6).map(tuple) | st.sampled_from([(1, 1, 3), (2, 1, 3), (1, 1, 3, 32, 32)]),
)
values = st.recursive(
    scalars | arrays | st.sampled_from(list(HOSTILE.values())),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.binary(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def changes(draw: st.DrawFn) -> tuple[list[int], str, Any]:
    """Where in the tree, what to do there, and with what."""
    path = draw(st.lists(st.integers(0, 7), min_size=1, max_size=6))
    return path, draw(st.sampled_from(["put", "drop", "add", "twice"])), draw(values)


def changed(tree: Any, change: tuple[list[int], str, Any]) -> Any:
    """A copy of the tree in which one thing is different."""
    path, what, value = change
    if not path or not isinstance(tree, dict | list) or not tree:
        return value
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key = keys[path[0] % len(keys)]
    copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    if len(path) > 1 and isinstance(copy[key], dict | list) and copy[key]:
        copy[key] = changed(copy[key], (path[1:], what, value))
    elif what == "drop":
        del copy[key]
    elif what == "twice" and isinstance(copy, list):
        copy = copy * 2
    elif what == "add" and isinstance(copy, dict):
        copy[value if isinstance(value, str | bytes) else "more"] = value
    else:
        copy[key] = value
    return copy


@st.composite
def spoiled(draw: st.DrawFn, message: bytes) -> bytes:
    """The bytes of a message, cut, flipped or stretched."""
    at = draw(st.integers(0, max(0, len(message) - 1)))
    what, more = (
        draw(st.sampled_from(["keep", "keep", "cut", "flip", "insert"])),
        draw(st.binary(min_size=1, max_size=9)),
    )
    kept = {"cut": message[:at], "flip": message[:at] + more + message[at + len(more) :]}
    return kept.get(what, message[:at] + more + message[at:] if what == "insert" else message)


def packed(data: st.DataObject, tree: Any) -> bytes | None:
    """The message of a tree that is almost right; None where no message can say it."""
    for change in data.draw(st.lists(changes(), min_size=1, max_size=3)):
        tree = changed(tree, change)
    try:
        return msgpack.packb(tree)
    except (OverflowError, ValueError, UnicodeEncodeError, TypeError):
        return None


def over_zmq(port: int, message: bytes) -> Any:
    """The reply to one message."""
    with zmq.Context() as context, context.socket(zmq.REQ) as one:
        one.setsockopt(zmq.LINGER, 0)
        one.setsockopt(zmq.RCVTIMEO, int(1e3 * EVER))
        one.connect(f"tcp://127.0.0.1:{port}")
        one.send(message)
        return unpack(one.recv())


@often
@given(data=st.data())
def test_requests_that_are_almost_right(attacked: Attacked, request_tree: dict[str, Any], data: st.DataObject) -> None:
    message = packed(data, request_tree)
    if message is None:
        return
    reply = over_zmq(attacked.robots.port, data.draw(spoiled(message)))
    assert isinstance(reply, list) or "error" in reply or set(reply) & {"status", "video"} or reply == {}
    attacked.check()


@often
@given(data=st.data())
def test_observations_of_openpi_that_are_almost_right(
    attacked: Attacked, request_tree: dict[str, Any], data: st.DataObject
) -> None:
    nested = request_tree["data"]["observation"]
    tree: Any = {f"{part}.{key}": value for part in ("video", "state") for key, value in nested[part].items()}
    tree |= {"prompt": "open the drawer"}
    message = packed(data, tree)
    if message is None:
        return
    with connect(f"ws://127.0.0.1:{attacked.web.port}") as robot:
        robot.recv(timeout=EVER)
        robot.send(data.draw(spoiled(message)))
        reply = robot.recv(timeout=EVER)
    assert isinstance(reply, str) or b"actions" in reply
    attacked.check()


frames = st.builds(
    lambda flags, size, body: bytes([flags]) + size + body,
    st.integers(0, 255),
    st.binary(min_size=1, max_size=9) | st.integers(0, 2**64 - 1).map(lambda n: struct.pack(">Q", n)),
    st.binary(max_size=300),
)
zmtp = st.lists(
    st.sampled_from(
        [GREETING, GREETING[:11], _frame(4, READY), _frame(4, b"\x04PING\0\0hello"), b"\x01\x00\x00\x01\xc0"]
    )
    | frames
    | st.binary(max_size=100),
    max_size=8,
)
web = st.lists(
    st.sampled_from([UPGRADE, b"GET /health HTTP/1.1\r\n\r\n", b"\x89\x80\0\0\0\0", b"\x82\x81\0\0\0\0\xc0", b"\r\n"])
    | st.builds(
        lambda a, b, body: bytes([a, b]) + body, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=200)
    )
    | st.binary(max_size=100),
    max_size=8,
)


def throw(port: int, pieces: list[bytes], start: list[bytes]) -> None:
    """Send pieces as they are, read what comes, and hang up."""
    with socket.create_connection(("127.0.0.1", port), timeout=EVER) as one, suppress(OSError):
        for piece in [*start, *pieces]:
            one.sendall(piece)
        one.settimeout(0.002)
        one.recv(1 << 16)


@often
@given(pieces=zmtp, polite=st.booleans())
def test_bytes_that_are_no_zmtp(attacked: Attacked, pieces: list[bytes], polite: bool) -> None:
    throw(attacked.robots.port, pieces, [GREETING, _frame(4, READY)] if polite else [])
    attacked.check()


@often
@given(pieces=web, polite=st.booleans())
def test_bytes_that_are_no_websocket(attacked: Attacked, pieces: list[bytes], polite: bool) -> None:
    throw(attacked.web.port, pieces, [UPGRADE] if polite else [])
    attacked.check()


def test_the_check_notices_a_server_that_is_late(attacked: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite can fail: on a server that hangs, and on one that logs a traceback."""
    policy = attacked.robots.service.policy
    with monkeypatch.context() as patched:
        patched.setattr(policy, "get_modality_config", lambda: 1 / 0)
        with pytest.raises(Exception, match="the server failed"):
            attacked.check()
    assert attacked.logged
    attacked.logged.clear()
    with suppress(ConnectionClosed):
        attacked.check()
