"""SVMS beside the equally trained plain model on the embedded kitchen, over several seeds: the README's table.

    python benchmarks/kitchen.py --seeds 5 --rollouts 5        writes benchmarks/kitchen_<date>.md
    python benchmarks/kitchen.py --seeds 4 --memory-frames 12  SVMS with memory, on tasks that need none

A seed chooses held-out episodes, batches, noise and fresh weights; both models of a seed share all of them. Open loop:
Student interval over seeds of the relative effect. Closed loop: paired by seed and scene, interval over seeds. Runs
that are finished are read, not repeated.
"""

import argparse
import datetime
import os
import platform
from pathlib import Path

import numpy as np
from scipy import stats

from svms_gr00t.cli.console import Bars
from svms_gr00t.core.provenance import commit, versions
from svms_gr00t.evaluate.closed_loop.result import RolloutResult
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
from svms_gr00t.evaluate.report.data import ReportData
from svms_gr00t.evaluate.statistics.seeds import compare_seeds, success_rate
from svms_gr00t.evaluate.statistics.stats import effect_text, p_value, points
from svms_gr00t.recipes.demo.config import POLICIES, DemoConfig
from svms_gr00t.recipes.demo.run import Demo

PLAIN, SVMS = POLICIES


def main() -> None:
    """Run every seed, write one page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rollouts", type=int, default=5)
    parser.add_argument("--memory-frames", type=int, default=0, help="earlier steps that SVMS remembers")
    parser.add_argument("--runs", type=Path, default=Path("runs/kitchen"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()
    reports, results = [], []
    for seed in range(args.seeds):
        folder = args.runs / f"seed_{seed}"
        asked = {"seed": seed, "rollouts": args.rollouts, "memory_frames": args.memory_frames}
        reports.append(Demo(DemoConfig.of("single", **asked), folder, Bars()).run())
        results.append({n: OpenLoopResult.load(folder / f"open_loop_{n}.json") for n in POLICIES})
    driven = {
        name: [RolloutResult.load(args.runs / f"seed_{s}" / f"closed_loop_{name}.json") for s in range(args.seeds)]
        for name in (POLICIES if args.rollouts else ())
    }
    command = f"python benchmarks/kitchen.py --seeds {args.seeds} --rollouts {args.rollouts}"
    command += f" --memory-frames {args.memory_frames}" * bool(args.memory_frames)
    lines = [*header(command), *open_loop(results), *closed_loop(driven), *gates(reports)]
    page = args.out / f"kitchen_{datetime.date.today().isoformat()}.md"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def header(command: str) -> list[str]:
    """What was run, and where."""
    ran = ", ".join(f"{name} {number}" for name, number in versions().items())
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    return [
        "# SVMS and the plain model in the embedded kitchen",
        "",
        f"`{command}`, commit {commit()}.",
        f"{ran}; {machine}.",
        "",
    ]


def open_loop(results: list[dict[str, OpenLoopResult]]) -> list[str]:
    """One row a seed, and the effect over seeds."""
    lines = ["## Open loop: normalised action error (MSE) on held-out episodes", ""]
    baselines = [name for name in results[0][PLAIN].methods if name != PLAIN]
    lines += ["| seed | plain | SVMS | SVMS against plain | " + " | ".join(baselines) + " |"]
    lines += ["|---|" + "---:|" * (3 + len(baselines))]
    effects = []
    for seed, found in enumerate(results):
        plain, svms = (found[name].scores.mse for name in POLICIES)
        effects.append(100 * (svms / plain - 1))
        naive = " | ".join(f"{found[PLAIN].methods[name].mse:.4f}" for name in baselines)
        lines.append(f"| {seed} | {plain:.5f} | {svms:.5f} | {effects[-1]:+.1f} % | {naive} |")
    center = float(np.mean(effects))
    text = "one seed, no interval"
    if len(effects) > 1:
        low, high = stats.t.interval(0.95, len(effects) - 1, loc=center, scale=stats.sem(effects))
        text = f"95 % interval over seeds {low:+.1f} to {high:+.1f} %"
    return [*lines, "", f"SVMS against plain, mean over seeds: **{center:+.1f} %** ({text}).", ""]


def closed_loop(driven: dict[str, list[RolloutResult]]) -> list[str]:
    """Success by task and over all, each seed's rate counting once: scenes of several seeds are not independent."""
    if not driven:
        return ["## Closed loop", "", "Not measured.", ""]
    lines = ["## Closed loop: success, mean over seeds", "", "| task | plain | SVMS |", "|---|---:|---:|"]
    for task in (*driven[PLAIN][0].config.tasks, None):
        sides = [won(driven[name], task) for name in POLICIES]
        lines.append(f"| {task or 'all'} | {rate(sides[0])} | {rate(sides[1])} |")
    found = compare_seeds(won(driven[PLAIN], None), won(driven[SVMS], None), outcomes=True)
    change, span = effect_text(points(found.difference), " points")
    unit = "new seed" if found.seeds > 1 else "new scenes"
    return [*lines, "", f"SVMS against plain: **{change}** (95 % for {unit} {span}; p: {p_value(found.p)}).", ""]


def won(runs: list[RolloutResult], task: str | None) -> dict[int, dict[int, float]]:
    """1 or 0 by training seed and scene, of one task or all."""
    return {
        seed: {r.seed: float(r.success) for r in run.rollouts if task in (None, r.task)}
        for seed, run in enumerate(runs)
    }


def rate(outcomes: dict[int, dict[int, float]]) -> str:
    """Wins of episodes, and the interval of the success rate over seeds."""
    found, runs = success_rate(outcomes), list(outcomes.values())
    assert found is not None
    count = f"{sum(sum(run.values()) for run in runs):.0f}/{sum(map(len, runs))}"
    return f"{count} [{100 * found.low:.0f}, {100 * found.high:.0f}] %"


def gates(reports: list[ReportData]) -> list[str]:
    """How many seeds pass each criterion."""
    lines = ["## Gates", "", "| phase | criterion | seeds that pass | measured |", "|---|---|---:|---|"]
    for number, gate in enumerate(reports[0].gates):
        same = [report.gates[number] for report in reports]
        passed = sum(bool(one.passed) for one in same)
        measured = "; ".join(one.measured or "not measured" for one in same)
        lines.append(f"| {gate.phase} | {gate.criterion} | {passed} of {len(same)} | {measured} |")
    return lines


if __name__ == "__main__":
    main()
