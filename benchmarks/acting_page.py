"""What acting.py found, as a page."""

import platform
import statistics
from dataclasses import dataclass

import numpy as np
import torch

from svms_gr00t.core.provenance import commit

PLAIN_AIM, SVMS_AIM, MEMORY_AIM = 2.0, 0.01, 0.02


@dataclass(frozen=True)
class Found:
    """Milliseconds by round."""

    whole: dict[str, list[float]]
    """Of every side."""
    stages: dict[str, dict[str, list[float]]]
    """Of each stage: "written down" and "ours"."""
    gflop: dict[str, dict[str, float]]
    """Arithmetic of each stage: "written down" and "ours"."""
    added: dict[str, list[float]]
    """Of what stands between backbone and action head."""
    apart: float
    """Largest relative distance of our plain chunk from the one written down."""


def ratio(a: list[float], b: list[float], draws: int = 2000) -> tuple[float, float, float]:
    """Median over rounds of a / b, and its 95 % bootstrap interval."""
    ratios = np.array(a) / np.array(b)
    drawn = np.random.default_rng(0).integers(0, len(ratios), (draws, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def page(found: Found, command: str, views: int) -> str:
    """The tables."""
    median = statistics.median
    plain = median(found.whole["plain"])
    lines = [
        "# Acting beside N1.6 written straight down",
        "",
        f"`{command}`, commit {commit()}: the released depth at a quarter of its width, {views} views of 252 pixels,",
        f"float32, one thread of {platform.machine()}, torch {torch.__version__}. Milliseconds of processor time, as",
        "medians; ratios are medians of paired rounds with 95 % bootstrap intervals. *Written down* is N1.6's",
        "structure in `acting_plain.py`, on the same weights. Its chunks and ours differ by "
        f"{found.apart:.1e} of the way from noise to action.",
        "",
        "| from pixels to a chunk | ms | written down / it | it / plain |",
        "|---|---:|---:|---:|",
    ]
    for name, times in found.whole.items():
        over = "{:.2f} [{:.2f}, {:.2f}]".format(*ratio(found.whole["written down"], times))
        under = "{:.3f} [{:.3f}, {:.3f}]".format(*ratio(times, found.whole["plain"]))
        lines.append(f"| {name} | {median(times):.0f} | {over} | {under} |")
    lines += [
        "",
        "| stage, plain | written down | ours | ratio of times | of arithmetic |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, pair in found.stages.items():
        theirs, mine, work = pair["written down"], pair["ours"], found.gflop[name]
        sides = (f"{median(pair[side]):.0f} ms, {work[side]:.1f} GFLOP" for side in pair)
        over = f"{ratio(theirs, mine)[0]:.2f} | {work['written down'] / work['ours']:.2f}"
        lines.append(f"| {name} | {' | '.join(sides)} | {over} |")
    least = sum(one["written down"] for one in found.gflop.values()) / sum(one["ours"] for one in found.gflop.values())
    lines += ["", "| between backbone and action head, timed alone | ms | of plain's latency |", "|---|---:|---:|"]
    for name, times in found.added.items():
        lines.append(f"| {name} | {median(times):.1f} | {100 * median(times) / plain:.2f} % |")
    memory = (median(found.added["SVMS with memory"]) - median(found.added["SVMS"])) / plain
    reached = ratio(found.whole["written down"], found.whole["plain"])[0]
    share = median(found.added["SVMS"]) / plain
    lines += [
        "",
        f"- {PLAIN_AIM:g} times faster than written down: {_met(reached >= PLAIN_AIM)} ({reached:.2f}).",
        f"  What is written down does {least:.2f} times the arithmetic; more",
        "  would have to come from faster products, which both sides take from the same library.",
        f"- SVMS at most {100 * SVMS_AIM:g} % of plain's latency: {_met(share <= SVMS_AIM)} ({100 * share:.2f} %).",
        f"- Its memory at most {100 * MEMORY_AIM:g} %: {_met(memory <= MEMORY_AIM)} ({100 * memory:.2f} %).",
        "",
        "The last two are shares of parts timed alone; in the first table they are smaller than its noise.",
        "",
    ]
    return "\n".join(lines)


def _met(fine: bool) -> str:
    return "met" if fine else "not met"
