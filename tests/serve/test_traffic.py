"""The command, its recordings, and the same requests asked again."""

import http.client
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from svms_gr00t.cli.main import main
from svms_gr00t.cli.serve import Serve
from svms_gr00t.core.errors import DataError
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.serve.client import PolicyClient, ServerError
from svms_gr00t.serve.latency import Histogram
from svms_gr00t.serve.service import Service
from svms_gr00t.serve.traffic import Recorder, difference, replay

SERVE = [sys.executable, "-m", "svms_gr00t", "serve", "--model-path", str(shipped("tiny_base"))]


def test_the_command_serves_both_protocols_records_and_stops_on_a_signal(
    observation: dict[str, Any], tmp_path: Path
) -> None:
    record = tmp_path / "traffic.bin"
    options = ["--protocol", "both", "--port", "0", "--websocket-port", "0", "--record", str(record)]
    process = subprocess.Popen([*SERVE, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    ports = [int(line.rpartition(":")[2]) for line in lines]
    with PolicyClient(port=ports[0]) as client:
        client.reset({"seed": 5})
        client.get_modality_config()
        for _ in range(2):
            client.get_action(observation)
        with pytest.raises(ServerError):
            client.call("get_action", {"observation": {}})
    web = http.client.HTTPConnection("127.0.0.1", ports[1], timeout=10)
    web.request("GET", "/healthz")
    assert web.getresponse().status == 200
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert rest.startswith("2 actions, 1 errors, p50 ") or rest.startswith("3 actions, 1 errors, p50 ")
    found = list(replay(record, Service(policy=Policy.from_pretrained(shipped("tiny_base")))))
    asked = ["reset", "get_modality_config", "get_action", "get_action"]
    assert [(one.endpoint, one.difference) for one in found] == [(name, 0.0) for name in asked]


def test_the_command_replays(
    tmp_path: Path, start: Any, observation: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(tmp_path / "t.bin")
    with PolicyClient(port=start(seen=recorder).port) as client:
        client.get_action(observation, {"seed": 0})
    recorder.close()
    with pytest.raises(SystemExit) as done:
        main(["serve", "--model-path", str(shipped("tiny_base")), "--replay", str(tmp_path / "t.bin")])
    assert done.value.code == 0
    assert "1 requests asked again, largest difference 0" in capsys.readouterr().out
    with pytest.raises(SystemExit) as refused:
        main(["serve", "--model-path", str(shipped("tiny_base")), "--host", "0.0.0.0"])
    assert refused.value.code == 2
    assert "token" in capsys.readouterr().err


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def token(**options: Any) -> str | None:
        return Serve(model_path=str(shipped("tiny_base")), **options)._service().token

    assert token() is None
    monkeypatch.setenv("SVMS_GR00T_TOKEN", "from outside")
    assert token() == "from outside"
    assert token(api_token="given") == "given"
    assert token(replay=tmp_path / "t.bin") is None, "recordings hold none"


def test_a_recording_holds_no_token_and_notices_another_policy(
    tmp_path: Path, policy: Policy, start: Any, observation: dict[str, Any]
) -> None:
    recorder = Recorder(tmp_path / "t.bin")
    port = start(token="secret", seen=recorder).port
    with PolicyClient(port=port, api_token="secret") as client, PolicyClient(port=port, api_token="guess") as other:
        client.get_action(observation, {"seed": 0})
        assert not other.ping()
    recorder.close()
    kept = (tmp_path / "t.bin").read_bytes()
    assert b"secret" not in kept
    assert b"guess" not in kept

    class Shifted:
        def get_action(self, observation: Any, options: Any = None) -> Any:
            action, info = policy.get_action(observation, options)
            return {key: value + 0.5 for key, value in action.items()}, info

        reset = policy.reset
        get_modality_config = policy.get_modality_config

    assert [one.difference for one in replay(tmp_path / "t.bin", Service(policy=Shifted()))] == pytest.approx([0.5])


def test_recordings_are_never_overwritten_and_broken_ones_are_said(tmp_path: Path, policy: Policy) -> None:
    path = tmp_path / "t.bin"
    recorder = Recorder(path)
    recorder(b"\xc1 no request", msgpack.packb({"error": "it said"}))
    recorder(b"api_token", msgpack.packb({"error": "it said"}))
    recorder.close()
    recorder(b"after the end", b"")
    with pytest.raises(DataError, match="Choose another --record"):
        Recorder(path)
    assert list(replay(path, Service(policy=policy))) == []
    path.write_bytes(path.read_bytes()[:-3])
    assert list(replay(path, Service(policy=policy))) == [], "a crash may cut the last one off"
    path.write_bytes(b"\x01\x02")
    with pytest.raises(DataError, match="recording"):
        list(replay(path, Service(policy=policy)))


def test_differences_are_those_of_numbers_and_infinite_where_the_form_changed() -> None:
    before = [{"a": np.zeros(3), "b": [1, "x"]}, {}]
    assert difference(before, [{"a": np.array([0, -2.0, 1]), "b": [1, "x"]}, {}]) == 2.0
    assert difference(before, [{"a": np.zeros(3), "b": [1.5, "x"]}, {}]) == 0.5
    for other in ([{"a": np.zeros(4), "b": [1, "x"]}, {}], [{"a": np.zeros(3), "b": [1, "y"]}, {}], None):
        assert difference(before, other) == float("inf")


def test_what_is_not_finite_differs_from_everything_and_from_itself() -> None:
    """The largest of a list may not lose it: max(0.0, nan) is 0.0."""
    plain = [{"a": np.zeros(2), "b": np.zeros(2), "c": 0.5}, {}]
    for key, value in (("a", np.array([0, np.nan])), ("b", np.array([np.inf, 0])), ("c", float("nan"))):
        spoiled = [{**plain[0], key: value}, {}]
        for before, now in ((plain, spoiled), (spoiled, plain), (spoiled, spoiled)):
            assert difference(before, now) == float("inf"), key
    assert difference([np.array(["a"])], [np.array(["a"])]) == 0.0
    assert difference([np.array(["a"])], [np.array(["b"])]) == float("inf")


def test_a_replay_with_nan_differs(tmp_path: Path, policy: Policy, start: Any, observation: dict[str, Any]) -> None:
    recorder = Recorder(tmp_path / "t.bin")
    with PolicyClient(port=start(seen=recorder).port) as client:
        client.get_action(observation, {"seed": 0})
    recorder.close()

    class Spoiled:
        def get_action(self, observation: Any, options: Any = None) -> Any:
            action, info = policy.get_action(observation, options)
            next(iter(action.values()))[0, 3] = np.nan
            return action, info

        reset = policy.reset
        get_modality_config = policy.get_modality_config

    assert [one.difference for one in replay(tmp_path / "t.bin", Service(policy=policy))] == [0.0]
    assert [one.difference for one in replay(tmp_path / "t.bin", Service(policy=Spoiled()))] == [float("inf")]


def test_quantiles_are_right_to_within_a_bucket() -> None:
    times = np.random.default_rng(0).lognormal(2.0, 1.0, 5000)
    histogram = Histogram()
    for one in times:
        histogram.add(float(one))
    for share in (0.5, 0.95, 0.99):
        exact, found = float(np.quantile(times, share)), histogram.quantile(share)
        assert found is not None
        assert exact <= found * 1.001
        assert found <= 1.26 * exact
    assert histogram.quantile(1.0) == histogram.longest == times.max()
    assert sum(histogram.buckets().values()) == 5000
    assert Histogram().quantile(0.5) is None
