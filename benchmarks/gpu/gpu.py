"""Latency, memory and speed of the released size on one GPU, in at most eight minutes, written as one dated page.

    python benchmarks/gpu/gpu.py --out benchmarks                    gpu_<date>.md and gpu_<date>.jsonl
    python benchmarks/gpu/gpu.py --preset tiny --device cpu --quick  the same code in seconds, for the test suite

Weights are random: neither time nor memory depends on their values. A loan may end at any moment: what matters most
comes first, the page is written anew after every part, and a part that fails or takes too long is written down with its
reason while the rest goes on.
"""

import argparse
import datetime
import gc
import json
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # as training does, before CUDA starts

import gpu_acting
import gpu_training
import torch
from gpu_page import page
from gpu_timing import ceilings

from svms_gr00t.core.provenance import commit, versions
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.processor.tokenizer import load_tokenizer
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.presets import preset
from svms_gr00t.train.memory.synthetic import synthetic_inputs

BUDGET = 480.0


@dataclass
class Bench:
    """One run: what to measure on, how long it may take, and what was found so far."""

    args: argparse.Namespace
    device: torch.device
    dtype: torch.dtype
    began: float = field(default_factory=time.monotonic)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def released(self) -> bool:
        """Whether this is the real size."""
        return bool(self.args.preset == "n1d6")

    @property
    def cuda(self) -> bool:
        """Whether there are events, graphs and memory to read."""
        return self.device.type == "cuda"

    @property
    def left(self) -> float:
        """Seconds."""
        return float(self.args.budget) - (time.monotonic() - self.began)

    def add(self, part: str, **values: Any) -> None:
        """One line of results; file and page are written at once."""
        row = {"part": part, "at_s": round(time.monotonic() - self.began, 1), **values}
        self.rows.append(row)
        with self.args.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        partial = self.args.page.with_suffix(".partial")
        partial.write_text(page(self.rows), encoding="utf-8")
        partial.replace(self.args.page)
        print(json.dumps(row), flush=True)

    def part(self, name: str, run: Callable[[], object], limit: float = 60.0) -> None:
        """Run a part that may fail, or take longer than `limit` seconds or than is left, without harming the others."""
        seconds = min(limit, self.left)
        if seconds < 1:
            self.add(name, failed="no time left")
            return
        signal.signal(signal.SIGALRM, lambda *_: _stop(f"stopped after {seconds:.0f} s"))
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                run()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Exception as error:  # noqa: BLE001  # whatever it is, the other parts are worth having
            text = str(error).strip().splitlines()
            self.add(name, failed=f"{type(error).__name__}: {text[0][:200] if text else ''}")
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def model(self, *, svms: bool) -> Gr00tN1d6:
        """Random weights made on the device, one embodiment."""
        config = preset(self.args.preset).config(load_tokenizer("tiny"), use_sheaf_streams=svms)
        with torch.device("meta"):
            model = Gr00tN1d6(config).to(self.dtype)
        model.to_empty(device=self.device)
        torch.manual_seed(0)
        for part in (model.backbone, model.action_head, model.svms):
            if part is not None:
                part.reset_parameters()
        if model.svms is not None:
            torch.nn.init.normal_(model.svms.merge.weight, std=0.02)
        model.action_head.keep_embodiments(0)
        return model.eval()

    def inputs(
        self, config: Gr00tN1d6Config, rows: int, views: int, *, cached: bool = False, seed: int = 0
    ) -> ModelInputs:
        """A random batch on the host, pinned for a GPU."""
        side, layer = 252 if self.released else 84, 12 if cached else None
        text = 28 + 7 * views
        found = synthetic_inputs(config, rows, views=views, side=side, text=text, cached_layer=layer, seed=seed)
        return found.pin_memory() if self.cuda else found


def _stop(reason: str) -> None:
    raise TimeoutError(reason)


def setup(bench: Bench) -> None:
    """What this was measured on."""
    rest: dict[str, Any] = versions()
    where = f"CPU ({platform.machine()})"
    if bench.cuda:
        where = torch.cuda.get_device_name(bench.device)
        rest |= {"driver": _driver(), "CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}
    bench.add("setup", device=where, preset=bench.args.preset, commit=commit(), budget=bench.args.budget, **rest)


def _driver() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown"
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else "unknown"


def measure(bench: Bench) -> None:
    """Everything, in the order of what matters most."""
    views = (1,) if bench.args.quick else (1, 3)
    bench.part("ceilings", lambda: limits(bench), 20)
    bench.part("correctness", lambda: gpu_acting.correctness(bench), 30)
    for number in views:
        gpu_acting.latency(bench, number)
    gpu_acting.policy(bench, views[-1])
    gpu_training.phases(bench)
    gpu_training.throughput(bench)
    gpu_training.optimizers(bench)
    for number in views:
        gpu_acting.compiled(bench, number)


def limits(bench: Bench) -> None:
    """What the device reaches at best."""
    bench.add("ceilings", **ceilings(bench.device, 8192 if bench.cuda else 256, bench.dtype))


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure and write the page; returns it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="n1d6", choices=("n1d6", "tiny"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="few repeats, few cases")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds in all; what runs then is stopped")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"gpu_{datetime.date.today().isoformat()}"
    args.page, args.lines = stem.with_suffix(".md"), stem.with_suffix(".jsonl")
    args.lines.write_text("", encoding="utf-8")
    device = torch.device(args.device)
    bench = Bench(args=args, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)
    setup(bench)
    measure(bench)
    bench.add("done", seconds=round(time.monotonic() - bench.began, 1))
    return Path(args.page)


if __name__ == "__main__":
    main()
