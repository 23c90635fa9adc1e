"""openpi's websocket: one robot unbatched in, chunks out, equal to the policy's own; health and token in the header."""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

if find_spec("websockets") is None:
    pytest.skip("the websocket server needs the serve extra", allow_module_level=True)

from hostile import frames
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from svms_gr00t.monitor import Judge
from svms_gr00t.policy import Policy
from svms_gr00t.serve.limits import Limits
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.traffic import Recorder, replay
from svms_gr00t.serve.websocket import WebsocketServer

HEADER = {"Authorization": "Api-Key secret"}


@pytest.fixture
def server(policy: Policy, tmp_path: Path) -> Iterator[WebsocketServer]:
    service = Service(policy=policy, token="secret", judge=Judge(), limits=Limits(max_clients=2, max_bytes=1 << 20))
    recorder = Recorder(tmp_path / "traffic.bin")
    made = WebsocketServer(service, port=0, seen=recorder)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    yield made
    service.stopping.set()
    thread.join(timeout=10)
    recorder.close()
    assert not thread.is_alive()


def openpi_array(array: np.ndarray) -> dict[bytes, Any]:
    """As openpi's client writes it, from the protocol's description."""
    return {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": array.dtype.str, b"shape": array.shape}


def restore(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        return np.frombuffer(value[b"data"], dtype=np.dtype(value[b"dtype"])).reshape(value[b"shape"])
    return value


def unbatched(observation: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {f"video.{k}": openpi_array(v[0, 0]) for k, v in observation["video"].items()}
    found |= {f"state.{k}": openpi_array(v[0, 0].astype(np.float64)) for k, v in observation["state"].items()}
    return found | {"prompt": "open the left drawer"}


def test_one_frame_in_one_chunk_out(
    server: WebsocketServer, policy: Policy, observation: dict[str, Any], tmp_path: Path
) -> None:
    policy.reset(0)
    expected, _ = policy.get_action(observation)
    policy.reset(0)
    with connect(f"ws://127.0.0.1:{server.port}", additional_headers=HEADER, max_size=None) as socket:
        metadata = msgpack.unpackb(socket.recv())
        assert metadata["modality_keys"]["action"] == list(expected)
        for call in range(2):
            socket.send(msgpack.packb(unbatched(observation)))
            answer = msgpack.unpackb(socket.recv(), object_hook=restore, strict_map_key=False)
            assert answer["server_timing"]["infer_ms"] > 0
            assert ("prev_total_ms" in answer["server_timing"]) is bool(call)
            if call == 0:
                joined = np.concatenate([expected[key][0] for key in expected], axis=-1)
                np.testing.assert_allclose(answer["actions"], joined, rtol=1e-6)
        socket.send(msgpack.packb({"prompt": "no pictures"}))
        assert "need" in socket.recv(), "an error is a text frame"
        socket.send(b"\xc1\xc1")
        assert "msgpack" in socket.recv()
        socket.send(msgpack.packb(unbatched(observation)))
        assert isinstance(socket.recv(), bytes), "it goes on"
        socket.send("text")
        assert "binary" in socket.recv()
    policy.reset(0)
    found = list(replay(tmp_path / "traffic.bin", Service(policy=policy)))
    assert [(one.endpoint, one.difference) for one in found] == [("get_action", 0.0)] * 3, "no errors, no token needed"
    assert b"secret" not in (tmp_path / "traffic.bin").read_bytes()


def test_pictures_and_prompts_of_any_form_ask_the_same(
    server: WebsocketServer, policy: Policy, observation: dict[str, Any]
) -> None:
    fractions = {f"video.{k}": openpi_array(np.moveaxis(v[0, 0], -1, 0) / 255) for k, v in observation["video"].items()}
    text = {"prompt": openpi_array(np.array("open the left drawer"))}
    answers = []
    with connect(f"ws://127.0.0.1:{server.port}", additional_headers=HEADER, max_size=None) as socket:
        socket.recv()
        for changed in ({}, fractions, text):
            policy.reset(0)
            socket.send(msgpack.packb(unbatched(observation) | changed))
            answers.append(msgpack.unpackb(socket.recv(), object_hook=restore, strict_map_key=False)["actions"])
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


def get(server: WebsocketServer, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_life_needs_no_token_and_the_rest_does(server: WebsocketServer) -> None:
    assert get(server, "/healthz") == (200, "OK\n")
    assert get(server, "/health")[0] == 401
    status, text = get(server, "/health", **HEADER)
    assert status == 200
    assert json.loads(text)["status"] == "ok"
    for wrong in ({}, {"Authorization": "Api-Key wrong"}, {"Authorization": "secrets"}):
        with pytest.raises(InvalidStatus, match="401"):
            connect(f"ws://127.0.0.1:{server.port}", additional_headers=wrong)


def test_a_killed_client_frees_its_slot(server: WebsocketServer, observation: dict[str, Any]) -> None:
    url = f"ws://127.0.0.1:{server.port}"
    code = (
        "from websockets.sync.client import connect; import time\n"
        f"s = connect({url!r}, additional_headers={HEADER!r}); s.recv(); print('in', flush=True); time.sleep(60)"
    )
    killed = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for one in killed:
        assert one.stdout is not None
        assert one.stdout.readline() == "in\n"
    with pytest.raises(InvalidStatus, match="503"):
        connect(url, additional_headers=HEADER)
    for one in killed:
        one.kill()
        one.wait()
    ends = time.monotonic() + 10
    while server.clients and time.monotonic() < ends:
        time.sleep(0.01)
    with connect(url, additional_headers=HEADER) as socket:
        socket.recv()
        socket.send(msgpack.packb(unbatched(observation)))
        assert isinstance(socket.recv(), bytes)


def test_bad_frames_leave_it_answering(
    server: WebsocketServer, observation: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    url = f"ws://127.0.0.1:{server.port}"
    with connect(url, additional_headers=HEADER) as socket:
        socket.recv()
        for frame in frames(observation, 120):
            socket.send(frame)
            assert isinstance(socket.recv(), str)
        socket.send(msgpack.packb(unbatched(observation)))
        assert isinstance(socket.recv(), bytes)
    with connect(url, additional_headers=HEADER) as socket:
        socket.recv()
        socket.send(b"x" * (2 << 20))
        with pytest.raises(ConnectionClosed, match="1009"):
            socket.recv()
    assert not [record for record in caplog.records if record.name.startswith("svms_gr00t")]
    assert get(server, "/healthz")[0] == 200


def test_an_answer_holds_no_array_without_a_row_for_each_step(policy: Policy, observation: dict[str, Any]) -> None:
    """openpi's own ActionChunkBroker takes row t of every array, also of those in info."""
    said = {"rho": np.array([0.5]), "rho_edges": np.array([[0.25, 0.75]]), "flag": [True], "threshold": 0.4}
    service = Service(policy=policy, judge=lambda _evidence: dict(said))
    made = WebsocketServer(service, port=0)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    with connect(f"ws://127.0.0.1:{made.port}") as socket:
        socket.recv()
        socket.send(msgpack.packb(unbatched(observation)))
        answer = msgpack.unpackb(socket.recv(), object_hook=restore)
    service.stopping.set()
    thread.join(timeout=10)
    assert answer["info"] == {"rho": 0.5, "rho_edges": [0.25, 0.75], "flag": True, "threshold": 0.4}
    assert {len(value) for value in answer.values() if isinstance(value, np.ndarray)} == {16}


def test_stopping_closes_connections(policy: Policy) -> None:
    service = Service(policy=policy)
    made = WebsocketServer(service, port=0)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    with connect(f"ws://127.0.0.1:{made.port}") as socket:
        socket.recv()
        service.stopping.set()
        with pytest.raises(ConnectionClosed, match="1001"):
            socket.recv(timeout=10)
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_a_chunk_that_is_not_finite_is_a_text_frame_and_counted(
    server: WebsocketServer, policy: Policy, observation: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = policy.processor.decode

    def spoiled(*given: Any) -> dict[str, np.ndarray]:
        return {key: rows * np.nan for key, rows in decode(*given).items()}

    with connect(f"ws://127.0.0.1:{server.port}", additional_headers=HEADER) as socket:
        socket.recv()
        monkeypatch.setattr(policy.processor, "decode", spoiled)
        socket.send(msgpack.packb(unbatched(observation)))
        assert "NaN or infinity in" in socket.recv()
        assert server.service.errors == 1
        monkeypatch.undo()
        socket.send(msgpack.packb(unbatched(observation)))
        assert isinstance(socket.recv(), bytes)
