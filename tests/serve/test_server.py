"""What a client of N1.6 meets: its own bytes, its own endpoints; and what others may not do."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.serve.client import PolicyClient, ServerError
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.traffic import Recorder, replay
from svms_gr00t.serve.zmq_server import ZmqServer


def plain_encode(value: Any) -> Any:
    """How N1.6's own client writes an array, from the protocol's description."""
    stream = io.BytesIO()
    np.save(stream, value, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": stream.getvalue()}


def plain_decode(value: dict[str, Any]) -> Any:
    if "__ndarray_class__" in value:
        return np.load(io.BytesIO(value["as_npy"]), allow_pickle=False)
    return value


def raw_call(port: int, request: dict[str, Any]) -> Any:
    """One request by msgpack and zmq alone, without any code of ours."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 20_000)
        socket.connect(f"tcp://127.0.0.1:{port}")
        socket.send(msgpack.packb(request, default=plain_encode))
        return msgpack.unpackb(socket.recv(), object_hook=plain_decode)


def test_a_client_that_knows_only_the_protocol_gets_the_policys_own_actions(
    start: Any, policy: Policy, observation: dict[str, Any]
) -> None:
    port = start().port
    assert raw_call(port, {"endpoint": "ping"}) == {"status": "ok", "message": "Server is running"}
    config = raw_call(port, {"endpoint": "get_modality_config"})
    assert set(config) == {"video", "state", "action", "language"}
    assert config["action"]["__ModalityConfig_class__"] is True
    assert config["action"]["as_json"]["delta_indices"] == list(range(16))
    assert raw_call(port, {"endpoint": "reset", "data": {"options": None}}) == {}
    data = {"observation": observation, "options": {"seed": 3}}
    action, info = raw_call(port, {"endpoint": "get_action", "data": data})
    expected, _ = policy.get_action(observation, {"seed": 3})
    assert action.keys() == expected.keys()
    assert all(np.array_equal(action[key], expected[key]) for key in expected)
    assert all(value.shape[:2] == (1, 16) for value in action.values())
    assert info == {}
    other, _ = raw_call(port, {"endpoint": "get_action", "data": data | {"options": {"seed": 4}}})
    assert any(not np.array_equal(other[key], expected[key]) for key in expected)


def test_flat_keys_give_flat_actions(start: Any, observation: dict[str, Any]) -> None:
    flat = {f"video.{k}": v for k, v in observation["video"].items()}
    flat |= {f"state.{k}": v for k, v in observation["state"].items()}
    flat |= {key: [texts[0][0]] for key, texts in observation["language"].items()}
    with PolicyClient(port=start().port) as client:
        nested, _ = client.get_action(observation, {"seed": 1})
        found, _ = client.get_action(flat, {"seed": 1})
    assert {key.removeprefix("action.") for key in found} == set(nested)
    assert all(key.startswith("action.") for key in found)
    assert all(np.array_equal(found[f"action.{key}"], nested[key]) for key in nested)


def test_an_svms_policy_says_how_much_its_streams_disagree(tmp_path: Path, observation: dict[str, Any]) -> None:
    from svms_gr00t.cli.serve import Judge, Serve
    from svms_gr00t.evaluate.monitor import calibrate
    from svms_gr00t.recipes.experiment import Experiment

    experiment = Experiment.prepare(shipped("kitchen"), base=shipped("tiny_base"))
    folder = tmp_path / "policy"
    experiment.policy(experiment.model(use_sheaf_streams=True, base=shipped("tiny_base"))).save_pretrained(folder)
    service = Serve(model_path=str(folder))._service()
    _, info = service.answer({"endpoint": "get_action", "data": {"observation": observation}})
    assert 0 < info["rho"][0] < 2
    assert "flag" not in info, "nobody calibrated it"
    scores = {episode: [float(info["rho"][0]) * factor] for episode, factor in enumerate((0.5,) * 20)}
    edges = ("visual-temporal", "temporal-state")
    low = calibrate(scores, alpha=0.1, edges=edges)
    service.judge = Judge(low)
    assert service.answer({"endpoint": "get_action", "data": {"observation": observation}})[1]["flag"] == [True]
    high = calibrate({k: [4 * v[0]] for k, v in scores.items()}, alpha=0.1, edges=edges)
    service.judge = Judge(high)
    assert service.answer({"endpoint": "get_action", "data": {"observation": observation}})[1]["flag"] == [False]


def test_bad_observations_are_one_sentence_and_the_server_goes_on(start: Any, observation: dict[str, Any]) -> None:
    with PolicyClient(port=start().port) as client:
        for spoiled, says in (
            ({}, "video"),
            (observation | {"state": {}}, "state"),
            (observation | {"language": {"annotation.human.action.task_description": [[""]]}}, "without words"),
            ([1, 2], "mapping"),
        ):
            with pytest.raises(ServerError, match=says):
                client.call("get_action", {"observation": spoiled})
        with pytest.raises(ServerError, match="Unknown endpoint: 'dance'"):
            client.call("dance")
        assert client.get_action(observation)[0]
        health = client.health()
    assert health["errors"] == 5
    assert health["latency"]["requests"] >= 6
    assert 0 < health["latency"]["p50_ms"] <= health["latency"]["max_ms"]


def test_a_token_opens_and_kills_and_without_one_nobody_kills(start: Any) -> None:
    server = start(token="open sesame")
    with PolicyClient(port=server.port) as stranger, pytest.raises(ServerError, match="Unauthorized"):
        stranger.get_modality_config()
    with PolicyClient(port=server.port, api_token="open sesame") as friend:
        assert friend.ping()
        friend.kill_server()
    time.sleep(0.5)
    with PolicyClient(port=server.port, timeout_ms=300) as late:
        assert not late.ping()
    free = start()
    with PolicyClient(port=free.port) as client:
        with pytest.raises(ServerError, match="kill needs a token"):
            client.kill_server()
        assert client.ping()


def test_a_network_needs_a_token_and_a_taken_port_is_said(policy: Policy, start: Any) -> None:
    with pytest.raises(ConfigError, match="loopback interface, or a token"):
        ZmqServer(Service(policy=policy), host="0.0.0.0", port=0)
    taken = start().port
    with pytest.raises(ConfigError, match="Choose another --port"):
        ZmqServer(Service(policy=policy), port=taken)


def test_a_killed_client_does_not_keep_others_waiting(start: Any, observation: dict[str, Any]) -> None:
    port = start().port
    code = (
        "import sys, time, zmq\n"
        f"s = zmq.Context().socket(zmq.REQ); s.connect('tcp://127.0.0.1:{port}')\n"
        "s.send(sys.stdin.buffer.read()); print('sent', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    request = {"endpoint": "get_action", "data": {"observation": observation}}
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgpack.packb(request, default=plain_encode))
    process.stdin.close()
    assert process.stdout.readline() == b"sent\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with PolicyClient(port=port, timeout_ms=10_000) as client:
        assert client.get_action(observation)[0]


def test_several_clients_lose_nothing_and_get_their_own_answers(
    start: Any, policy: Policy, observation: dict[str, Any]
) -> None:
    answers, seconds = talk(start().port, policy, observation, clients=4, seconds=2.0)
    assert all(count > 2 for count in answers), (answers, seconds)


@pytest.mark.slow
def test_eight_clients_for_a_minute_lose_nothing(start: Any, policy: Policy, observation: dict[str, Any]) -> None:
    answers, _ = talk(start().port, policy, observation, clients=8, seconds=60.0)
    assert all(count > 50 for count in answers), answers


def talk(
    port: int, policy: Policy, observation: dict[str, Any], *, clients: int, seconds: float
) -> tuple[list[int], float]:
    """Requests answered for each client; each has its own seed and checks that the answer is its own."""
    expected = [policy.get_action(observation, {"seed": i})[0]["end_effector_position"] for i in range(clients)]
    answers, ends, failures = [0] * clients, time.monotonic() + seconds, []

    def one(i: int) -> None:
        with PolicyClient(port=port, timeout_ms=30_000) as client:
            while time.monotonic() < ends:
                action, _ = client.get_action(observation, {"seed": i})
                if not np.array_equal(action["end_effector_position"], expected[i]):
                    failures.append(i)
                answers[i] += 1

    threads = [threading.Thread(target=one, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    return answers, seconds


def test_the_command_serves_and_stops_on_ctrl_c(observation: dict[str, Any], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "svms_gr00t", "serve", "--model-path", str(shipped("tiny_base")), "--port", "0"]
    record = tmp_path / "traffic.bin"
    process = subprocess.Popen([*command, "--record", str(record)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    with PolicyClient(port=int(line.rpartition(":")[2]), api_token=None) as client:
        client.reset({"seed": 5})
        first = client.get_action(observation)[0]
        client.get_action(observation)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert rest.startswith("3 requests, 0 errors")
    policy = Policy.from_pretrained(shipped("tiny_base"))
    found = list(replay(record, Service(policy=policy)))
    assert [(one.endpoint, one.difference) for one in found] == [
        ("reset", 0.0),
        ("get_action", 0.0),
        ("get_action", 0.0),
    ]
    with pytest.raises(SystemExit) as done:
        main(["serve", "--model-path", str(shipped("tiny_base")), "--replay", str(record)])
    assert done.value.code == 0
    assert first.keys()


def test_a_recording_holds_no_token_and_notices_another_policy(
    tmp_path: Path, policy: Policy, start: Any, observation: dict[str, Any]
) -> None:
    recorder = Recorder(tmp_path / "t.bin")
    with PolicyClient(port=start(token="secret", seen=recorder).port, api_token="secret") as client:
        client.get_action(observation, {"seed": 0})
    recorder.close()
    assert b"secret" not in (tmp_path / "t.bin").read_bytes()

    class Shifted:
        def get_action(self, observation: Any, options: Any = None) -> Any:
            action, info = policy.get_action(observation, options)
            return {key: value + 0.5 for key, value in action.items()}, info

        reset = policy.reset
        get_modality_config = policy.get_modality_config

    assert [one.difference for one in replay(tmp_path / "t.bin", Service(policy=Shifted()))] == pytest.approx([0.5])


def test_the_client_needs_neither_torch_nor_the_model() -> None:
    heavy = "('torch', 'transformers', 'pyarrow')"
    code = f"import sys, svms_gr00t.serve.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []
