"""The client stands on numpy, pyzmq and msgpack alone, gives up in time, and comes back."""

import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import zmq

from svms_gr00t.serve.client import PolicyClient, ServerError
from svms_gr00t.serve.wire import pack

ALONE = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {"numpy", "zmq", "msgpack", "svms_gr00t"} and top not in sys.stdlib_module_names:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocked())
try:
    import torch
except ImportError:
    pass
else:
    raise SystemExit("the block does not block")

import numpy as np
from svms_gr00t.serve.chunking import AsyncChunks
from svms_gr00t.serve.client import PolicyClient

with PolicyClient(port=int(sys.argv[1])) as client:
    config = client.get_modality_config()
    sizes = {"base_rotation": 4, "end_effector_rotation_relative": 4, "gripper_qpos": 2}
    observation = {
        "video": {k: np.zeros((1, 1, 96, 96, 3), np.uint8) for k in config["video"]["modality_keys"]},
        "state": {k: np.zeros((1, 1, sizes.get(k, 3)), np.float32) for k in config["state"]["modality_keys"]},
        "language": {config["language"]["modality_keys"][0]: [["open the left drawer"]]},
    }
    robot = AsyncChunks(client.chunk)
    print({key: value.shape for key, value in robot.act(observation).items()})
    robot.close()
"""


def test_it_needs_numpy_zmq_and_msgpack_alone(start: Any) -> None:
    command = [sys.executable, "-c", ALONE, str(start().port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'end_effector_position': (3,)" in done.stdout


def test_no_answer_is_an_error_in_time_and_the_next_request_starts_afresh(
    start: Any, slow: Any, observation: dict[str, Any]
) -> None:
    with PolicyClient(port=start(served=slow).port, timeout_ms=300) as client:
        began = time.monotonic()
        with pytest.raises(ServerError, match="no answer to get_action within 300 ms"):
            client.get_action(observation)
        assert time.monotonic() - began < 2.0
        assert client.ping(), "the late answer is nobody's"
        slow.go.set()
        client.timeout_ms = 10_000
        assert "video" in client.get_modality_config()


def test_it_waits_for_a_server_that_starts_later(start: Any) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as late:
        port = late.bind_to_random_port("tcp://127.0.0.1")
        late.unbind(f"tcp://127.0.0.1:{port}")

        def appear() -> None:
            time.sleep(0.4)
            late.bind(f"tcp://127.0.0.1:{port}")
            late.recv()
            late.send(b"\x80")

        with PolicyClient(port=port) as client:
            assert not client.wait(0.2)
            thread = threading.Thread(target=appear)
            thread.start()
            assert client.wait(10.0)
            assert client.timeout_ms == 15_000
            thread.join()


def test_an_answer_that_cannot_be_read_is_an_error() -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as odd:
        port = odd.bind_to_random_port("tcp://127.0.0.1")

        def answer() -> None:
            odd.recv()
            odd.send(b"ERROR")

        thread = threading.Thread(target=answer)
        thread.start()
        with PolicyClient(port=port) as client, pytest.raises(ServerError, match="cannot be read"):
            client.reset()
        thread.join()


def test_a_chunk_that_is_not_finite_reaches_no_robot_whatever_server_sent_it() -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as odd:
        port = odd.bind_to_random_port("tcp://127.0.0.1")

        def answer() -> None:
            for value in (0.5, np.nan):
                odd.recv()
                odd.send(pack([{"arm": np.array([[[1.0, value]]])}, {}]))

        thread = threading.Thread(target=answer)
        thread.start()
        with PolicyClient(port=port) as client:
            assert client.chunk({})["arm"].tolist() == [[1.0, 0.5]]
            with pytest.raises(ServerError, match="NaN or infinity in arm"):
                client.chunk({})
        thread.join()
