"""What a client of N1.6 meets: its own bytes, its own endpoints; and what others may not do."""

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.monitor import Judge, calibrate
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.serve.client import PolicyClient, ServerError
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.zmq_server import ZmqServer


@dataclass
class TheirModality:
    """The fields that N1.6's own client builds its configuration from; others are an error there."""

    delta_indices: list[int]
    modality_keys: list[str]
    sin_cos_embedding_keys: list[str] | None = None
    mean_std_embedding_keys: list[str] | None = None
    action_configs: list[dict[str, str]] | None = None


def plain_encode(value: Any) -> Any:
    """How N1.6's own client writes an array, from the protocol's description."""
    stream = io.BytesIO()
    np.save(stream, value, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": stream.getvalue()}


def plain_decode(value: dict[str, Any]) -> Any:
    if "__ModalityConfig_class__" in value:
        return TheirModality(**value["as_json"])
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


def flat_of(observation: dict[str, Any]) -> dict[str, Any]:
    """As N1.6's simulation wrapper has it."""
    flat = {f"video.{k}": v for k, v in observation["video"].items()}
    flat |= {f"state.{k}": v for k, v in observation["state"].items()}
    return flat | {key: [texts[0][0]] for key, texts in observation["language"].items()}


def test_a_client_that_knows_only_the_protocol_gets_the_policys_own_actions(
    start: Any, policy: Policy, observation: dict[str, Any]
) -> None:
    port = start().port
    assert raw_call(port, {"endpoint": "ping"}) == {"status": "ok", "message": "Server is running"}
    config = raw_call(port, {"endpoint": "get_modality_config"})
    assert list(config) == ["video", "state", "action", "language"]
    assert config["action"].delta_indices == list(range(16))
    assert {frozenset(one) for one in config["action"].action_configs} == {
        frozenset(("rep", "type", "format", "state_key"))
    }
    assert config["action"].action_configs[0]["rep"] == "ABSOLUTE", "enumerations by name"
    assert raw_call(port, {"endpoint": "reset", "data": {"options": None}}) == {}
    data = {"observation": observation, "options": {"seed": 3}}
    action, info = raw_call(port, {"endpoint": "get_action", "data": data})
    expected, _ = policy.get_action(observation, {"seed": 3})
    assert action.keys() == expected.keys()
    assert all(np.array_equal(action[key], expected[key]) for key in expected)
    assert all(value.shape[:2] == (1, 16) and value.dtype == np.float32 for value in action.values())
    assert info == {}
    other, _ = raw_call(port, {"endpoint": "get_action", "data": data | {"options": {"seed": 4}}})
    assert any(not np.array_equal(other[key], expected[key]) for key in expected)


def test_flat_keys_give_flat_actions(start: Any, observation: dict[str, Any]) -> None:
    flat = flat_of(observation)
    with PolicyClient(port=start().port) as client:
        nested, _ = client.get_action(observation, {"seed": 1})
        found, _ = client.get_action(flat, {"seed": 1})
        assert list(found) == [f"action.{key}" for key in nested]
        assert all(np.array_equal(found[f"action.{key}"], nested[key]) for key in nested)
        client.reset({"seed": 1})
        first = client.chunk(flat)
        client.reset({"seed": 1})
        again = client.chunk(observation)
    assert first.keys() == again.keys() == nested.keys()
    assert all(np.array_equal(first[key], again[key]) and first[key].ndim == 2 for key in first)


def test_pictures_and_texts_of_any_form_ask_the_same(start: Any, observation: dict[str, Any]) -> None:
    key = next(iter(observation["language"]))
    video = observation["video"]
    forms = [
        observation | {"language": {key: np.array([["open the left drawer"]])}},
        observation | {"language": {key: [["open the left drawer", "close it"]]}},
        observation | {"video": {k: np.moveaxis(v, -1, -3) for k, v in video.items()}},
        observation | {"video": {k: v / np.float32(255) for k, v in video.items()}},
        flat_of(observation) | {key: np.array(["open the left drawer"])},
    ]
    port = start().port
    data = {"observation": observation, "options": {"seed": 3}}
    expected, _ = raw_call(port, {"endpoint": "get_action", "data": data})
    for form in forms:
        found, _ = raw_call(port, {"endpoint": "get_action", "data": data | {"observation": form}})
        for name, rows in found.items():
            np.testing.assert_array_equal(rows, expected[name.removeprefix("action.")])


def test_the_instruction_of_n1d6s_own_simulators_is_found(policy: Policy, observation: dict[str, Any]) -> None:
    """A policy whose language key is "task" takes "annotation.human.coarse_action", as N1.6's wrapper does."""
    key = policy.get_modality_config()["language"].modality_keys[0]

    class Task:
        reset = policy.reset

        def get_modality_config(self) -> dict[str, Any]:
            config = policy.get_modality_config()
            return config | {"language": type(config["language"])(modality_keys=("task",))}

        def get_action(self, given: Any, options: Any = None) -> Any:
            return policy.get_action({key: given["task"]} | given, options)

    flat = flat_of(observation)
    flat["annotation.human.coarse_action"] = flat.pop(key)
    data = {"observation": flat, "options": {"seed": 1}}
    action, _ = Service(policy=Task()).answer({"endpoint": "get_action", "data": data})
    expected, _ = policy.get_action(observation, {"seed": 1})
    assert np.array_equal(action["action.end_effector_position"], expected["end_effector_position"])
    assert "error" in Service(policy=policy).answer({"data": data}), "this robot has another key"


def test_an_svms_policy_says_how_much_its_streams_disagree(tmp_path: Path, observation: dict[str, Any]) -> None:
    from svms_gr00t.cli.serve import Serve

    experiment = Experiment.prepare(shipped("kitchen"), base=shipped("tiny_base"))
    folder = tmp_path / "policy"
    experiment.policy(experiment.model(use_sheaf_streams=True, base=shipped("tiny_base"))).save_pretrained(folder)
    service = Serve(model_path=str(folder))._service()

    def info() -> dict[str, Any]:
        return service.answer({"endpoint": "get_action", "data": {"observation": observation}})[1]

    found = info()
    assert 0 < found["rho"][0] < 2
    assert found["rho"][0] == pytest.approx(found["rho_edges"][0].mean())
    assert "flag" not in found, "nobody calibrated it"
    rho, edges = float(found["rho"][0]), ("visual-temporal", "temporal-state")
    for factor, flag in ((0.5, True), (4.0, False)):
        clean = {episode: [rho * factor] for episode in range(20)}
        service.judge = Judge(calibrate(clean, alpha=0.1, edges=edges))
        assert info()["flag"] == [flag]
        calibrate(clean, alpha=0.1, edges=edges).save(folder / "monitor.json")
        assert Serve(model_path=str(folder))._service().judge == service.judge, "it lies beside the weights"


def test_bad_observations_are_one_sentence_and_the_server_goes_on(start: Any, observation: dict[str, Any]) -> None:
    with PolicyClient(port=start().port) as client:
        for spoiled, says in (
            ({}, "video"),
            (observation | {"state": {}}, "state"),
            (observation | {"language": {"annotation.human.action.task_description": [[""]]}}, "without words"),
            ([1, 2], "mapping"),
            (observation | {"language": {"task": [["go"]] * 1000}}, "1000 robots, but need at most 64"),
        ):
            with pytest.raises(ServerError, match=says):
                client.call("get_action", {"observation": spoiled})
        with pytest.raises(ServerError, match="Unknown endpoint: 'dance'"):
            client.call("dance")
        with pytest.raises(ServerError, match=r"options\.seed must be a whole number"):
            client.get_action(observation, {"seed": "seven"})
        assert client.get_action(observation)[0]
        health = client.health()
    assert health["errors"] == health["requests"]["error"] == 7
    assert health["requests"]["get_action"] == 7
    # Wrong requests ask nothing of the policy.
    assert health["latency"]["requests"] == sum(health["latency"]["histogram_ms"].values()) == 1
    assert 0 < health["compute"]["max_ms"] <= health["latency"]["max_ms"]


def test_a_token_opens_and_kills_and_without_one_nobody_kills(start: Any) -> None:
    server = start(token="open sesame")
    for wrong in (None, "open", "open sesame ", "ü"):
        with PolicyClient(port=server.port, api_token=wrong) as stranger:
            for endpoint in ("ping", "health", "kill", "get_modality_config", "dance"):
                with pytest.raises(ServerError, match="Unauthorized: Invalid API token"):
                    stranger.call(endpoint)
    with PolicyClient(port=server.port, api_token="open sesame") as friend:
        assert friend.ping()
        friend.kill_server()
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
    for host in ("0.0.0.0", "localhost"):
        ZmqServer(Service(policy=policy, token="secret"), host=host, port=0)._socket.close()


def test_it_says_that_it_lives_while_the_policy_computes(start: Any, slow: Any, observation: dict[str, Any]) -> None:
    server = start(served=slow)
    request = msgpack.packb({"data": {"observation": observation}}, default=plain_encode)
    with zmq.Context() as context, context.socket(zmq.REQ) as busy, PolicyClient(port=server.port) as other:
        busy.setsockopt(zmq.LINGER, 0)
        busy.connect(f"tcp://127.0.0.1:{server.port}")
        busy.send(request)
        while not slow.calls:
            time.sleep(0.01)
        began = time.monotonic()
        assert other.ping()
        assert other.health()["requests"]["get_action"] == 1
        assert time.monotonic() - began < 1.0
        slow.go.set()
        assert busy.poll(10_000)


def test_what_fails_inside_is_named_and_does_not_end_the_server(
    start: Any, policy: Policy, observation: dict[str, Any]
) -> None:
    class Broken:
        get_modality_config, reset = policy.get_modality_config, policy.reset

        def get_action(self, given: Any, options: Any = None) -> Any:
            if options == {"say": "unsendable"}:
                return {"x": object()}, {}
            raise RuntimeError("a path of the server: /secret")

    with PolicyClient(port=start(served=Broken()).port) as client:
        for options, name in ((None, "RuntimeError"), ({"say": "unsendable"}, "TypeError")):
            with pytest.raises(ServerError, match=name) as error:
                client.get_action(observation, options)
            assert "/secret" not in str(error.value)
        assert client.ping()


class NotFinite:
    """A policy whose second chunk holds one NaN, and its third one infinity."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.values = policy, iter([0.0, np.nan, np.inf, 0.0])
        self.get_modality_config, self.reset = policy.get_modality_config, policy.reset

    def get_action(self, observation: Any, options: Any = None) -> Any:
        action, info = self.policy.get_action(observation, options)
        next(iter(action.values()))[0, -1, 0] += next(self.values)
        return action, info


def test_a_chunk_that_is_not_finite_is_an_error_and_counted(
    start: Any, policy: Policy, observation: dict[str, Any]
) -> None:
    with PolicyClient(port=start(served=NotFinite(policy)).port) as client:
        assert client.get_action(observation)[0]
        for _ in range(2):
            with pytest.raises(ServerError, match=r"NaN or infinity in .*, but need finite numbers"):
                client.get_action(observation)
        assert client.get_action(observation)[0]
        assert client.health()["errors"] == 2
