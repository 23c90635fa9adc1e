"""A closed-loop result as one JSON object to hand in or to compare: rates in percent with intervals, and the protocol.

What decides a rate besides the policy (seeds, horizons, steps between replans, split) stands beside it, because
published tables differ in exactly these.
"""

import json
from pathlib import Path
from typing import Any

from svms_gr00t.evaluate.closed_loop.references import N1D6_24, ROBOCASA365
from svms_gr00t.evaluate.closed_loop.result import RolloutResult, TaskResult


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
        "published": {name: value for name, value in N1D6_24.items() if benchmark == "n1d6" and name in tasks}
        if benchmark != "robocasa365"
        else ROBOCASA365,
    }


def save_leaderboard(result: RolloutResult, path: Path, *, benchmark: str) -> Path:
    """Write the object; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(leaderboard(result, benchmark=benchmark), indent=2) + "\n", encoding="utf-8")
    return path


def _rate(task: TaskResult) -> dict[str, Any]:
    interval = None if task.rate is None else [100 * task.rate.low, 100 * task.rate.high]
    rate = 100 * task.successes / max(task.episodes, 1)
    return {"success_rate": rate, "interval_95": interval, "episodes": task.episodes, "broken": task.broken}
