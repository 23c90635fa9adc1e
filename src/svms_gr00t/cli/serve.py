"""`svms-gr00t serve`: a policy for robots and simulators, by N1.6's protocol, openpi's, or both at once."""

import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal, NoReturn

from svms_gr00t.cli.console import console
from svms_gr00t.cli.evaluate.placement import Placement

if TYPE_CHECKING:
    from svms_gr00t.policy import Policy
    from svms_gr00t.serve.limits import Limits
    from svms_gr00t.serve.service import Service
    from svms_gr00t.serve.traffic import Recorder
    from svms_gr00t.serve.websocket import WebsocketServer
    from svms_gr00t.serve.zmq_server import ZmqServer

TOKEN_VARIABLE = "SVMS_GR00T_TOKEN"
"""Where a token comes from that should not stand in the list of processes."""


@dataclass(frozen=True, kw_only=True)
class Serve(Placement):
    """Serve a policy until Ctrl-C. Each answer says how much the streams disagree (rho) and, calibrated, flags it."""

    model_path: str
    """A checkpoint, delta or run folder, or a hub id."""
    protocol: Literal["n1d6", "openpi", "both"] = "n1d6"
    """n1d6: ZMQ and msgpack, as GR00T N1.6's clients speak; openpi: websocket."""
    embodiment_tag: str | None = None
    """Needed only when the checkpoint knows several robots."""
    host: str = "127.0.0.1"
    """Interface; any but the loopback needs a token."""
    port: int | None = None
    """By default 5555 for n1d6 and 8000 for openpi; 0 takes a free one."""
    websocket_port: int = 8000
    """openpi's port when both protocols are served."""
    api_token: str | None = None
    """What clients must send; by default the variable SVMS_GR00T_TOKEN. Without one nobody can stop the server."""
    n_action_steps: int | None = None
    """With memory: steps that clients execute of every chunk, for those that do not say their step."""
    fast: bool = False
    """Keep one CUDA graph for each form of a request (cameras, robots, text length); its first answer is slow."""
    compile: bool = False
    """Compile the model's blocks, which takes minutes at the first request; also together with --fast."""
    check: bool = True
    """Look for weights that are not finite; --no-check saves one pass over them."""
    max_mb: int = 256
    """Largest request."""
    max_robots: int = 64
    """Most observations in one request."""
    max_clients: int = 256
    """Clients that may be connected, of both protocols together; fewer where the process has fewer descriptors."""
    patience: float = 15.0
    """Seconds that a request may wait for its turn before it is answered with an error."""
    monitor: Path | None = None
    """A consistency monitor (`svms-gr00t monitor train`): answers say how far pictures and measurements are apart."""
    record: Path | None = None
    """Write requests and replies to this new file."""
    replay: Path | None = None
    """Instead of serving, ask a recorded file's requests again and report the largest difference."""

    def run(self) -> int:
        """Serve, and say how it went."""
        from svms_gr00t.serve.limits import check_exposure
        from svms_gr00t.serve.loop import few_heaps, settle
        from svms_gr00t.serve.traffic import Recorder

        check_exposure(self.host, self._token)  # before the checkpoint takes its time
        few_heaps()
        service = self._service()
        if self.replay is not None:
            return _replay(self.replay, service)
        recorder = Recorder(self.record) if self.record else None
        _stop_on_signals(service)
        servers = self._servers(service, recorder)
        others = [threading.Thread(target=server.run, name="second protocol") for server in servers[1:]]
        settle()
        for thread in others:
            thread.start()
        try:
            servers[0].run()
        finally:
            service.stopping.set()
            for thread in others:
                thread.join()
            if recorder is not None:
                recorder.close()
        _report(service)
        return _leave()

    @property
    def _token(self) -> str | None:
        return self.api_token or os.environ.get(TOKEN_VARIABLE) or None

    def _limits(self) -> "Limits":
        from svms_gr00t.serve.limits import Limits

        return Limits(
            max_bytes=self.max_mb << 20,
            max_robots=self.max_robots,
            max_clients=self.max_clients,
            patience_s=self.patience,
        )

    def _service(self) -> "Service":
        from svms_gr00t.cli.evaluate.rollout import policy_folder
        from svms_gr00t.consistency.checked import Checked
        from svms_gr00t.consistency.file import check_lag, load
        from svms_gr00t.monitor import Judge, Monitor
        from svms_gr00t.serve.service import Service

        limits = self._limits()
        folder = policy_folder(Path(self.model_path)) if Path(self.model_path).is_dir() else self.model_path
        policy = self.load(
            folder,
            embodiment_tag=self.embodiment_tag,
            check=self.check,
            execution_horizon=self.n_action_steps,
            fast=self.fast,
            compiled=self.compile,
        )
        served: Policy | Checked = policy
        if self.monitor is not None:
            served = Checked(policy, load(self.monitor, policy))
            check_lag(served.monitor.facts, self.n_action_steps or served.monitor.facts.lag, "--n-action-steps")
        monitor = Monitor.beside(folder) if Path(folder).is_dir() else None
        token = None if self.replay is not None else self._token  # recordings hold none
        return Service(policy=served, token=token, judge=Judge(monitor), limits=limits)

    def _servers(self, service: "Service", recorder: "Recorder | None") -> "list[ZmqServer | WebsocketServer]":
        """One or two, bound. The line says where before anyone is served."""
        from svms_gr00t.serve.websocket import WebsocketServer
        from svms_gr00t.serve.zmq_server import ZmqServer

        made: list[ZmqServer | WebsocketServer] = []
        if self.protocol != "openpi":
            port = 5555 if self.port is None else self.port
            made.append(ZmqServer(service, host=self.host, port=port, seen=recorder))
            self._say("tcp", made[-1].port)
        if self.protocol != "n1d6":
            port = self.websocket_port if self.protocol == "both" else self.port if self.port is not None else 8000
            made.append(WebsocketServer(service, host=self.host, port=port, seen=recorder))
            self._say("ws", made[-1].port)
        return made

    def _say(self, scheme: str, port: int) -> None:
        console.print(f"Serving {self.model_path} on {scheme}://{self.host}:{port}", soft_wrap=True)


def _stop_on_signals(service: "Service") -> None:
    """Ctrl-C and a polite kill end the server after the request at work; a second Ctrl-C ends it at once."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        service.stopping.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _leave() -> NoReturn:
    """End the process as it is: taking torch's modules apart takes as long as all the rest of stopping."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _report(service: "Service") -> None:
    found = service.latency.summary()
    times = "" if not found["requests"] else f", p50 {found['p50_ms']:.1f} ms, p95 {found['p95_ms']:.1f} ms"
    console.print(f"{found['requests']} actions, {service.errors} errors{times}")


def _replay(path: Path, service: "Service") -> int:
    from svms_gr00t.serve.traffic import replay

    worst, count = 0.0, 0
    for one in replay(path, service):
        worst, count = max(worst, one.difference), count + 1
    console.print(f"{count} requests asked again, largest difference {worst:.3g}")
    return int(worst == float("inf"))
