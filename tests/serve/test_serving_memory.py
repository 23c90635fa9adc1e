"""Many clients, one policy with memory: nobody remembers for another, and who was forgotten is told so."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import zmq
from remembering import OFFSETS, STRIDE, batched, remembering, scene

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.history import EARLIER
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.serve.chunking import AsyncChunks
from svms_gr00t.serve.client import PolicyClient, ServerError
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.wire import pack, unpack
from svms_gr00t.serve.zmq_server import ZmqServer

STEPS = tuple(range(0, 21, STRIDE))
Start = Callable[..., ZmqServer]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return remembering()


def whole(policy: Policy, episode: int, step: int) -> np.ndarray:
    past = tuple(scene(episode, step + o) if step + o >= 0 else None for o in OFFSETS)
    return policy.act([scene(episode, step) | {EARLIER: past}], seeds=[episode])[0][0]["arm"]


def ask(client: PolicyClient, episode: int, step: int, **said: Any) -> np.ndarray:
    action, _ = client.get_action(batched([scene(episode, step, step=step) | said]), {"seeds": [episode]})
    return action["action.arm"][0]


def test_clients_that_take_turns_in_any_order_remember_their_own(policy: Policy, start: Start) -> None:
    port = start(served=policy).port
    rng = np.random.default_rng(0)
    with PolicyClient(port=port) as a, PolicyClient(port=port) as b, PolicyClient(port=port) as c:
        clients = (a, b, c)
        assert a.memory_offsets == OFFSETS
        for client in clients:
            client.reset()
        for step in STEPS:
            for episode in rng.permutation(3).tolist():
                found = ask(clients[episode], episode, step)
                np.testing.assert_allclose(found, whole(policy, episode, step), atol=1e-5)
        assert np.abs(ask(a, 1, STEPS[-1]) - whole(policy, 1, STEPS[-1])).max() > 1e-3, "a remembers episode 0"
        a.reset()
        np.testing.assert_allclose(ask(a, 4, 0), whole(policy, 4, 0), atol=1e-5)
        np.testing.assert_allclose(ask(b, 1, STEPS[-1]), whole(policy, 1, STEPS[-1]), atol=1e-5)


def test_clients_at_the_same_time_remember_their_own(policy: Policy, start: Start) -> None:
    port = start(served=policy).port

    def live(episode: int) -> None:
        with PolicyClient(port=port) as client:
            client.reset()
            found = [ask(client, episode, step) for step in STEPS]
        wanted[episode] = found

    wanted: dict[int, list[np.ndarray]] = {}
    threads = [threading.Thread(target=live, args=(episode,)) for episode in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for episode in range(4):
        for step, found in zip(STEPS, wanted[episode], strict=True):
            np.testing.assert_allclose(found, whole(policy, episode, step), atol=1e-5)


def test_a_batch_behind_a_server_resets_row_by_row(policy: Policy, start: Start) -> None:
    with PolicyClient(port=start(served=policy).port) as client:
        client.reset()
        for step in (0, 4, 8):
            client.get_action(batched([scene(0, step, step=step), scene(1, step, step=step)]), {"seeds": [0, 1]})
        client.reset({"rows": [1]})
        seen = batched([scene(0, 12, step=12), scene(2, 0, step=0)])
        action, _ = client.get_action(seen, {"seeds": [0, 2]})
    np.testing.assert_allclose(action["action.arm"][0], whole(policy, 0, 12), atol=1e-5)
    np.testing.assert_allclose(action["action.arm"][1], whole(policy, 2, 0), atol=1e-5)


class Wrapped:
    """Something around the policy that knows nothing of memory."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.get_action, self.reset = policy, policy.get_action, policy.reset
        self.get_modality_config = policy.get_modality_config


def test_what_wraps_a_policy_keeps_clients_apart_too(policy: Policy, start: Start) -> None:
    port = start(served=Wrapped(Wrapped(policy))).port
    with PolicyClient(port=port) as a, PolicyClient(port=port) as b:
        for step in STEPS[:3]:
            for episode, client in enumerate((a, b)):
                np.testing.assert_allclose(ask(client, episode, step), whole(policy, episode, step), atol=1e-5)


def test_a_restarted_server_says_that_it_has_forgotten(policy: Policy, start: Start) -> None:
    with PolicyClient(port=start(served=remembering()).port) as client:
        client.reset()
        for step in STEPS:
            ask(client, 0, step)
        client.address = f"tcp://127.0.0.1:{start(served=remembering()).port}"
        client._drop()
        with pytest.raises(ServerError, match=r"step 24 of robot 0 of .*, of which nothing is remembered.*restarted"):
            ask(client, 0, 24)
        client.reset()
        np.testing.assert_allclose(ask(client, 0, 0), whole(policy, 0, 0), atol=1e-5)


def test_a_lost_connection_is_the_same_client_and_a_new_client_is_not(policy: Policy, start: Start) -> None:
    port = start(served=policy).port
    with PolicyClient(port=port) as client:
        client.reset()
        for step in STEPS[:3]:
            ask(client, 0, step)
        client._drop()
        np.testing.assert_allclose(ask(client, 0, STEPS[3]), whole(policy, 0, STEPS[3]), atol=1e-5)
        with PolicyClient(port=port) as other, pytest.raises(ServerError, match="nothing is remembered"):
            ask(other, 0, STEPS[4])


def plain_client(port: int) -> tuple[zmq.Context, zmq.Socket]:
    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.RCVTIMEO, 20_000)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(f"tcp://127.0.0.1:{port}")
    return context, socket


def call(socket: zmq.Socket, endpoint: str, **data: Any) -> Any:
    socket.send(pack({"endpoint": endpoint, "data": data}))
    return unpack(socket.recv())


def test_clients_of_n1d6_that_say_neither_name_nor_step_are_counted_apart(policy: Policy, start: Start) -> None:
    port = start(served=remembering(execution_horizon=STRIDE)).port
    pairs = [plain_client(port) for _ in range(2)]
    first = call(pairs[0][1], "get_action", observation=batched([scene(0, 0)]), options=None)
    assert "robot 0 of" in first["error"]
    assert "never reset" in first["error"]
    for _, socket in pairs:
        assert call(socket, "reset", options=None) == {}
    for step in STEPS:
        for episode, (_, socket) in enumerate(pairs):
            options = {"seeds": [episode]}
            action, _ = call(socket, "get_action", observation=batched([scene(episode, step)]), options=options)
            np.testing.assert_allclose(action["action.arm"][0], whole(policy, episode, step), atol=1e-5)
    for context, socket in pairs:
        socket.close()
        context.term()


def test_two_websockets_share_nothing_and_step_0_begins(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "_noise", lambda inputs, _seeds: torch.ones(len(inputs.state), 6, 7))
    pytest.importorskip("websockets")
    from websockets.sync.client import connect

    from svms_gr00t.serve.websocket import WebsocketServer

    server = WebsocketServer(Service(policy=policy), port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()

    def tell(socket: Any, episode: int, step: int) -> Any:
        socket.send(pack(scene(episode, step, step=step), "openpi"))
        reply = socket.recv()
        return reply if isinstance(reply, str) else unpack(reply)["action.arm"]

    with connect(f"ws://127.0.0.1:{server.port}") as a, connect(f"ws://127.0.0.1:{server.port}") as b:
        for socket in (a, b):
            socket.recv()
        for step in STEPS:
            for socket, episode in ((a, 0), (b, 1)):
                np.testing.assert_allclose(tell(socket, episode, step), whole(policy, episode, step), atol=1e-5)
        assert not isinstance(tell(a, 2, 0), str), "step 0 begins an episode"
        assert "never step 4" in tell(a, 2, 8)
        with connect(f"ws://127.0.0.1:{server.port}") as c:
            c.recv()
            assert "nothing is remembered" in tell(c, 1, STEPS[-1] + STRIDE)
        assert not isinstance(tell(b, 1, STEPS[-1] + STRIDE), str)
    server.service.stopping.set()
    thread.join(20)


def test_options_that_are_no_names_and_rows_are_refused(policy: Policy) -> None:
    service = Service(policy=policy)
    seen = batched([scene(0, 0, step=0)])
    for options in ({"client": "mine"}, {"rows": 3}, {"rows": [-1]}, {"rows": ["a"]}):
        reply = service.answer({"endpoint": "get_action", "data": {"observation": seen, "options": options}})
        assert f"options.{next(iter(options))} " in reply["error"]
        assert "options." in service.answer({"endpoint": "reset", "data": {"options": options}})["error"]
    for where, data in (
        ("options", {"observation": seen, "options": {b"": 1}}),
        ("observation", {"observation": seen | {0: 1}}),
    ):
        said = service.answer({"endpoint": "get_action", "data": data})["error"]
        assert f"{where} must have text as its keys, not " in said
    for name in (3, "", "a" * 65, b"mine"):
        assert "client must be a name" in service.answer({"endpoint": "reset", "client": name})["error"]
    assert service.answer({"endpoint": "reset", "client": "mine"}) == {}


class Line:
    """`policy.act` on what the robot sees, with chunks of 4 steps; can fail."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.steps, self.fail = policy, list[int](), 0
        policy.reset(0)

    def __call__(self, seen: dict[str, Any]) -> dict[str, np.ndarray]:
        self.steps.append(seen["step"])
        if self.fail:
            self.fail -= 1
            raise ServerError("no answer")
        (chunk,), _ = self.policy.act([seen], seeds=[0])
        return chunk


def test_asking_ahead_leaves_no_hole_in_the_memory(policy: Policy) -> None:
    line = Line(policy)
    robot = AsyncChunks(line, every=2, memory=OFFSETS)
    for step in range(25):
        if step == 9:
            line.fail = 1
        action = robot.act(scene(0, step))
        assert np.isfinite(action["arm"]).all()
        if robot._pending is not None:
            robot._pending[1].exception(10)
    assert line.steps == [0, 2, 4, 6, 8, 10, 10, *range(12, 25, 2)], "what failed was asked again as it was"
    assert robot.failures == 1
    robot.close()
    for every in (3, 8):
        with pytest.raises(ConfigError, match=r"every = \d, but need a divisor of the memory's stride, 4 steps"):
            AsyncChunks(line, every=every, memory=OFFSETS)


def test_an_execution_horizon_is_checked_before_weights_are_read(tmp_path: Any) -> None:
    remembering().save_pretrained(tmp_path / "policy")
    (tmp_path / "policy" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="execution_horizon = 3"):
        Policy.from_pretrained(tmp_path / "policy", execution_horizon=3)
    assert Policy.from_pretrained(shipped("tiny_base"), execution_horizon=3).memory_offsets == ()


@pytest.fixture(autouse=True)
def _fresh(policy: Policy) -> None:
    policy.reset(0)
