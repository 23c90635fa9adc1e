"""Whose turn it is: one client's many requests or long messages are its own to wait for."""

import random
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import msgpack
import pytest

from svms_gr00t.policy import Policy
from svms_gr00t.serve.client import PolicyClient, ServerError
from svms_gr00t.serve.limits import Limits
from svms_gr00t.serve.places import Place
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.turns import Job, Turns
from svms_gr00t.serve.wire import pack, unpack
from svms_gr00t.serve.zmq_server import GREETING, READY, ZmqServer, _frame

websockets = pytest.importorskip("websockets", reason="the websocket server needs the serve extra")

from websockets.sync.client import connect  # noqa: E402

from svms_gr00t.serve.websocket import WebsocketServer  # noqa: E402

Observation = dict[str, Any]


def job(place: Place) -> Job:
    return Job(place=place, size=1, work=lambda _job: None, then=lambda _found: None)


def client(*, known: bool = False) -> Place:
    return Place(lambda: None, known=known)


def order(turns: Turns, seconds: dict[Place, float]) -> list[Place]:
    """Clients in the order of their turns, which take so long each."""
    found = []
    while (one := turns.take()) is not None:
        found.append(one.place)
        turns.took(one, seconds[one.place])
    return found


def test_who_asks_once_waits_for_one_turn_of_each_of_the_others() -> None:
    turns, busy, rare = Turns(), [client() for _ in range(3)], client()
    for one in busy * 8:
        turns.add(job(one))
    turns.add(job(rare))
    places = order(turns, dict.fromkeys([*busy, rare], 0.01))
    assert places.index(rare) == 3
    assert Counter(places) == {**dict.fromkeys(busy, 8), rare: 1}


def test_long_turns_are_paid_for() -> None:
    """Four short turns go with each one that takes four times as long."""
    turns, slow, quick = Turns(), client(), client()
    for one in (slow, quick) * 20:
        turns.add(job(one))
    first = order(turns, {slow: 0.4, quick: 0.1})[:20]
    assert 15 <= Counter(first)[quick] <= 17


def test_strangers_and_those_who_were_answered_take_turns() -> None:
    """However many strangers wait and whatever they have used, a robot waits for one of them."""
    rng, turns, robot = random.Random(0), Turns(), client(known=True)
    strangers = [client() for _ in range(50)]
    for _ in range(20):
        for one in strangers:
            turns.add(job(one))
        turns.add(job(robot))
        taken = []
        while robot not in taken:
            one = turns.take()
            assert one is not None
            taken.append(one.place)
            turns.took(one, rng.random())
        assert len(taken) <= 2
    assert turns.take() is not None, "strangers are not starved"


def test_old_credit_is_not_kept() -> None:
    """Who was away for long does not have all turns of the time that it missed."""
    turns, steady, back = Turns(), client(), client()
    for _ in range(100):
        turns.add(job(steady))
        order(turns, {steady: 0.1})
    for one in (steady, back) * 10:
        turns.add(job(one))
    assert Counter(order(turns, {steady: 0.1, back: 0.1})[:6])[steady] >= 2


def test_two_answers_to_one_job_are_one() -> None:
    told: list[Any] = []
    one = Job(place=client(), size=1, work=lambda _job: None, then=told.append)
    one.answer("stopping")
    one.answer("late")
    assert told == ["stopping"]


@pytest.fixture
def served(policy: Policy) -> Any:
    """Both servers of one service."""
    service = Service(policy=policy, limits=Limits())
    servers = ZmqServer(service, port=0), WebsocketServer(service, port=0)
    threads = [threading.Thread(target=one.run, daemon=True) for one in servers]
    for thread in threads:
        thread.start()
    yield servers
    service.stopping.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LISTS = msgpack.packb({"a": [[{1: 1}] * 9 for _ in range(1000)]})
"""Slow to read."""


def web_frame(message: bytes) -> bytes:
    size = bytes([128 | len(message)]) if len(message) < 126 else b"\xff" + struct.pack(">Q", len(message))
    return b"\x82" + size + bytes(4) + message


def zmq_message(message: bytes) -> bytes:
    return b"\1\0" + _frame(0, message)


@pytest.mark.parametrize(
    ("web", "message", "count"),
    [(True, b"\x80", 20_000), (False, b"\xc0", 20_000), (True, LISTS, 40), (False, LISTS, 40)],
    ids=["websocket crumbs", "zmq crumbs", "websocket lists", "zmq lists"],
)
def test_nobody_waits_for_the_messages_of_another(served: Any, web: bool, message: bytes, count: int) -> None:
    """One client sends what takes seconds to read, and reads what it is told; others are answered as if it were not."""
    robots, openpi = served
    start, framed = (UPGRADE, web_frame) if web else (GREETING + _frame(4, READY), zmq_message)
    hostile = socket.create_connection(("127.0.0.1", openpi.port if web else robots.port))
    with (
        connect(f"ws://127.0.0.1:{openpi.port}") as robot,
        PolicyClient(port=robots.port, timeout_ms=60_000) as steady,
        hostile,
    ):
        robot.recv()
        assert steady.ping()
        threading.Thread(target=drained, args=(hostile,), daemon=True).start()
        threading.Thread(target=poured, args=(hostile, start + framed(message) * count), daemon=True).start()
        time.sleep(0.05)
        for _ in range(5):
            robot.send(b"\x80")
            assert "no video" in robot.recv(timeout=60)
            assert steady.ping()
        assert robots.service.errors < count / 2, "it is still being read"


def poured(one: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # it is closed meanwhile
        one.sendall(data)


def drained(one: socket.socket) -> None:
    try:
        while one.recv(1 << 16):
            continue
    except (OSError, ValueError):
        return


def test_wrong_requests_never_wait_for_the_policy(
    served: Any, policy: Policy, observation: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused while it computes for somebody else, in the same words."""
    robots, openpi = served
    begun, go, act = threading.Event(), threading.Event(), policy.get_action

    def held(*given: Any) -> Any:
        begun.set()
        assert go.wait(20)
        return act(*given)

    flat = {f"{part}.{k}": v[0, 0] for part in ("video", "state") for k, v in observation[part].items()}
    wrong: list[Observation] = [
        {},
        observation | {"state": {}},
        observation | {"video": {k: v[..., :1] for k, v in observation["video"].items()}},
        observation | {"state": {k: v[:, :, :1] * float("nan") for k, v in observation["state"].items()}},
        observation | {"state": {k: v[:, :, :1] for k, v in observation["state"].items()}},
        observation | {"language": {"task": [[" "]]}},
    ]
    said = [refusal(Service(policy=policy), one) for one in wrong]
    monkeypatch.setattr(policy, "get_action", held)
    with connect(f"ws://127.0.0.1:{openpi.port}") as robot, PolicyClient(port=robots.port) as asking:
        robot.recv()
        robot.send(pack(flat | {"prompt": "open"}, "openpi"))
        assert begun.wait(10)
        for one, text in zip(wrong, said, strict=True):
            assert "but need" in text
            assert asking_wrongly(asking, {"observation": one}) == text
        assert "2 seeds" in asking_wrongly(asking, {"observation": observation, "options": {"seeds": [1, 2]}})
        assert "a whole number" in asking_wrongly(asking, {"observation": observation, "options": {"seed": "x"}})
        with connect(f"ws://127.0.0.1:{openpi.port}") as other:
            other.recv()
            other.send(pack(flat | {"prompt": "open", "state.gripper_qpos": np_text()}, "openpi"))
            assert "state.gripper_qpos" in other.recv(timeout=5)
        assert not robots.policy.turns.waiting
        go.set()
        assert isinstance(robot.recv(timeout=10), bytes)


def np_text() -> Any:
    import numpy as np

    return np.array(["a", "b"])


def asking_wrongly(asking: PolicyClient, data: dict[str, Any]) -> str:
    with pytest.raises(ServerError) as refused:
        asking.call("get_action", data)
    return str(refused.value)


def refusal(service: Service, observation: Observation) -> str:
    """What `answer`, which asks the policy, says."""
    return str(service.answer({"endpoint": "get_action", "data": {"observation": observation}})["error"])


def test_what_a_client_has_queued_that_hung_up_is_not_computed(start: Any, slow: Any, observation: Observation) -> None:
    server = start(served=slow)
    message = pack({"endpoint": "get_action", "data": {"observation": observation}})
    one = socket.create_connection(("127.0.0.1", server.port))
    one.sendall(GREETING + _frame(4, READY) + zmq_message(message) * 4)
    ends = time.monotonic() + 10
    while len(server.policy.turns.waiting) < 3 and time.monotonic() < ends:
        time.sleep(0.01)
    one.close()
    while server.policy.turns.waiting and time.monotonic() < ends:
        time.sleep(0.01)
    slow.go.set()
    with PolicyClient(port=server.port) as robot:
        assert robot.get_action(observation)[0]
    assert slow.calls == 2


def test_who_waits_too_long_is_told_so_while_the_policy_still_computes(
    start: Any, slow: Any, observation: Observation
) -> None:
    server = start(served=slow, limits=Limits(patience_s=0.3))
    message = pack({"endpoint": "get_action", "data": {"observation": observation}})
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as one:
        one.sendall(GREETING + _frame(4, READY) + zmq_message(message) * 2)
        found = b""
        while b"error" not in found:
            found += one.recv(4096)
    assert "waited 0.3 s" in unpack(found[found.index(b"\x81\xa5error") :])["error"]
    assert not slow.go.is_set()


def test_bytes_that_wait_give_way_as_requests_do(policy: Policy) -> None:
    """Strangers' large requests do not keep out a robot that was answered before."""
    server, told = ZmqServer(Service(policy=policy, limits=Limits(max_bytes=100)), port=0), list[str]()

    def ask(name: str, place: Place) -> None:
        server.ask({}, place=place, client=name, size=90, arrived=time.monotonic(), reply=lambda _r: told.append(name))

    for i in range(4):
        ask(f"stranger {i}", client())  # one works, two wait
    assert told == ["stranger 3"]
    ask("robot", client(known=True))
    assert told == ["stranger 3", "stranger 1"]
    server._socket.close()
