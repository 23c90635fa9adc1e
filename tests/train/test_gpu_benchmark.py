"""The GPU benchmark runs from end to end at tiny size on a CPU, and a part that fails or hangs costs only itself."""

import json
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "gpu"
NAMES = ("gpu", "gpu_acting", "gpu_page", "gpu_timing", "gpu_training")
QUICK = ["--preset", "tiny", "--device", "cpu", "--quick"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "")
    import gpu

    yield gpu
    for name in NAMES:
        sys.modules.pop(name, None)


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in next(folder.glob("*.jsonl")).read_text().splitlines()]


@pytest.mark.whole
def test_it_runs_at_tiny_size_and_writes_its_page(gpu, tmp_path: Path) -> None:
    page = gpu.main([*QUICK, "--out", str(tmp_path)]).read_text()
    rows = rows_of(tmp_path)
    assert not [row for row in rows if "failed" in row]
    trained = [row for row in rows if row["part"] == "training"]
    assert [row["phase"] for row in trained] == ["specialise", "couple", "end to end"]
    for row in trained:
        assert row["samples_per_s"] > 0
        assert row["mfu"] > 0
        assert row["resumed_apart"] == 0, "on a CPU the step after a resume is the very step"
    assert next(row for row in rows if row["part"] == "correctness")["ok"]
    assert {(row["what"], row["mode"]) for row in rows if row["part"] == "ratio"} == {
        ("A/A noise", "eager"),
        ("svms / plain", "eager"),
    }
    stages = [row["stage"] for row in rows if row["part"] == "stage" and row["model"] == "svms"]
    assert stages == ["vision", "language", "head", "svms"]
    assert [row["mode"] for row in rows if row["part"] == "policy"] == ["eager"]
    assert "*not measured*" in page
    assert "MISSED" not in page
    parts = [row["part"] for row in rows]
    assert parts.index("latency") < parts.index("training"), "a short loan sees what matters most"
    assert parts[-1] == "done"


@pytest.mark.whole
def test_a_part_that_fails_is_written_down_and_the_rest_goes_on(gpu, tmp_path: Path, monkeypatch) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise KeyError("no such thing\nsecond line")

    for module, name in ((gpu.gpu_training, "training"), (gpu.gpu_acting, "actor"), (gpu, "ceilings")):
        monkeypatch.setattr(module, name, broken)
    page = gpu.main([*QUICK, "--out", str(tmp_path)]).read_text()
    assert "- training couple: KeyError: 'no such thing" in page
    assert "Ceilings: *not measured*." in page
    assert [row["mode"] for row in rows_of(tmp_path) if row["part"] == "policy"] == ["eager"]


@pytest.mark.whole
def test_a_part_that_hangs_is_stopped_and_the_page_stands_after_every_part(gpu, tmp_path: Path, monkeypatch) -> None:
    seen: list[str] = []

    def hangs(bench: object, *_: object) -> None:
        seen.append(bench.args.page.read_text())
        time.sleep(60)

    monkeypatch.setattr(gpu.gpu_acting, "correctness", hangs)
    monkeypatch.setattr(gpu.gpu_training, "training", hangs)
    began = time.monotonic()
    page = gpu.main([*QUICK, "--budget", "6", "--out", str(tmp_path)]).read_text()
    assert time.monotonic() - began < 20
    assert "Ceilings: *not measured*" not in seen[0], "what was found before is on the page already"
    assert "It was cut short, or still runs." in seen[0]
    assert "It was cut short" not in page
    failed = {row["part"]: row["failed"] for row in rows_of(tmp_path) if "failed" in row}
    assert failed["correctness"].startswith("TimeoutError: stopped after")
    assert failed["training couple"] == "no time left"


def test_what_is_refilled_is_what_the_model_sees(gpu) -> None:
    """A graph reads its inputs where they lie: writing another batch over them must change the action to that one's."""
    bench = gpu.Bench(
        args=gpu.argparse.Namespace(preset="tiny", quick=True), device=torch.device("cpu"), dtype=torch.float32
    )
    model = bench.model(svms=True)
    inputs, other = (bench.inputs(model.config, 1, 1, seed=seed) for seed in (0, 1))
    torch.manual_seed(0)
    act = gpu.gpu_acting.actor(model, inputs)
    first = act().clone()
    gpu.gpu_acting.refill(inputs, other)
    torch.manual_seed(0)
    assert torch.equal(act(), gpu.gpu_acting.actor(model, other)())
    assert not torch.equal(act(), first)


def test_a_known_slowdown_is_found(gpu) -> None:
    from gpu_timing import interval, ratios

    cpu = torch.device("cpu")
    same = interval(ratios(lambda: time.sleep(0.02), lambda: time.sleep(0.02), cpu, 11))
    slower = interval(ratios(lambda: time.sleep(0.02), lambda: time.sleep(0.04), cpu, 11))
    assert 0.9 < same[0] < 1.1
    assert 1.6 < slower[1] <= slower[0] <= slower[2] < 2.4
