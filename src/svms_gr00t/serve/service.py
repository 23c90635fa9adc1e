"""What a server does with a request, whichever socket it came through.

    {"endpoint": "get_action", "data": {"observation": .., "options": ..}, "api_token"?: ..}  ->  [action, info]

Endpoints of N1.6: ping, get_action, reset, get_modality_config, kill; ours beside them: health. One request is
computed at a time, because the policy is one. An error is a reply {"error": sentence}; nothing that a client sends ends
the server but kill with the token.
"""

import hmac
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from svms_gr00t.core.errors import SvmsError
from svms_gr00t.serve.latency import Histogram
from svms_gr00t.serve.wire import unpack

log = logging.getLogger(__name__)
Evidence = Mapping[str, Any]
UNAUTHORISED = "Unauthorized: Invalid API token"


@runtime_checkable
class Served(Protocol):
    """The part of a policy that clients reach."""

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
    latency: Histogram = field(default_factory=Histogram)
    errors: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._turn = threading.Lock()

    def answer(self, request: Any) -> Any:
        """The reply to one decoded request; never raises for what a client did."""
        began = time.perf_counter()
        try:
            return self._dispatch(request)
        except SvmsError as error:
            self.errors += 1
            return {"error": str(error)}
        except Exception as error:  # whatever one request provokes may not end the server for the others
            self.errors += 1
            log.exception("request failed")
            return {"error": f"the server failed on this request ({type(error).__name__}); its log says more"}
        finally:
            self.latency.add(1e3 * (time.perf_counter() - began))

    def answer_bytes(self, request: bytes, *, limit: int, adapt: Callable[[Any], Any] = lambda value: value) -> Any:
        """The reply to one message as it came in; `adapt` makes a request of what another protocol says."""
        try:
            return self.answer(adapt(unpack(request, limit=limit)))
        except SvmsError as error:
            self.errors += 1
            return {"error": str(error)}
        except Exception as error:  # a reader's own fault must not be everyone's
            self.errors += 1
            log.exception("message of %d bytes could not be read", len(request))
            return {"error": f"the server failed to read this message ({type(error).__name__})"}

    def allowed(self, token: Any) -> bool:
        """Whether that token opens the server; compared in constant time."""
        if self.token is None:
            return True
        return isinstance(token, str) and hmac.compare_digest(token.encode(), self.token.encode())

    def health(self) -> dict[str, Any]:
        """Time since the start, counts and latencies."""
        seconds = time.monotonic() - self.began
        return {"status": "ok", "uptime_s": seconds, "errors": self.errors, "latency": self.latency.summary()}

    def _dispatch(self, request: Any) -> Any:
        if not isinstance(request, dict):
            return self._bad(f"a request must be a map with an endpoint, not {type(request).__name__}")
        if not self.allowed(request.get("api_token")):
            return self._bad(UNAUTHORISED)
        name, data = request.get("endpoint", "get_action"), request.get("data") or {}
        if name == "ping":
            return {"status": "ok", "message": "Server is running"}
        if name == "health":
            return self.health()
        if name == "kill":
            return self._kill()
        if name not in ("get_action", "reset", "get_modality_config"):
            known = "get_action, reset, get_modality_config, ping, health, kill"
            return self._bad(f"Unknown endpoint: {str(name)[:60]!r}, but need one of {known}")
        if not isinstance(data, dict):
            return self._bad(f"data must be a map, not {type(data).__name__}")
        with self._turn:
            if name == "get_modality_config":
                return dict(self.policy.get_modality_config())
            if name == "reset":
                return self.policy.reset(data.get("options"))
            return self._act(data)

    def _act(self, data: dict[str, Any]) -> Any:
        observation = data.get("observation")
        if not isinstance(observation, dict):
            return self._bad(f"observation must be a mapping of keys to arrays, not {type(observation).__name__}")
        action, evidence = self.policy.get_action(observation, data.get("options"))
        if is_flat(observation):
            action = {f"action.{key}": value for key, value in action.items()}
        return [action, self.judge(evidence)]

    def _kill(self) -> Any:
        if self.token is None:
            return self._bad("kill needs a token: start the server with --api-token")
        self.stopping.set()
        return None

    def _bad(self, text: str) -> dict[str, str]:
        self.errors += 1
        return {"error": text}


def is_flat(observation: Any) -> bool:
    """Whether keys are those of N1.6's simulation wrapper, "video.<camera>"; replies then say "action.<key>"."""
    return isinstance(observation, dict) and not any(isinstance(observation.get(k), dict) for k in ("video", "state"))
