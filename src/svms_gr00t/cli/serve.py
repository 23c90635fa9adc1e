"""`svms-gr00t serve`: a policy for robots and simulators, by N1.6's protocol or openpi's."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from svms_gr00t.cli.console import console
from svms_gr00t.core.errors import ConfigError

if TYPE_CHECKING:
    from svms_gr00t.serve.service import Service


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve a policy until Ctrl-C. Each answer says how much the streams disagree (rho) and, calibrated, flags it."""

    model_path: str
    """A checkpoint, delta or run folder, or a hub id."""
    protocol: Literal["n1d6", "openpi"] = "n1d6"
    """n1d6: ZMQ and msgpack, as GR00T N1.6's clients speak; openpi: websocket."""
    embodiment_tag: str | None = None
    """Needed only when the checkpoint knows several robots."""
    host: str = "127.0.0.1"
    """Interface; any but the loopback needs --api-token."""
    port: int | None = None
    """By default 5555 for n1d6 and 8000 for openpi; 0 takes a free one."""
    api_token: str | None = None
    """What clients must send; without one nobody can stop the server from afar."""
    device: str = "cpu"
    """cpu, or cuda."""
    max_mb: int = 256
    """Largest request."""
    record: Path | None = None
    """Write requests and replies to this new file (n1d6)."""
    replay: Path | None = None
    """Instead of serving, ask a recorded file's requests again and report the largest difference."""

    def run(self) -> int:
        """Serve, and say how it went."""
        service = self._service()
        if self.replay is not None:
            return _replay(self.replay, service)
        if self.protocol == "openpi":
            return self._websocket(service)
        from svms_gr00t.serve.traffic import Recorder
        from svms_gr00t.serve.zmq_server import ZmqServer

        recorder = Recorder(self.record) if self.record else None
        port = 5555 if self.port is None else self.port
        server = ZmqServer(service, host=self.host, port=port, max_bytes=self.max_mb << 20, seen=recorder)
        _stop_on_signals(service)
        console.print(f"Serving {self.model_path} on tcp://{self.host}:{server.port}", highlight=False, soft_wrap=True)
        server.run()
        if recorder is not None:
            recorder.close()
        _report(service)
        return 0

    def _service(self) -> "Service":
        from svms_gr00t.cli.evaluate import policy_folder
        from svms_gr00t.evaluate.monitor import Monitor
        from svms_gr00t.policy import Policy
        from svms_gr00t.serve.service import Service

        folder = policy_folder(Path(self.model_path)) if Path(self.model_path).is_dir() else self.model_path
        policy = Policy.from_pretrained(folder, embodiment_tag=self.embodiment_tag, device=self.device)
        monitor = Monitor.beside(folder) if Path(folder).is_dir() else None
        return Service(policy=policy, token=self.api_token, judge=Judge(monitor))

    def _websocket(self, service: "Service") -> int:
        from svms_gr00t.serve.websocket import WebsocketServer

        if self.record is not None:
            raise ConfigError("--record", got=str(self.record), want="--protocol n1d6", hint="Leave it out for openpi")
        port = 8000 if self.port is None else self.port
        server = WebsocketServer(service, host=self.host, port=port, max_bytes=self.max_mb << 20)
        console.print(f"Serving {self.model_path} on ws://{self.host}:{server.port}", highlight=False, soft_wrap=True)
        try:
            server.run()
        except KeyboardInterrupt:
            server.stop()
        _report(service)
        return 0


@dataclass(frozen=True)
class Judge:
    """Evidence -> what the reply's info says: rho (B,), rho_edges (B, E), and flag and threshold when calibrated."""

    monitor: Any = None

    def __call__(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        """{} for a policy without streams."""
        from svms_gr00t.evaluate.monitor import chunk_rho

        if "rho" not in evidence:
            return {}
        edges = chunk_rho(evidence)
        said: dict[str, Any] = {"rho": edges.mean(1), "rho_edges": edges}
        if self.monitor is not None:
            readings = self.monitor.read(evidence)
            said |= {"flag": [reading.flag for reading in readings], "threshold": self.monitor.threshold}
        return said


def _stop_on_signals(service: "Service") -> None:
    """Ctrl-C and a polite kill end the server after the request at work; a second Ctrl-C ends it at once."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        service.stopping.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _report(service: "Service") -> None:
    found = service.latency.summary()
    times = "" if not found["requests"] else f", p50 {found['p50_ms']:.1f} ms, p95 {found['p95_ms']:.1f} ms"
    console.print(f"{found['requests']} requests, {service.errors} errors{times}", highlight=False)


def _replay(path: Path, service: "Service") -> int:
    from svms_gr00t.serve.traffic import replay

    worst, count = 0.0, 0
    for one in replay(path, service):
        worst, count = max(worst, one.difference), count + 1
    console.print(f"{count} requests asked again, largest difference {worst:.3g}", highlight=False)
    return int(worst == float("inf"))
