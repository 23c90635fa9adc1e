"""What a server does with a request, whichever socket it came through.

    {"endpoint": "get_action", "data": {"observation": .., "options": ..}, "api_token"?, "client"?}  ->  [action, info]

Endpoints of N1.6: ping, get_action, reset, get_modality_config, kill; ours beside them: health. One request is
computed at a time, because the policy is one; what does not need the policy is answered at once. An error is a reply
{"error": sentence}; nothing that a client sends ends the server but kill with the token. For a policy with memory
"client" says whose memory is meant; by default it is the connection's.
"""

import hmac
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from svms_gr00t.core.arrays import refuse_not_finite
from svms_gr00t.core.errors import SvmsError
from svms_gr00t.core.history import memory_of
from svms_gr00t.serve.latency import Histogram
from svms_gr00t.serve.limits import Limits, check_size
from svms_gr00t.serve.places import Places
from svms_gr00t.serve.wire import unpack

log = logging.getLogger(__name__)
Evidence = Mapping[str, Any]
UNAUTHORISED = "Unauthorized: Invalid API token"
LATER: Final = object()
"""Instead of a reply: this request needs the policy."""
MOST_TEXT = 2000
"""Letters of an error."""
MOST_LETTERS = 64
"""Of a client's name."""
WAITED = "the server is too busy: this request waited {:g} s"
NEED_POLICY = ("get_action", "reset", "get_modality_config")
_FLAT = ("video.", "state.", "annotation.")
_OLDER = (
    'data holds an observation itself, as clients of GR00T N1.5 send it, but need {"observation": .., "options": ..} '
    "as in N1.6, with pictures (robot, past step, row, column, RGB). Use the client of N1.6, or "
    "svms_gr00t.serve.client.PolicyClient"
)
_COARSE = "annotation.human.coarse_action"
"""Where some of N1.6's simulators put the instruction that the policy knows as "task"."""


class _Wrong(SvmsError):
    """A request that is wrong, in words that need no more around them."""


@runtime_checkable
class Served(Protocol):
    """The part of a policy that clients reach; one that has `check(observation, options)` is asked by it first."""

    def get_action(self, observation: Any, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]: ...

    def reset(self, options: Any = None) -> dict[str, Any]: ...

    def get_modality_config(self) -> dict[str, Any]: ...


@dataclass
class Service:
    """A policy and the rules of access to it."""

    policy: Served
    token: str | None = None
    """What every request must bring as `api_token`; None asks for nothing, and then nobody can kill the server."""
    judge: Callable[[Evidence], dict[str, Any]] = field(default=lambda _evidence: {})
    """Evidence of a chunk -> what the reply's info says about it (rho, flag)."""
    limits: Limits = field(default_factory=Limits)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.latency = Histogram()  # of get_action, from arrival to reply: waiting included
        self.compute = Histogram()  # of get_action, the policy alone
        self.requests: Counter[str] = Counter()
        self.places = Places(self.limits)
        self._began = time.monotonic()
        self._turn, self._counting = threading.Lock(), threading.Lock()

    @property
    def errors(self) -> int:
        """Requests that were answered with an error."""
        return self.requests["error"]

    def receive(self, message: bytes) -> tuple[Any, Any]:
        """A message as it came in -> the request, and its reply or LATER: then the policy can compute it."""

        def opened() -> tuple[Any, Any]:
            request = unpack(message, limit=self.limits.max_bytes)
            reply = self.at_once(request)
            if reply is LATER:
                self.check(request)
            return request, reply

        reply = self.guarded(opened)
        return (None, reply) if isinstance(reply, dict) else reply

    def at_once(self, request: Any) -> Any:
        """The reply to what needs no policy, else LATER."""
        if not isinstance(request, dict):
            return self.refuse(f"a request must be a map with an endpoint, not {type(request).__name__}")
        if not self.allowed(request.get("api_token")):
            return self.refuse(UNAUTHORISED)
        name, data = request.get("endpoint", "get_action"), _data(request)
        if not isinstance(name, str) or name not in (*NEED_POLICY, "ping", "health", "kill"):
            known = f"{', '.join(NEED_POLICY)}, ping, health, kill"
            return self.refuse(f"Unknown endpoint: {str(name)[:60]!r}, but need one of {known}")
        self._count(name)
        if name == "ping":
            return {"status": "ok", "message": "Server is running"}
        if name == "health":
            return self.health()
        if name == "kill":
            return self._kill()
        if not isinstance(data, dict):
            return self.refuse(f"data must be a map, not {type(data).__name__}")
        named = request.get("client")
        if named is not None and not (isinstance(named, str) and 0 < len(named) <= MOST_LETTERS):
            return self.refuse(f"client must be a name of at most {MOST_LETTERS} letters")
        return LATER

    def check(self, request: Mapping[str, Any]) -> None:
        """Raise SvmsError for what the policy would refuse, without waiting for a turn with it."""
        name = request.get("endpoint", "get_action")
        if name == "get_modality_config":
            return
        observation, options = self._asked(request)
        if name == "get_action" and hasattr(self.policy, "check"):
            self.policy.check(observation, options)

    def answer(self, request: Any, client: str = "", *, arrived: float | None = None) -> Any:
        """The reply to one decoded request of a client; never raises for what a client did."""
        reply = self.at_once(request)
        began = time.monotonic() if arrived is None else arrived
        return self.ask_policy(request, began, client) if reply is LATER else reply

    def ask_policy(self, request: dict[str, Any], arrived: float, client: str = "") -> Any:
        """The reply to a request for which `at_once` said LATER; `arrived` is its `time.monotonic()`.

        `client` is whose memory is meant, unless the request names one.
        """
        left = self.limits.patience_s - (time.monotonic() - arrived)
        if left <= 0 or not self._turn.acquire(timeout=left):
            return self.refuse(WAITED.format(self.limits.patience_s))
        began = time.monotonic()
        try:
            return self.guarded(lambda: self._dispatch(request, client))
        finally:
            self._turn.release()
            if request.get("endpoint", "get_action") == "get_action":
                self.compute.add(1e3 * (time.monotonic() - began))
                self.latency.add(1e3 * (time.monotonic() - arrived))

    def allowed(self, token: Any) -> bool:
        """Whether that token opens the server; compared in constant time."""
        if self.token is None:
            return True
        return isinstance(token, str) and hmac.compare_digest(_bytes(token), _bytes(self.token))

    def health(self) -> dict[str, Any]:
        """Time since the start, counts and latencies."""
        latency = self.latency.summary() | {"histogram_ms": self.latency.buckets()}
        found = {"status": "ok", "uptime_s": time.monotonic() - self._began, "errors": self.errors}
        found |= {"memory_offsets": list(self.memory_offsets)} if self.memory_offsets else {}
        return found | {"requests": dict(self.requests), "latency": latency, "compute": self.compute.summary()}

    @property
    def memory_offsets(self) -> tuple[int, ...]:
        """Earlier steps that the policy's memory looks back to; () for one that remembers nothing."""
        return memory_of(self.policy)

    def refuse(self, text: str) -> dict[str, str]:
        """An error reply, counted."""
        self._count("error")
        return {"error": text[:MOST_TEXT]}

    def guarded(self, work: Callable[[], Any]) -> Any:
        """What `work` returns, or an error reply: what a user can mend in full, anything else by its name."""
        try:
            return work()
        except SvmsError as error:
            return self.refuse(str(error))
        except Exception as error:  # whatever one request provokes may not end the server for the others
            log.exception("request failed")
            return self.refuse(f"the server failed on this request ({type(error).__name__}); its log says more")

    def _dispatch(self, request: dict[str, Any], client: str) -> Any:
        name = request.get("endpoint", "get_action")
        if name == "get_modality_config":
            return dict(self.policy.get_modality_config())
        observation, options = self._asked(request)
        if self.memory_offsets or hasattr(self.policy, "memory_offsets"):  # it knows clients
            options = (options or {}) | {"client": request.get("client") or client}
        if name == "reset":
            return self.policy.reset(options)
        action, evidence = self.policy.get_action(observation, options)
        refuse_not_finite(action)  # whatever policy this is
        if is_flat(observation):
            action = {f"action.{key}": value for key, value in action.items()}
        return [action, self.judge(evidence)]

    def _asked(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The observation, {} of a request without one, and the options. Raises SvmsError for what is neither."""
        data = _data(request)
        options = data.get("options")
        if fault := _fault(options):
            raise _Wrong(fault)
        if request.get("endpoint", "get_action") != "get_action":
            return {}, options
        observation = data.get("observation")
        if observation is None and is_flat(data) and any(str(key).startswith(_FLAT) for key in data):
            raise _Wrong(_OLDER)
        if not isinstance(observation, dict):
            raise _Wrong(f"observation must be a mapping of keys to arrays, not {type(observation).__name__}")
        if fault := _odd_keys("observation", observation):
            raise _Wrong(fault)
        check_size(observation, self.limits)
        return self._named(observation), options

    def _named(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The instruction under the policy's own key."""
        if _COARSE not in observation or self.policy.get_modality_config()["language"].modality_keys[0] != "task":
            return observation
        return observation | {"task": observation[_COARSE]}

    def _kill(self) -> Any:
        if self.token is None:
            return self.refuse("kill needs a token: start the server with --api-token")
        self.stopping.set()
        return None

    def _count(self, name: str) -> None:
        with self._counting:
            self.requests[name] += 1


def is_flat(observation: Mapping[str, Any]) -> bool:
    """Whether keys are those of N1.6's simulation wrapper, "video.<camera>"; replies then say "action.<key>"."""
    return not any(isinstance(observation.get(k), dict) for k in ("video", "state", "language"))


def _data(request: Mapping[str, Any]) -> Any:
    return {} if request.get("data") is None else request["data"]


def _fault(options: Any) -> str | None:
    """What is wrong with the options of a request."""
    if options is None:
        return None
    if not isinstance(options, dict):
        return f"options must be a map or null, not {type(options).__name__}"
    if fault := _odd_keys("options", options):
        return fault
    seeds = options.get("seeds") if options.get("seeds") is not None else []
    seed = 0 if options.get("seed") is None else options["seed"]
    if not isinstance(seeds, list) or not all(isinstance(one, int) for one in (seed, *seeds)):
        return "options.seed must be a whole number, and options.seeds a list of them"
    rows = options.get("rows")
    if rows is not None and not (isinstance(rows, list) and all(isinstance(row, int) and row >= 0 for row in rows)):
        return "options.rows must be a list of whole numbers from 0, or null"
    if "client" in options:
        return 'options.client is the server\'s to set; name a client by "client" beside "endpoint"'
    return None


def _odd_keys(where: str, values: Mapping[Any, Any]) -> str | None:
    """What is wrong with the keys of a map: msgpack allows any value as one."""
    odd = sorted({type(key).__name__ for key in values if not isinstance(key, str)})
    return f"{where} must have text as its keys, not {' or '.join(odd)}" if odd else None


def _bytes(token: str) -> bytes:
    return token.encode("utf-8", "surrogatepass")
