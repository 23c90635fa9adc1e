"""A client for robots and simulators: numpy, pyzmq and msgpack, no torch.

    with PolicyClient(port=5555) as policy:
        action, info = policy.get_action(observation)

It speaks N1.6's protocol, so it also drives NVIDIA's own server. A request without an answer in time raises, and the
next one starts on a fresh socket. One client belongs to one thread at a time.
"""

import math
import time
import uuid
from types import TracebackType
from typing import Any

import zmq

from svms_gr00t.core.arrays import refuse_not_finite
from svms_gr00t.core.errors import ConfigError, DataError, SvmsError
from svms_gr00t.serve.wire import pack, unpack


class ServerError(SvmsError, RuntimeError):
    """The server answered with an error, or did not answer in time."""


class PolicyClient:
    """One connection to a policy server."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 5555,
        *,
        timeout_ms: int | float | None = 15_000,
        api_token: str | None = None,
    ) -> None:
        """`timeout_ms` is how long a request may take; None waits for ever. Raises ConfigError for none above 0."""
        _milliseconds(timeout_ms)
        self.address, self.timeout_ms, self.api_token = f"tcp://{host}:{port}", timeout_ms, api_token
        self.name = uuid.uuid4().hex
        """Whose memory is meant, also after the connection was lost; nobody else's."""
        self._context = zmq.Context()
        self._socket: zmq.Socket | None = None

    def get_action(
        self, observation: dict[str, Any], options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Action chunks (B, H, D) by key in physical units, and what the server says about them.

        A policy with memory wants "step" of the observation, the environment's. Raises ServerError for a chunk that is
        not finite, whichever server sent it, and for a step of which the server remembers nothing, as after a restart.
        """
        action, info = self.call("get_action", {"observation": observation, "options": options})
        try:
            refuse_not_finite(action)
        except DataError as error:
            raise ServerError(f"{self.address}: {error}") from error
        return action, info

    def chunk(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The action chunk (H, D) by key of an observation of one robot (B = 1); for `chunking.AsyncChunks`."""
        action, _ = self.get_action(observation)
        return {key.removeprefix("action."): rows[0] for key, rows in action.items()}

    def reset(self, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """A new episode begins; with {"rows": [2]} for those robots of a batch."""
        return self.call("reset", {"options": options})

    def get_modality_config(self) -> dict[str, Any]:
        """Keys of "video", "state", "action" and "language", each as N1.6's dict."""
        found = self.call("get_modality_config")
        return {name: value.get("as_json", value) for name, value in found.items()}

    def ping(self) -> bool:
        """Whether a server answers, and would answer this client."""
        try:
            self.call("ping")
        except ServerError:
            return False
        return True

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until a server answers, for example while it loads its checkpoint; False when it did not in time."""
        ends, limit = time.monotonic() + seconds, self.timeout_ms
        try:
            while (left := ends - time.monotonic()) > 0:
                self.timeout_ms = max(1.0, min(1e3 if limit is None else limit, 1e3, 1e3 * left))
                if self.ping():
                    return True
                time.sleep(min(0.1, left))
        finally:
            self.timeout_ms = limit
        return False

    def health(self) -> dict[str, Any]:
        """Uptime, counts and latencies; not part of N1.6's protocol."""
        return self.call("health")

    @property
    def memory_offsets(self) -> tuple[int, ...]:
        """Earlier steps that the served policy's memory looks back to; () without one. Asks the server."""
        return tuple(self.health().get("memory_offsets", ()))

    def kill_server(self) -> None:
        """Stop the server; it must have been started with a token."""
        self.call("kill")

    def call(self, endpoint: str, data: dict[str, Any] | None = None) -> Any:
        """One request. Raises ServerError for an error reply and for no reply within the time limit."""
        request: dict[str, Any] = {"endpoint": endpoint, "client": self.name}
        if data is not None:
            request["data"] = data
        if self.api_token:
            request["api_token"] = self.api_token
        message, socket = pack(request), self._connected()
        try:
            socket.send(message)
            reply = unpack(socket.recv())
        except DataError as error:
            self._drop()
            raise ServerError(f"{self.address}: the answer to {endpoint} cannot be read ({error})") from error
        except zmq.Again as error:
            self._drop()
            text = (
                f"{self.address}: no answer to {endpoint} within {self.timeout_ms:g} ms. Is the server running there?"
            )
            raise ServerError(text) from error
        if isinstance(reply, dict) and "error" in reply:
            raise ServerError(str(reply["error"]))
        return reply

    def close(self) -> None:
        """Hang up."""
        self._drop()
        self._context.term()

    def __enter__(self) -> "PolicyClient":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    def _connected(self) -> zmq.Socket:
        if self._socket is None:
            self._socket = self._context.socket(zmq.REQ)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.connect(self.address)
        for limit in (zmq.RCVTIMEO, zmq.SNDTIMEO):
            self._socket.setsockopt(limit, _milliseconds(self.timeout_ms))  # it may have been changed
        return self._socket

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _milliseconds(timeout: int | float | None) -> int:
    """As ZMQ counts them: whole ones, -1 for ever."""
    if timeout is None:
        return -1
    if not timeout > 0:  # NaN too
        raise ConfigError("timeout_ms", got=timeout, want="more than 0, or None to wait for ever", hint="Try 15000")
    return -1 if timeout >= 1 << 31 else math.ceil(timeout)
