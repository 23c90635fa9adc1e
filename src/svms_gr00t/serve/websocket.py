"""openpi's websocket protocol: one packed observation in, one packed answer out, over one connection.

On connecting the server sends its metadata. An observation is one robot's, unbatched: "video.<camera>" (H, W, 3),
"state.<key>" (D,), and "prompt" or the language key. The answer holds "actions" (H, all numbers in key order), the same
by key as "action.<key>", "info", and "server_timing". A text frame is an error. GET /healthz answers 200.
"""

import http
import time
from typing import Any

import numpy as np

from svms_gr00t.core.errors import ConfigError, MissingExtra
from svms_gr00t.serve.service import UNAUTHORISED, Service
from svms_gr00t.serve.wire import MAX_BYTES, pack
from svms_gr00t.serve.zmq_server import check_exposure


class WebsocketServer:
    """Bound on construction; `run` serves each connection in a thread until the service stops."""

    def __init__(
        self, service: Service, *, host: str = "127.0.0.1", port: int = 8000, max_bytes: int = MAX_BYTES
    ) -> None:
        """Raises ConfigError as `ZmqServer` does, MissingExtra without websockets."""
        check_exposure(host, service.token)
        try:
            from websockets.sync.server import serve
        except ImportError as error:
            raise MissingExtra("the websocket server", package="websockets", extra="serve") from error
        self.service, self.max_bytes = service, max_bytes
        limits: dict[str, Any] = {"max_size": max_bytes, "compression": None, "open_timeout": 10}
        try:
            self._server = serve(self._connection, host, port, process_request=self._before, **limits)
        except OSError as error:
            hint = "Choose another --port, or stop the server that holds it"
            raise ConfigError("--port", got=port, want=f"a free port on {host} ({error})", hint=hint) from error
        self.port = int(self._server.socket.getsockname()[1])

    def run(self) -> None:
        """Serve until `stop`."""
        self._server.serve_forever()

    def stop(self) -> None:
        """Take no more connections."""
        self._server.shutdown()

    def _before(self, connection: Any, request: Any) -> Any:
        """Health without a token; everything else needs the one that openpi's client sends in its header."""
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        given = request.headers.get("Authorization", "").removeprefix("Api-Key ")
        if not self.service.allowed(given):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, UNAUTHORISED + "\n")
        return None

    def _connection(self, connection: Any) -> None:
        config = self.service.policy.get_modality_config()
        keys = {name: list(value.modality_keys) for name, value in config.items()}
        connection.send(pack({"modality_keys": keys}, "openpi"))
        before = 0.0
        for message in connection:
            began = time.perf_counter()
            if isinstance(message, str):
                connection.send("a request is one binary msgpack frame")
                continue
            reply = self.service.answer_bytes(message, limit=self.max_bytes, adapt=lambda v: self._request(v, config))
            if isinstance(reply, dict) and "error" in reply:
                connection.send(str(reply["error"]))
                continue
            infer = 1e3 * (time.perf_counter() - began)
            connection.send(pack(_answer(reply, keys["action"], infer, before), "openpi"))
            before = 1e3 * (time.perf_counter() - began)

    def _request(self, given: Any, config: dict[str, Any]) -> dict[str, Any]:
        """The batched observation of one robot as a service request."""
        observation = dict(given) if isinstance(given, dict) else {}
        if "prompt" in observation:
            observation[config["language"].modality_keys[0]] = [observation.pop("prompt")]
        for key, value in observation.items():
            if str(key).startswith("video.") and isinstance(value, np.ndarray) and value.ndim == 3:
                observation[key] = value[None, None]
            elif str(key).startswith("state.") and isinstance(value, np.ndarray) and value.ndim == 1:
                observation[key] = value.astype(np.float32)[None, None]
        request = {"endpoint": "get_action", "data": {"observation": observation}}
        return request | ({"api_token": self.service.token} if self.service.token else {})  # the header was checked


def _answer(reply: Any, keys: list[str], infer: float, before: float) -> dict[str, Any]:
    action, info = reply
    chunks = {key: np.asarray(action[f"action.{key}"], dtype=np.float32)[0] for key in keys}
    timing = {"infer_ms": infer} | ({"prev_total_ms": before} if before else {})
    joined = np.concatenate(list(chunks.values()), axis=-1)
    return {"actions": joined, **{f"action.{k}": v for k, v in chunks.items()}, "info": info, "server_timing": timing}
