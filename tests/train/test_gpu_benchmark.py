"""The GPU benchmark runs from end to end at tiny size on a CPU, and its page says what was not measured."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "gpu"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    yield gpu
    for name in ("gpu", "gpu_page", "gpu_timing"):
        sys.modules.pop(name, None)


def test_it_runs_at_tiny_size_and_writes_its_page(gpu, tmp_path: Path) -> None:
    page = gpu.main(["--preset", "tiny", "--device", "cpu", "--quick", "--out", str(tmp_path)]).read_text()
    rows = [json.loads(line) for line in next(tmp_path.glob("*.jsonl")).read_text().splitlines()]
    assert not [row for row in rows if "failed" in row]
    assert [row["phase"] for row in rows if row["part"] == "training"] == ["specialise", "couple", "end to end"]
    assert all(row["samples_per_s"] > 0 and row["tflops"] > 0 for row in rows if row["part"] == "training")
    assert next(row for row in rows if row["part"] == "correctness")["ok"]
    assert {row["what"] for row in rows if row["part"] == "ratio"} == {"A/A noise", "svms / plain"}
    assert "not measured" in page
    assert "MISSED" not in page


def test_a_part_that_fails_is_written_down_and_the_rest_goes_on(gpu, tmp_path: Path, monkeypatch) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("out of memory\nsecond line")

    for name in ("training", "latency", "ceilings"):
        monkeypatch.setattr(gpu, name, broken)
    page = gpu.main(["--preset", "tiny", "--device", "cpu", "--quick", "--out", str(tmp_path)]).read_text()
    assert "training couple adamw: RuntimeError: out of memory" in page
    assert "Ceilings: not measured." in page


def test_a_known_slowdown_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import time

    import torch
    from gpu_timing import interval, ratios

    cpu = torch.device("cpu")
    same = interval(ratios(lambda: time.sleep(0.004), lambda: time.sleep(0.004), cpu, 15))
    slower = interval(ratios(lambda: time.sleep(0.004), lambda: time.sleep(0.008), cpu, 15))
    assert 0.9 < same[0] < 1.1
    assert 1.6 < slower[1] <= slower[0] <= slower[2] < 2.4
    sys.modules.pop("gpu_timing", None)
