"""What memory adds to one action chunk: the same observation asked of policies in turn, many times.

    python benchmarks/speed/acting_memory.py --out benchmarks        writes latency_memory_<date>.md

Every policy acts through `Policy.act` on one thread, from pictures to physical actions; those with memory have a full
ring and keep every step. Each round asks all of them, in another order; what counts is the median over rounds of a
policy's time over that of the same policy without memory. Processor time: other programs on the machine count less.
"""

import argparse
import datetime
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.groot.checkpoint.loading import read_config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.presets import PRESETS

OFFSETS = tuple(range(-96, 0, 8))
ALLOWED = 1.02


def build(**svms: Any) -> Policy:
    """The shipped tiny base with the tiny preset's SVMS, as `svms` changes it."""
    base = shipped("tiny_base")
    processor = Processor.load(base)
    tiny = PRESETS["tiny"].config(processor.tokenizer)
    size = {name: getattr(tiny, name) for name in ("d_stream", "d_overlap", "adapter_rank")}
    config = replace(read_config(base), **(size | {"use_sheaf_streams": True} | svms))
    torch.manual_seed(0)
    return Policy(Gr00tN1d6.from_pretrained(base, config=config, dtype=torch.float32), processor)


def asker(policy: Policy) -> Callable[[], float]:
    """Asks for the next chunk of an episode that never ends; milliseconds of processor time."""
    config, rng = policy.processor.config.embodiment, np.random.default_rng(0)
    sizes = {
        key: int(np.size(row["min"]))
        for key, row in policy.processor.statistics["robocasa_panda_omron"]["state"].items()
    }
    seen: dict[str, Any] = {
        f"video.{k}": rng.integers(0, 255, (256, 256, 3), np.uint8) for k in config.video.modality_keys
    }
    seen |= {f"state.{k}": np.zeros(sizes[k]) for k in config.state.modality_keys}
    seen |= {config.language.modality_keys[0]: "open the left drawer"}
    step = 0
    policy.reset(0)

    def ask() -> float:
        nonlocal step
        began = time.process_time()
        policy.act([seen | {"step": step}], seeds=[step])
        step += 8
        return 1e3 * (time.process_time() - began)

    return ask


def measure(policies: dict[str, Policy], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every round, after enough of them to fill the rings."""
    asks = {name: asker(policy) for name, policy in policies.items()}
    found: dict[str, list[float]] = {name: [] for name in asks}
    for number in range(rounds + len(OFFSETS) + 1):
        for name in random.Random(number).sample(list(asks), len(asks)):
            took = asks[name]()
            if number > len(OFFSETS):
                found[name].append(took)
    return found


def ratio(a: list[float], b: list[float], draws: int = 2000) -> tuple[float, float, float]:
    """Median over rounds of a / b, and its 95 % bootstrap interval."""
    ratios = np.array(a) / np.array(b)
    drawn = np.random.default_rng(0).integers(0, len(ratios), (draws, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def page(found: dict[str, list[float]], rounds: int) -> str:
    """The table."""
    lines = [
        "# What memory adds to an action chunk",
        f"`python benchmarks/speed/acting_memory.py --rounds {rounds}`: tiny preset, three 256-pixel cameras, one",
        f"thread of {platform.machine()}, torch {torch.__version__}, {len(OFFSETS)} past steps at stride 8 (full).",
        "Processor time of `Policy.act`; ratios are medians of paired rounds with 95 % bootstrap intervals.",
        "",
        "| policy | ms, median | over the same without memory |",
        "|---|---:|---:|",
    ]
    pairs = {"SVMS with memory": "SVMS", "memory alone": "plain"}
    for name, times in found.items():
        text = "" if name not in pairs else "{:.3f} [{:.3f}, {:.3f}]".format(*ratio(times, found[pairs[name]]))
        lines.append(f"| {name} | {statistics.median(times):.2f} | {text} |")
    worst = ratio(found["SVMS with memory"], found["SVMS"])[0]
    lines += ["", f"Aim: at most {ALLOWED:.2f}. {'Met.' if worst <= ALLOWED else 'Not met.'}", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    policies = {
        "plain": build(use_sheaf_streams=False),
        "SVMS": build(),
        "SVMS with memory": build(memory_offsets=OFFSETS),
        "memory alone": build(memory_offsets=OFFSETS, memory_only=True),
    }
    text = page(measure(policies, given.rounds), given.rounds)
    path = given.out / f"latency_memory_{datetime.date.today()}.md"
    path.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
