"""Timers and ceilings for gpu.py. On a CPU the clock replaces events."""

import time
from collections.abc import Callable

import torch

from svms_gr00t.core.types import ModelInputs
from svms_gr00t.model import Gr00tN1d6

Run = Callable[[], object]


def milliseconds(run: Run, device: torch.device) -> float:
    """Of one call, by events on a GPU."""
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        return 1000 * (time.perf_counter() - began)
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    run()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last))


def quantiles(run: Run, device: torch.device, repeats: int) -> dict[str, float]:
    """Median, 95 % and largest time in ms after three calls that do not count."""
    for _ in range(3):
        run()
    times = torch.tensor([milliseconds(run, device) for _ in range(repeats)])
    return {"p50": float(times.median()), "p95": float(times.quantile(0.95)), "max": float(times.max())}


def ratios(base: Run, other: Run, device: torch.device, rounds: int) -> torch.Tensor:
    """other / base, one number a round. A round runs both twice as A B B A or B A A B, so that drift cancels."""
    for run in (base, other):
        run()
    found = []
    for i in range(rounds):
        order = (base, other, other, base) if i % 2 == 0 else (other, base, base, other)
        times = [milliseconds(run, device) for run in order]
        mine = (times[1] + times[2]) if i % 2 == 0 else (times[0] + times[3])
        found.append(mine / (sum(times) - mine))
    return torch.tensor(found)


def interval(values: torch.Tensor, draws: int = 2000) -> tuple[float, float, float]:
    """Median with its bootstrap 95 % interval."""
    source = torch.Generator().manual_seed(0)
    picks = torch.randint(len(values), (draws, len(values)), generator=source)
    medians = values[picks].median(dim=1).values
    low, high = medians.quantile(torch.tensor([0.025, 0.975])).tolist()
    return float(values.median()), low, high


def ceilings(device: torch.device, size: int, dtype: torch.dtype) -> dict[str, float]:
    """What the device reaches at best: matrix products in TFLOP/s, copies in TB/s."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.empty(size * size * 16, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    product = quantiles(lambda: a @ b, device, 20)["p50"]
    copy = quantiles(lambda: target.copy_(source), device, 20)["p50"]
    return {"tflops": 2 * size**3 / product / 1e9, "tb_per_s": 2 * source.numel() / copy / 1e9}


def actor(model: Gr00tN1d6, inputs: ModelInputs) -> Run:
    """One observation to one action chunk, with the times of the sampler made once."""
    head = model.action_head
    noise = torch.randn_like(inputs.action) if inputs.action is not None else None
    with torch.no_grad():
        features, _ = model.encode(inputs, losses=False)
        schedule = head.schedule(head.observe(features, inputs.state, inputs.embodiment_id).rows)

    @torch.no_grad()
    def act() -> torch.Tensor:
        features, _ = model.encode(inputs, losses=False)
        return head.sample(features, inputs.state, inputs.embodiment_id, noise=noise, schedule=schedule)

    return act
