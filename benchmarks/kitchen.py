"""SVMS beside the equally trained plain model on the embedded kitchen, over several seeds: the README's table.

    python benchmarks/kitchen.py --seeds 5 --rollouts 5        writes benchmarks/kitchen_<date>.md

A seed chooses held-out episodes, batches, noise and fresh weights; both models of a seed share all of them. Open loop:
Student interval over seeds of the relative effect. Closed loop: scenes of all seeds pooled, paired by scene. Runs that
are finished are read, not repeated.
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
from svms_gr00t.evaluate.statistics.stats import mcnemar, paired_difference, wilson
from svms_gr00t.recipes.demo.config import POLICIES, DemoConfig
from svms_gr00t.recipes.demo.run import Demo

PLAIN, SVMS = POLICIES


def main() -> None:
    """Run every seed, write one page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rollouts", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=Path("runs/kitchen"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()
    reports, results = [], []
    for seed in range(args.seeds):
        folder = args.runs / f"seed_{seed}"
        reports.append(Demo(DemoConfig(seed=seed, rollouts=args.rollouts), folder, Bars()).run())
        results.append({n: OpenLoopResult.load(folder / f"open_loop_{n}.json") for n in POLICIES})
    driven = {
        name: [RolloutResult.load(args.runs / f"seed_{s}" / f"closed_loop_{name}.json") for s in range(args.seeds)]
        for name in (POLICIES if args.rollouts else ())
    }
    command = f"python benchmarks/kitchen.py --seeds {args.seeds} --rollouts {args.rollouts}"
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
    """Success by task, scenes of all seeds together."""
    if not driven:
        return ["## Closed loop", "", "Not measured.", ""]
    tasks = driven[PLAIN][0].config.tasks
    won = {
        name: {t: [r.success for one in runs for r in one.rollouts if r.task == t] for t in tasks}
        for name, runs in driven.items()
    }
    lines = ["## Closed loop: episodes won", "", "| task | plain | SVMS |", "|---|---:|---:|"]
    for task in tasks:
        lines.append(f"| {task} | {rate(won[PLAIN][task])} | {rate(won[SVMS][task])} |")
    plain, svms = (np.array([x for task in tasks for x in won[name][task]], dtype=bool) for name in POLICIES)
    lines.append(f"| all | {rate(plain)} | {rate(svms)} |")
    test = mcnemar(plain, svms)
    change = paired_difference(plain.astype(float), svms.astype(float))
    if change is None:
        return lines
    span = f"{100 * change.low:+.1f} to {100 * change.high:+.1f}"
    points = f"**{100 * change.estimate:+.1f} points**"
    text = f"SVMS against plain: {points} (95 % interval over scenes {span}; McNemar p = {test.p:.2f})."
    return [*lines, "", text, ""]


def rate(won: "list[bool] | np.ndarray") -> str:
    """Wins of episodes with the Wilson interval."""
    found = wilson(int(np.sum(won)), len(won))
    assert found is not None
    return f"{int(np.sum(won))}/{len(won)} [{100 * found.low:.0f}, {100 * found.high:.0f}] %"


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
