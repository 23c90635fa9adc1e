"""openpi's websocket protocol: one packed observation in, one packed answer out, over one connection.

On connecting the server sends its metadata. An observation is one robot's, unbatched: "video.<camera>" (H, W, 3),
"state.<key>" (D,), and "prompt" or the language key. The answer holds "actions" (H, all numbers in key order), the same
by key as "action.<key>", "info" in plain numbers, and "server_timing". A text frame is an error. GET /healthz answers
200; GET /health, with the token, answers counts and latencies as JSON. The protocol knows no reset: for a policy with
memory an observation holds "step", and step 0 begins an episode. No two connections share a memory.
"""

import asyncio
import http
import json
import logging
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import numpy as np

from svms_gr00t.core.errors import DataError, MissingExtra
from svms_gr00t.core.escape import echo
from svms_gr00t.serve.loop import BURST, FAREWELL_S, STOPPING, Closes, LoopServer, Reply, Seen
from svms_gr00t.serve.service import UNAUTHORISED, Service, is_flat
from svms_gr00t.serve.wire import pack, unpack

log = logging.getLogger(__name__)
HANDSHAKE_S = 5.0
"""A connection that has sent no request for a websocket by then is dropped."""


class WebsocketServer(LoopServer):
    """Bound on construction; `run` serves until the service stops."""

    def __init__(
        self, service: Service, *, host: str = "127.0.0.1", port: int = 8000, seen: Seen | None = None
    ) -> None:
        """Raises ConfigError as `ZmqServer` does, MissingExtra without websockets."""
        try:
            from svms_gr00t.serve.connection import Connection
        except ImportError as error:
            raise MissingExtra("the websocket server", package="websockets", extra="serve") from error
        super().__init__(service, host=host, port=port, seen=seen)
        self._connections: Any = partial(Connection, service.places, self.intake)
        self._config = service.policy.get_modality_config()
        self._open: set[Any] = set()

    @property
    def clients(self) -> int:
        """Connections that are open."""
        return len(self._open)

    async def _listen(self) -> Closes:
        from websockets.asyncio.server import serve

        server = await serve(
            self._connection,
            sock=self._socket,
            create_connection=self._connections,
            process_request=self._before,
            max_size=self.service.limits.max_bytes,
            max_queue=1,
            compression=None,
            open_timeout=HANDSHAKE_S,
            close_timeout=FAREWELL_S,
            logger=_heard(),
            backlog=BURST,
        )
        return server.server

    async def _goodbye(self) -> None:
        await asyncio.sleep(0)  # the last words go first
        try:
            await asyncio.gather(*(one.close(1001, STOPPING) for one in self._open))
        finally:
            for one in self._open:
                one.transport.abort()

    def _before(self, connection: Any, request: Any) -> Any:
        """Life without a token; everything else needs the one that openpi's client sends in its header."""
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        given = request.headers.get("Authorization", "").removeprefix("Api-Key ")
        if not self.service.allowed(given):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, UNAUTHORISED + "\n")
        if request.path == "/health":
            return connection.respond(http.HTTPStatus.OK, json.dumps(self.service.health()) + "\n")
        if self.service.stopping.is_set() or not self.service.places.admit(connection.place):
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, f"{self.clients} clients already\n")
        return None

    async def _connection(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        self._open.add(connection)
        try:
            # A client that was killed says no goodbye.
            with suppress(ConnectionClosed, TimeoutError):
                await self._talk(connection)
        finally:
            self._open.discard(connection)
            connection.transport.abort()

    async def _talk(self, connection: Any) -> None:
        keys = {name: list(value.modality_keys) for name, value in self._config.items()}
        await self._send(connection, pack({"modality_keys": keys}, "openpi"))
        before, client = 0.0, f"websocket {uuid.uuid4().hex}"
        async for message in connection:
            began = time.monotonic()
            size, place, loop = connection.taken(), connection.place, asyncio.get_running_loop()
            read, done = loop.create_future(), loop.create_future()
            self.read(place, size, partial(self._opened, message), partial(_set, read))
            del message
            request = await read
            if request is None:  # it has hung up
                return
            if "error" in request:
                await self._send(connection, str(request["error"]))
                continue
            told = partial(_set, done)
            self.ask((request, before), place=place, client=client, size=size, arrived=began, reply=told)
            del request, read
            await self._send(connection, await done)
            before = 1e3 * (time.monotonic() - began)

    async def _send(self, connection: Any, reply: Reply) -> None:
        """A client that does not read it in time is dropped."""
        async with asyncio.timeout(self.service.limits.patience_s):
            await connection.send(reply)

    def _answer(self, request: Any, client: str, arrived: float) -> tuple[Reply, bool]:
        request, before = request
        reply = self._reply(request, client, arrived)
        if not isinstance(reply, dict):
            infer, keys = 1e3 * (time.monotonic() - arrived), list(self._config["action"].modality_keys)
            reply = self.service.guarded(lambda: pack(_answer(reply, keys, infer, before), "openpi"))
        return (str(reply["error"]), False) if isinstance(reply, dict) else (reply, True)

    def _opened(self, message: bytes | str) -> Any:
        """The request of a frame, which the policy can compute, or {"error": sentence}; in the reader's thread."""
        if isinstance(message, str):
            return self.service.refuse("a request is one binary msgpack frame")

        def opened() -> dict[str, Any]:
            request = _request(unpack(message, limit=self.service.limits.max_bytes), self._config)
            self.service.check(request)
            return request

        return self.service.guarded(opened)

    def _reply(self, request: Any, client: str, arrived: float) -> Any:
        """[action, info], or {"error": sentence}."""
        token = self.service.token
        begins = _begins(request["data"]["observation"]) and self.service.memory_offsets
        for asked in [_reset(), request] if begins else [request]:
            one = asked | {"client": client}
            # The header was checked when the connection opened.
            reply = self.service.answer(one | ({"api_token": token} if token else {}), arrived=arrived)
            if self.seen is not None:
                self.seen(pack(one), pack(reply))
            if isinstance(reply, dict) and "error" in reply:
                break
        return reply

    def _refusal(self, text: str) -> str:
        return str(self.service.refuse(text)["error"])


def _set(done: "asyncio.Future[Any]", found: Any) -> None:
    if not done.done():
        done.set_result(found)


def _heard() -> logging.Logger:
    """The library's log, without a traceback for each peer that speaks no websocket."""
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

    theirs = (ConnectionClosed, InvalidHandshake, InvalidMessage, EOFError, OSError, AssertionError)
    library = log.getChild("library")
    library.filters = [lambda record: not (record.exc_info and isinstance(record.exc_info[1], theirs))]
    return library


def _request(given: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """The batched observation of one robot as a request of the service."""
    if not isinstance(given, dict):
        _refuse(f"a {type(given).__name__}", "a map of keys to arrays")
    observation, text = {str(key): value for key, value in given.items()}, config["language"].modality_keys[0]
    _check_keys(observation, config)
    if "prompt" in observation:
        observation[text] = [_prompt(observation.pop("prompt"))]
    for key, value in observation.items():
        # Without a batch axis, and without one for past steps unless the robot looks back.
        if key.startswith("video.") and isinstance(value, np.ndarray) and value.ndim in (3, 4):
            observation[key] = value[None] if value.ndim == 4 else value[None, None]
        elif key.startswith("state.") and isinstance(value, np.ndarray | np.generic) and value.ndim < 3:
            numbers = np.atleast_1d(value)
            numbers = numbers.astype(np.float32) if numbers.dtype.kind in "biuf" else numbers
            observation[key] = numbers[None] if numbers.ndim == 2 else numbers[None, None]
    return {"endpoint": "get_action", "data": {"observation": observation}}


def _check_keys(observation: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise DataError, in the words of openpi's clients, for keys that are missing."""
    text = config["language"].modality_keys[0]
    arrays = [f"{kind}.{key}" for kind in ("video", "state") for key in config[kind].modality_keys]
    nested = not is_flat(observation)
    missing = [] if nested else [key for key in arrays if key not in observation]
    missing += [] if nested or "prompt" in observation or text in observation else ["prompt"]
    if missing:
        got = f"no {', '.join(missing)} (only {echo(', '.join(observation)) or 'nothing'})"
        _refuse(got, f"keys {', '.join(arrays)}, prompt")


def _refuse(got: str, want: str) -> NoReturn:
    raise DataError("observation", got=got, want=want, hint="The metadata on connecting lists them")


def _prompt(given: Any) -> Any:
    """An instruction with words; texts in lists and arrays are read with the others."""
    if not isinstance(given, str | list | np.ndarray) or (isinstance(given, str) and not given.strip()):
        _refuse(f"prompt as {type(given).__name__} {echo(repr(given))}", "a text, such as 'open the drawer'")
    return given


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
