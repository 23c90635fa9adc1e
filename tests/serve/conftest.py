"""A real tiny policy behind real sockets on the loopback interface."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from svms_gr00t.cli.serve import Judge
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.zmq_server import ZmqServer


@pytest.fixture(scope="session")
def policy() -> Policy:
    return Policy.from_pretrained(shipped("tiny_base"))


@pytest.fixture(scope="session")
def observation(policy: Policy) -> dict[str, Any]:
    """Nested, one robot, as N1.6's clients write it."""
    config, rng = policy.get_modality_config(), np.random.default_rng(0)
    state = {"base_rotation": 4, "end_effector_rotation_relative": 4, "gripper_qpos": 2}
    return {
        "video": {k: rng.integers(0, 255, (1, 1, 96, 96, 3), dtype=np.uint8) for k in config["video"].modality_keys},
        "state": {k: np.zeros((1, 1, state.get(k, 3)), np.float32) for k in config["state"].modality_keys},
        "language": {config["language"].modality_keys[0]: [["open the left drawer"]]},
    }


Start = Callable[..., ZmqServer]


@pytest.fixture
def start(policy: Policy) -> Iterator[Start]:
    """Starts servers in threads, and stops them."""
    running: list[tuple[ZmqServer, threading.Thread]] = []

    def make(token: str | None = None, **options: Any) -> ZmqServer:
        server = ZmqServer(Service(policy=policy, token=token, judge=Judge()), port=0, **options)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield make
    for server, thread in running:
        server.service.stopping.set()
        thread.join(timeout=10)
        assert not thread.is_alive()
