"""The consistency monitor against other detectors: broken sensors on new scenes, and rollouts that will fail.

    python benchmarks/consistency.py DEMONSTRATIONS NEW_SCENES [--seeds 3] [--episodes 30] [--rollouts 8]

Both are written by `svms-gr00t sim record` with different seeds. The policy is the shipped base, frozen. Other
detectors are fitted on clean looks at the episodes that the monitor's heads learned from, and all are tried on episodes
of NEW_SCENES.
Action variance and rollouts are measured with the first seed only: they do not depend on the monitor's.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from svms_gr00t.consistency.monitor import Consistency
from svms_gr00t.consistency.train import MonitorConfig, deal, train_monitor
from svms_gr00t.core.provenance import commit
from svms_gr00t.data.lerobot.dataset import LeRobotDataset, spread
from svms_gr00t.evaluate.streams.detectors import OURS, Detection, detect
from svms_gr00t.evaluate.streams.foresight import Foresight, foresee
from svms_gr00t.evaluate.streams.looks import Look, look_at_episodes
from svms_gr00t.evaluate.streams.shifts import shifts
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.benchmarks.foresight import drive_and_look
from svms_gr00t.recipes.shipped import shipped

APART = 100_000
Found = dict[str, dict[str, Detection]]


def main() -> None:
    """Print the page's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demonstrations")
    parser.add_argument("new_scenes")
    for name, default in (("seeds", 3), ("episodes", 30), ("rollouts", 8), ("scenes", 2026)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    policy = Policy.from_pretrained(shipped("tiny_base"), dtype="float32")
    known, new = LeRobotDataset.open(asked.demonstrations), LeRobotDataset.open(asked.new_scenes)
    tried = spread([one.index for one in new.episodes], asked.episodes)
    began, found = time.monotonic(), list[Found]()
    for seed in range(asked.seeds):
        parts = deal([one.index for one in known.episodes], (), alpha=0.05, seed=seed)
        monitor = train_monitor(policy, known, parts, MonitorConfig(seed=seed))
        print(f"\nseed {seed}: monitor after {time.monotonic() - began:.0f} s, {_sizes(monitor)}", flush=True)
        draws = 4 if seed == 0 else 1
        fit = look_at_episodes(policy, known, spread(monitor.facts.train, 48), draws=draws, monitor=monitor)
        fit = [replace(one, episode=one.episode + APART) for one in fit]
        found.append(_on_shifts(policy, monitor, new, tried, fit, draws))
        _table(found[-1])
        if seed == 0 and asked.rollouts:
            looks, failed = drive_and_look(policy, monitor, episodes=asked.rollouts, seed=asked.scenes)
            for first in (6, 12):
                _foresight(foresee(looks, failed, fit, first=first))
    print(f"\nAUROC of the monitor, mean of {asked.seeds} seeds (lowest)")
    for shift in found[0]:
        values = [one[shift][OURS].auroc for one in found]
        print(f"| {shift} | {np.mean(values):.3f} ({min(values):.3f}) |")
    print(f"{time.monotonic() - began:.0f} s, commit {commit()}")


def _sizes(monitor: Consistency) -> str:
    facts = monitor.facts
    return (
        f"{len(facts.train)}, {len(facts.spread)}, {len(facts.calibration)} episodes; threshold {facts.threshold:.2f}"
    )


def _on_shifts(
    policy: Policy, monitor: Consistency, new: LeRobotDataset, tried: tuple[int, ...], fit: list[Look], draws: int
) -> Found:
    clean = look_at_episodes(policy, new, tried, draws=draws, monitor=monitor)
    edges = [edge.name for edge in monitor.facts.edges]
    calm, alarms = np.stack([one.gaps for one in clean]), [one.gap > monitor.facts.threshold for one in clean]
    print(f"false alarms {np.mean(alarms):.1%} of {len(clean)} looks (5 % promised)")
    broken = {}
    for name, shift in shifts(new).items():
        looks = look_at_episodes(policy, new, tried, shift=shift, draws=draws, monitor=monitor)
        alarm = np.mean([one.gap > monitor.facts.threshold for one in looks])
        ratio = np.median(np.stack([one.gaps for one in looks]), 0) / np.median(calm, 0)
        loud = ", ".join(f"{edge} x{value:.1f}" for edge, value in zip(edges, ratio, strict=True) if value > 1.5)
        print(f"{name}: {alarm:.0%} alarm; median residual: {loud or 'as clean'}", flush=True)
        broken[name] = looks
    return detect([*fit, *clean], broken, tried, alpha=0.05)


def _table(found: Found) -> None:
    names = list(found["clean"])
    print(f"| | {' | '.join(names)} | against the best other |\n|---|{'---:|' * (len(names) + 1)}")
    for shift, one in found.items():
        if shift == "clean":
            continue
        cells = [f"{d.auroc:.2f}" for d in one.values()]
        span = one[OURS].interval
        cells[names.index(OURS)] += "" if span is None else f" [{span.low:.2f}, {span.high:.2f}]"
        best = max((name for name in names if name != OURS), key=lambda name: one[name].auroc)
        lead = one[best].behind
        said = "" if lead is None else f"{lead.estimate:+.2f} [{lead.low:+.2f}, {lead.high:+.2f}] ({best})"
        print(f"| {shift} | {' | '.join(cells)} | {said} |", flush=True)


def _foresight(found: Foresight) -> None:
    print(f"\n{found.failed} of {found.episodes} rollouts failed; first {found.first} requests")
    for name, one in found.detectors.items():
        span = "" if one.interval is None else f" [{one.interval.low:.2f}, {one.interval.high:.2f}]"
        lead = (
            "" if one.behind is None else f"{one.behind.estimate:+.2f} [{one.behind.low:+.2f}, {one.behind.high:+.2f}]"
        )
        print(f"| {name} | {one.auroc:.2f}{span} | {lead} |", flush=True)


if __name__ == "__main__":
    main()
