"""openpi's websocket: one robot unbatched in, chunks out, equal to the policy's own; health and token in the header."""

import http.client
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import msgpack
import numpy as np
import pytest

if find_spec("websockets") is None:
    pytest.skip("the websocket server needs the serve extra", allow_module_level=True)

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from svms_gr00t.cli.serve import Judge
from svms_gr00t.policy import Policy
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.websocket import WebsocketServer


@pytest.fixture
def server(policy: Policy) -> Iterator[WebsocketServer]:
    made = WebsocketServer(Service(policy=policy, token="secret", judge=Judge()), port=0)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    yield made
    made.stop()
    thread.join(timeout=10)
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


def test_one_frame_in_one_chunk_out(server: WebsocketServer, policy: Policy, observation: dict[str, Any]) -> None:
    header = {"Authorization": "Api-Key secret"}
    policy.reset(0)
    expected, _ = policy.get_action(observation)
    policy.reset(0)
    with connect(f"ws://127.0.0.1:{server.port}", additional_headers=header, max_size=None) as socket:
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


def test_health_needs_no_token_and_the_rest_does(server: WebsocketServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    with pytest.raises(InvalidStatus, match="401"):
        connect(f"ws://127.0.0.1:{server.port}", additional_headers={"Authorization": "Api-Key wrong"})
