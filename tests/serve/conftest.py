"""A real tiny policy behind real sockets on the loopback interface."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from svms_gr00t.monitor import Judge
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.serve.limits import Limits
from svms_gr00t.serve.service import Served, Service
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

    def make(
        token: str | None = None, *, limits: Limits | None = None, served: Served | None = None, **options: Any
    ) -> ZmqServer:
        service = Service(policy=served or policy, token=token, judge=Judge(), limits=limits or Limits())
        server = ZmqServer(service, port=0, **options)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield make
    for server, thread in running:
        server.service.stopping.set()
        thread.join(timeout=10)
        assert not thread.is_alive()


class Slow:
    """The policy, but each call waits until it is let go."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.go, self.calls = policy, threading.Event(), 0
        self.get_modality_config, self.reset = policy.get_modality_config, policy.reset

    def get_action(self, observation: Any, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.calls += 1
        self.go.wait(20)
        return self.policy.get_action(observation, options)


@pytest.fixture
def slow(policy: Policy) -> Iterator[Slow]:
    made = Slow(policy)
    yield made
    made.go.set()
