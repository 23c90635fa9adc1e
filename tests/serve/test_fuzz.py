"""Ten thousand bad frames, and what is no frame at all: each gets an answer or nothing, and the server goes on."""

import socket as plain_socket
import time
from typing import Any

import numpy as np
import pytest
import zmq
from hostile import frames

from svms_gr00t.serve.client import PolicyClient
from svms_gr00t.serve.limits import Limits
from svms_gr00t.serve.wire import unpack


def bombard(port: int, observation: dict[str, Any], count: int) -> int:
    """Send `count` bad frames; every one gets an answer that can be read. How many of them were errors."""
    refused = 0
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 20_000)
        socket.connect(f"tcp://127.0.0.1:{port}")
        for frame in frames(observation, count):
            socket.send(frame)
            reply = unpack(socket.recv())
            refused += isinstance(reply, dict) and "error" in reply
    return refused


def check_unharmed(port: int, observation: dict[str, Any], expected: dict[str, np.ndarray]) -> None:
    with PolicyClient(port=port) as client:
        action, _ = client.get_action(observation, {"seed": 9})
    assert all(np.array_equal(action[key], expected[key]) for key in expected)


@pytest.fixture
def expected(policy: Any, observation: dict[str, Any]) -> dict[str, np.ndarray]:
    return policy.get_action(observation, {"seed": 9})[0]


def test_hundreds_of_bad_frames_leave_the_server_answering(
    start: Any, observation: dict[str, Any], expected: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    server = start()
    refused = bombard(server.port, observation, 360)
    assert 300 < refused <= 360, "flipped bits in an instruction are still an instruction"
    assert server.service.errors == refused
    assert not caplog.records, "every refusal is foreseen: none is an exception that merely was caught"
    check_unharmed(server.port, observation, expected)


@pytest.mark.slow
def test_ten_thousand_bad_frames_leave_the_server_answering(
    start: Any, observation: dict[str, Any], expected: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    server = start()
    assert bombard(server.port, observation, 10_000) > 8_000
    assert not caplog.records
    check_unharmed(server.port, observation, expected)


def test_frames_that_are_no_request_at_all_do_no_harm(
    start: Any, observation: dict[str, Any], expected: dict[str, np.ndarray]
) -> None:
    """A socket of another kind, envelopes without a body, and messages above the limit."""
    server = start(limits=Limits(max_bytes=4 << 20))
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"tcp://127.0.0.1:{server.port}")
        for parts in ([b"no empty frame"], [b"", b"two", b"bodies"], [b""], [b"", b"x" * (5 << 20)]):
            socket.send_multipart(parts)
        check_unharmed(server.port, observation, expected)


def test_a_connection_that_speaks_no_zmq_does_no_harm(
    start: Any, observation: dict[str, Any], expected: dict[str, np.ndarray]
) -> None:
    server = start()
    rng, address = np.random.default_rng(1), ("127.0.0.1", server.port)
    open_ones = [plain_socket.create_connection(address) for _ in range(20)]
    for i, one in enumerate(open_ones):
        one.sendall(b"GET / HTTP/1.1\r\n\r\n" if i % 2 else rng.bytes(500))
    check_unharmed(server.port, observation, expected)
    for one in open_ones:
        one.close()
    time.sleep(0.05)
    check_unharmed(server.port, observation, expected)
