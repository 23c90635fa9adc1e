"""openpi's websocket protocol: one packed observation in, one packed answer out, over one connection.

On connecting the server sends its metadata. An observation is one robot's, unbatched: "video.<camera>" (H, W, 3),
"state.<key>" (D,), and "prompt" or the language key. The answer holds "actions" (H, all numbers in key order), the same
by key as "action.<key>", "info" in plain numbers, and "server_timing". A text frame is an error. GET /healthz answers
200; GET /health, with the token, answers counts and latencies as JSON. The protocol knows no reset: for a policy with
memory an observation holds "step", and step 0 begins an episode. No two connections share a memory.
"""

import http
import json
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from svms_gr00t.core.errors import ConfigError, MissingExtra
from svms_gr00t.serve.limits import check_exposure
from svms_gr00t.serve.service import UNAUTHORISED, Service
from svms_gr00t.serve.wire import pack, unpack
from svms_gr00t.serve.zmq_server import Seen


class WebsocketServer:
    """Bound on construction; `run` serves each connection in a thread until the service stops."""

    def __init__(
        self, service: Service, *, host: str = "127.0.0.1", port: int = 8000, seen: Seen | None = None
    ) -> None:
        """Raises ConfigError as `ZmqServer` does, MissingExtra without websockets."""
        check_exposure(host, service.token)
        try:
            from websockets.exceptions import ConnectionClosed
            from websockets.sync.server import serve
        except ImportError as error:
            raise MissingExtra("the websocket server", package="websockets", extra="serve") from error
        self.service, self.seen, self._closed = service, seen, ConnectionClosed
        self._open: set[Any] = set()
        self._guard = threading.Lock()
        limits: dict[str, Any] = {"max_size": service.limits.max_bytes, "max_queue": 2, "compression": None}
        try:
            self._server = serve(self._connection, host, port, process_request=self._before, **limits)
        except OSError as error:
            hint = "Choose another --port, or stop the server that holds it"
            raise ConfigError("--port", got=port, want=f"a free port on {host} ({error})", hint=hint) from error
        self.port = int(self._server.socket.getsockname()[1])

    def run(self) -> None:
        """Serve until `service.stopping` is set; the requests at work are finished first."""
        accepting = threading.Thread(target=self._server.serve_forever, daemon=True, name="websocket")
        accepting.start()
        try:
            while not self.service.stopping.wait(0.1):
                pass
        finally:
            self._server.shutdown()
            with self._guard:
                left = list(self._open)
            for connection in left:  # releases of websockets before 16 leave them open
                connection.close(1001, "the server is stopping")
            accepting.join(timeout=10)

    @property
    def clients(self) -> int:
        """Connections that are open."""
        return len(self._open)

    def _before(self, connection: Any, request: Any) -> Any:
        """Life without a token; everything else needs the one that openpi's client sends in its header."""
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        given = request.headers.get("Authorization", "").removeprefix("Api-Key ")
        if not self.service.allowed(given):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, UNAUTHORISED + "\n")
        if request.path == "/health":
            return connection.respond(http.HTTPStatus.OK, json.dumps(self.service.health()) + "\n")
        if self.clients >= self.service.limits.max_clients:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, f"{self.clients} clients already\n")
        return None

    def _connection(self, connection: Any) -> None:
        with self._guard:
            self._open.add(connection)
        try:
            # A client that was killed says no goodbye.
            with suppress(self._closed):
                self._talk(connection)
        finally:
            with self._guard:
                self._open.discard(connection)

    def _talk(self, connection: Any) -> None:
        config = self.service.policy.get_modality_config()
        keys = {name: list(value.modality_keys) for name, value in config.items()}
        connection.send(pack({"modality_keys": keys}, "openpi"))
        before, client = 0.0, f"websocket {uuid.uuid4().hex}"
        for message in connection:
            began = time.perf_counter()
            reply = self._reply(message, config, client)
            if isinstance(reply, dict):
                connection.send(str(reply["error"]))
                continue
            infer = 1e3 * (time.perf_counter() - began)
            connection.send(pack(_answer(reply, keys["action"], infer, before), "openpi"))
            before = 1e3 * (time.perf_counter() - began)

    def _reply(self, message: bytes | str, config: Mapping[str, Any], client: str) -> Any:
        """[action, info], or {"error": sentence}."""
        if isinstance(message, str):
            return self.service.refuse("a request is one binary msgpack frame")
        limit, token = self.service.limits.max_bytes, self.service.token
        request = self.service.guarded(lambda: _request(unpack(message, limit=limit), config))
        if "error" in request:
            return request
        begins = _begins(request["data"]["observation"]) and self.service.memory_offsets
        for asked in [_reset(), request] if begins else [request]:
            one = asked | {"client": client}
            # The header was checked when the connection opened.
            reply = self.service.answer(one | ({"api_token": token} if token else {}))
            if self.seen is not None:
                self.seen(pack(one), pack(reply))
            if isinstance(reply, dict) and "error" in reply:
                break
        return reply


def _request(given: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """The batched observation of one robot as a request of the service."""
    observation = {str(key): value for key, value in given.items()} if isinstance(given, dict) else {}
    if "prompt" in observation:
        observation[config["language"].modality_keys[0]] = [observation.pop("prompt")]
    for key, value in observation.items():
        # Without a batch axis, and without one for past steps unless the robot looks back.
        if key.startswith("video.") and isinstance(value, np.ndarray) and value.ndim in (3, 4):
            observation[key] = value[None] if value.ndim == 4 else value[None, None]
        elif key.startswith("state.") and isinstance(value, np.ndarray | np.generic) and value.ndim < 3:
            numbers = np.atleast_1d(value).astype(np.float32)
            observation[key] = numbers[None] if numbers.ndim == 2 else numbers[None, None]
    return {"endpoint": "get_action", "data": {"observation": observation}}


def _begins(observation: Mapping[str, Any]) -> bool:
    step = observation.get("step")
    return isinstance(step, int | np.integer) and step == 0


def _reset() -> dict[str, Any]:
    """Of this one robot: the noise of other clients goes on."""
    return {"endpoint": "reset", "data": {"options": {"rows": [0]}}}


def _answer(reply: Any, keys: list[str], infer: float, before: float) -> dict[str, Any]:
    action, info = reply
    plain = {key.removeprefix("action."): value for key, value in action.items()}
    chunks = {key: np.asarray(plain[key], dtype=np.float32)[0] for key in keys}
    timing = {"infer_ms": infer} | ({"prev_total_ms": before} if before else {})
    joined = np.concatenate(list(chunks.values()), axis=-1)
    # openpi's chunk broker takes a row of every array in an answer, so arrays have H rows and the rest are numbers.
    said = {key: _of_one(value) for key, value in info.items()}
    return {"actions": joined, **{f"action.{k}": v for k, v in chunks.items()}, "info": said, "server_timing": timing}


def _of_one(value: Any) -> Any:
    """What the first robot's share of a batched value is, without arrays."""
    return np.asarray(value)[0].tolist() if isinstance(value, list | np.ndarray) else value
