"""Many clients at once, clients that die, and a server that has more to do than it can."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any

import numpy as np
import pytest
import zmq

from svms_gr00t.policy import Policy
from svms_gr00t.serve import loop
from svms_gr00t.serve.client import PolicyClient, ServerError
from svms_gr00t.serve.limits import Limits
from svms_gr00t.serve.places import Place
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.wire import pack, unpack
from svms_gr00t.serve.zmq_server import ZmqServer


def request(observation: dict[str, Any]) -> bytes:
    return pack({"endpoint": "get_action", "data": {"observation": observation}})


def until(true: Any, seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def kill_after_sending(port: int, message: bytes) -> None:
    """A client process that asks and is killed before its answer."""
    code = (
        "import sys, time, zmq\n"
        f"s = zmq.Context().socket(zmq.REQ); s.connect('tcp://127.0.0.1:{port}')\n"
        "s.send(sys.stdin.buffer.read()); time.sleep(0.2); print('sent', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(message)
    process.stdin.close()
    assert process.stdout.readline() == b"sent\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_client_frees_its_slot(start: Any, slow: Any, observation: dict[str, Any]) -> None:
    """One is killed while its request is computed, so there is no room; afterwards there is."""
    server = start(served=slow, limits=Limits(max_waiting=1))
    kill_after_sending(server.port, request(observation))
    until(lambda: slow.calls == 1)
    with zmq.Context() as context, context.socket(zmq.REQ) as patient, PolicyClient(port=server.port) as late:
        patient.setsockopt(zmq.LINGER, 0)
        patient.connect(f"tcp://127.0.0.1:{server.port}")
        patient.send(request(observation))
        until(lambda: len(server.policy.turns.waiting) == 1)
        with pytest.raises(ServerError, match="too busy: 1 requests wait already"):
            late.get_action(observation)
        slow.go.set()
        assert patient.poll(10_000)
        assert isinstance(unpack(patient.recv()), list)
        assert late.get_action(observation)[0]
    # A reply arrives just before its slot is free.
    until(lambda: server.policy.now is None and not server.policy.turns.waiting)


def test_a_full_queue_makes_room_for_who_waits_with_nothing_and_who_was_answered_before(policy: Policy) -> None:
    server, told = ZmqServer(Service(policy=policy, limits=Limits(max_waiting=2)), port=0), list[str]()

    def tell(client: str, reply: bytes | str) -> None:
        assert b"too busy" in bytes(reply)
        told.append(f"{client}: too busy")

    def ask(client: str, place: Place) -> None:
        server.ask({}, place=place, client=client, size=1, arrived=time.monotonic(), reply=partial(tell, client))

    strangers = [Place(lambda: None) for _ in range(4)]
    for i, one in enumerate(strangers[:3]):
        ask(f"stranger {i}", one)  # one works, two wait
    assert told == []
    ask("stranger 3", strangers[3])
    assert told == ["stranger 3: too busy"]
    robot = Place(lambda: None, known=True)
    ask("robot", robot)
    assert told[1:] == ["stranger 1: too busy"]
    ask("robot", robot)
    assert told[2:] == ["robot: too busy"], "a queue of two has a share of one for each"
    server._socket.close()


def test_a_request_that_waited_too_long_is_not_computed(start: Any, slow: Any, observation: dict[str, Any]) -> None:
    server = start(served=slow, limits=Limits(patience_s=0.2))
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"tcp://127.0.0.1:{server.port}")
        for _ in range(2):
            socket.send_multipart([b"", request(observation)])
        until(lambda: slow.calls == 1)
        time.sleep(0.3)
        slow.go.set()
        replies = [unpack(socket.recv_multipart()[1]) for _ in range(2)]
    assert "waited 0.2 s" in replies[0]["error"], "who waits is told first"
    assert isinstance(replies[1], list)
    assert slow.calls == 1


def test_stopping_finishes_the_request_at_work_and_tells_those_who_wait(
    start: Any, slow: Any, observation: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "GRACE_S", 20.0)  # a busy machine takes its time
    server = start(served=slow)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 10_000)
        socket.connect(f"tcp://127.0.0.1:{server.port}")
        for _ in range(2):
            socket.send_multipart([b"", request(observation)])
        until(lambda: slow.calls == 1 and len(server.policy.turns.waiting) == 1)
        server.service.stopping.set()
        slow.go.set()
        assert isinstance(unpack(socket.recv_multipart()[1]), list)
        assert unpack(socket.recv_multipart()[1]) == {"error": "the server is stopping"}


def test_several_clients_lose_nothing_and_get_their_own_answers(
    start: Any, policy: Policy, observation: dict[str, Any]
) -> None:
    answers = talk(start().port, policy, observation, clients=8, seconds=1.5)
    assert all(count > 0 for count in answers), answers


@pytest.mark.slow
def test_eight_clients_for_a_minute_lose_nothing(start: Any, policy: Policy, observation: dict[str, Any]) -> None:
    server = start()
    answers = talk(server.port, policy, observation, clients=8, seconds=60.0)
    assert all(count > 50 for count in answers), answers
    assert server.service.errors == 0
    assert server.service.latency.total == sum(answers)


def talk(port: int, policy: Policy, observation: dict[str, Any], *, clients: int, seconds: float) -> list[int]:
    """Requests answered for each client; each has its own seed and checks that the answer is its own."""
    expected = [policy.get_action(observation, {"seed": i})[0]["end_effector_position"] for i in range(clients)]
    answers, ends, failures = [0] * clients, time.monotonic() + seconds, []

    def one(i: int) -> None:
        with PolicyClient(port=port, timeout_ms=30_000) as client:
            while time.monotonic() < ends:
                try:
                    action, _ = client.get_action(observation, {"seed": i})
                except ServerError as error:
                    failures.append(str(error))
                    return
                if not np.array_equal(action["end_effector_position"], expected[i]):
                    failures.append(f"client {i} got another's answer")
                answers[i] += 1

    threads = [threading.Thread(target=one, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len({array.tobytes() for array in expected}) == clients, "answers can be told apart"
    return answers
