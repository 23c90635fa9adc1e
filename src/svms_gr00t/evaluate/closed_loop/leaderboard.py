"""A closed-loop result as one JSON object to hand in or to compare: rates in percent with intervals, and the protocol.

What decides a rate besides the policy (seeds, horizons, steps between replans, split) stands beside it, because
published tables differ in exactly these. Published rates to print beside ours, in percent, are not measured here.

Sources: the RoboCasa table in Isaac-GR00T's N1.6 examples (24 tasks, RoboCasa 0.2), and the public RoboCasa365
leaderboard (entry of 2026-05-14; batch 128, 120,000 steps, RoboCasa 1.0.1).
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from svms_gr00t.evaluate.closed_loop.result import RolloutResult, TaskResult

N1D6_24 = {
    "CoffeeSetupMug": 31.0,
    "CoffeeServeMug": 63.5,
    "CoffeePressButton": 98.5,
    "OpenSingleDoor": 81.5,
    "OpenDoubleDoor": 39.0,
    "CloseSingleDoor": 96.0,
    "CloseDoubleDoor": 88.5,
    "OpenDrawer": 81.1,
    "CloseDrawer": 100.0,
    "TurnOnMicrowave": 91.5,
    "TurnOffMicrowave": 96.0,
    "PnPCounterToCab": 47.5,
    "PnPCabToCounter": 41.0,
    "PnPCounterToSink": 46.0,
    "PnPSinkToCounter": 50.0,
    "PnPCounterToMicrowave": 19.0,
    "PnPMicrowaveToCounter": 24.5,
    "PnPCounterToStove": 63.2,
    "PnPStoveToCounter": 54.5,
    "TurnOnSinkFaucet": 89.0,
    "TurnOffSinkFaucet": 93.5,
    "TurnSinkSpout": 87.0,
    "TurnOnStove": 76.5,
    "TurnOffStove": 31.0,
}
"""GR00T N1.6-3B by task."""
N1D6_24_MEAN = 66.2
ROBOCASA365 = {
    "GR00T N1.6": {"atomic seen": 51.1, "composite seen": 9.4, "composite unseen": 1.7},
    "GR00T N1.5": {"atomic seen": 50.7, "composite seen": 14.8, "composite unseen": 2.7},
}
"""Means over the 18, 16 and 16 tasks of the target split."""
ROBOMME = {
    "pi0.5 with its best memory": 44.5,
    "GR00T N1.6": 10.1,
    "HAMLET on GR00T N1.6": 16.5,
    "GR00T N1.6 with a log-spaced window": 10.6,
}
"""Means over RoboMME's 16 tasks as reported elsewhere: the first in its paper (arXiv 2603.04639), the others on the
model card of a third party, with 10 episodes a task. None is measured here."""
ROBOCASA365_TASKS = {"atomic seen": 18, "composite seen": 16, "composite unseen": 16}


def leaderboard(result: RolloutResult, *, benchmark: str) -> dict[str, Any]:
    """The object. The mean is over tasks, each with equal weight, as the published tables have it."""
    c = result.config
    tasks = {name: _rate(task) for name, task in result.tasks.items()}
    rates = [task["success_rate"] for task in tasks.values()]
    return {
        "benchmark": benchmark,
        "policy": result.policy,
        "mean_success_rate": sum(rates) / len(rates),
        "tasks": tasks,
        "protocol": {
            "episodes_per_task": c.episodes,
            "seed": c.seed,
            "split": c.split,
            "steps_per_replan": c.n_action_steps,
            "max_episode_steps": {task: c.horizon_of(task) for task in c.tasks},
            "success": "reached at any step of the episode",
            "episodes": "all that were started; a broken one counts as a failure",
        },
        "published": published(benchmark, tasks),
    }


def published(benchmark: str, tasks: Iterable[str]) -> Mapping[str, Any]:
    """What others report of a benchmark: by task where they say it, else by policy; empty where nobody does."""
    if benchmark == "n1d6":
        return {name: N1D6_24[name] for name in tasks if name in N1D6_24}
    known: dict[str, Mapping[str, Any]] = {"robocasa365": ROBOCASA365, "robomme": ROBOMME}
    return known.get(benchmark, {})


def save_leaderboard(result: RolloutResult, path: Path, *, benchmark: str) -> Path:
    """Write the object; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(leaderboard(result, benchmark=benchmark), indent=2) + "\n", encoding="utf-8")
    return path


def _rate(task: TaskResult) -> dict[str, Any]:
    interval = None if task.rate is None else [100 * task.rate.low, 100 * task.rate.high]
    rate = 100 * task.successes / max(task.episodes, 1)
    return {"success_rate": rate, "interval_95": interval, "episodes": task.episodes, "broken": task.broken}
