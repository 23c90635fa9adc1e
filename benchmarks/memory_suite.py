"""The memory suite itself, before any policy: do experts solve it, and what do those who remember nothing win?

    python benchmarks/memory_suite.py        writes benchmarks/memory_suite_<date>.md

expert    scripted, with the past; seeds 2000 on
blind     the same hands, with a coin where frames are alike (`experts.blind`)
clock     the best fixed step at which to go on or stop, chosen on the very episodes that it is counted on: too good
leaks     a linear probe of the state (S) and of the pictures (P, 32 px) for what must be remembered, at the moments at
          which that decides: balanced accuracy over episodes held out, 0.5 when nothing leaks
"""

import argparse
import datetime
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from svms_gr00t.core.provenance import commit, versions
from svms_gr00t.evaluate.statistics.stats import wilson
from svms_gr00t.sim.camera import VIEWS
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.experts.expert import Expert
from svms_gr00t.sim.tasks.memory import HELD_STEPS, TOLERANCE
from svms_gr00t.sim.tasks.suites import SUITES

MEMORY = SUITES["memory"]
FIRST_SEED, PROBE_SEED = 2000, 9000
REMEMBERED = {
    "PressTwice": "presses so far",
    "PressThrice": "presses so far",
    "OpenThenCloseDrawer": "whether it was opened already",
    "OpenLitDrawer": "the light's colour",
    "OrderByLight": "the light's colour, then what was done",
    "PutBack": "where the apple came from",
    "HoldTwoSeconds": "since when the button is down",
}
MOMENTS = {"PressTwice": {6: 0, 10: 1}, "PressThrice": {10: 0, 14: 1}, "OpenThenCloseDrawer": {4: 0, 10: 1}}
"""Leg of the expert's plan whose last step is looked at -> class: it goes on (0) or stops (1)."""


def drive(env: KitchenEnv, name: str, seed: int, *, blind: bool = False) -> dict[str, Any]:
    """One episode: success, steps, and the steps at which what must be remembered changed."""
    env.drawing = False
    env.reset(seed=seed, options={"task": name})
    expert, changes = Expert(env, seed, blind=blind), {}
    while not env.over and env.steps < MEMORY[name].horizon:
        before = env.progress.hidden
        env.step(expert.act())
        if env.progress.hidden != before:
            changes[env.progress.hidden] = env.steps
    return {"success": env.success, "steps": env.steps, "changes": changes, "reason": env.progress.failed}


def clock(name: str, runs: list[dict[str, Any]]) -> float | None:
    """Share of episodes that the best fixed step wins; None where a clock says nothing of the goal."""
    spans = [span(name, run) for run in runs if run["success"]]
    if spans[0] is None:
        return None
    low, high = np.array(spans).T
    return max(float(((low < at) & (at <= high)).mean()) for at in range(300))


def span(name: str, run: dict[str, Any]) -> tuple[float, float] | None:
    """The fixed steps that would have won this episode: after the last time to go on, before the first to stop."""
    changes = run["changes"]
    if name.startswith("Press"):
        count = max(changes)
        return changes[count], 2 * changes[count] - changes[count - 1]
    if name == "OpenThenCloseDrawer":
        return changes[1] - 15, run["steps"] - 15
    if name == "HoldTwoSeconds":
        return changes[1] + HELD_STEPS - TOLERANCE, changes[1] + HELD_STEPS + TOLERANCE
    return None


def looks(env: KitchenEnv, name: str, episodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """States (n, 16), pictures (n, P), classes and episodes at the moments that decide."""
    found = []
    for seed in range(PROBE_SEED, PROBE_SEED + episodes):
        env.drawing = False
        env.reset(seed=seed, options={"task": name})
        expert = Expert(env, seed)
        while not env.over and env.steps < MEMORY[name].horizon:
            action = expert.act()
            label = moment(env, name, expert)
            if label is not None:
                seen = env._observation() | env.draw()
                state = np.concatenate([seen[key] for key in sorted(seen) if key.startswith("state.")])
                found.append((state, np.concatenate([seen[view].ravel() / 255 for view in VIEWS]), label, seed))
            env.step(action)
    state, picture, label, seed = zip(*found, strict=True)
    return np.stack(state), np.stack(picture), np.array(label), np.array(seed)


def moment(env: KitchenEnv, name: str, expert: Expert) -> int | None:
    """The class of this step, or None: it decides nothing."""
    leg, last = expert._leg, expert._steps >= expert._plan[expert._leg].limit
    if name == "HoldTwoSeconds":
        return {20: 0, 32: 1}.get(getattr(env.progress, "steps", 0)) if leg == 4 else None
    if name == "PutBack":
        return env.progress.hidden - 1 if leg == 7 and last else None
    if name in ("OpenLitDrawer", "OrderByLight"):
        return env.progress.hidden - 1 if env.steps == env.layout.wait.release else None
    return MOMENTS[name].get(leg) if last else None


def probe(values: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """Balanced accuracy of a linear probe on episodes that it was not fitted on."""
    parts = [StandardScaler(), *([PCA(12)] if values.shape[1] > 100 else [])]
    model = make_pipeline(*parts, LogisticRegression(max_iter=2000, class_weight="balanced"))
    guessed = cross_val_predict(model, values, labels, cv=GroupKFold(6), groups=groups)
    return float(balanced_accuracy_score(labels, guessed))


def row(env: KitchenEnv, name: str, episodes: int, probes: int) -> str:
    """A line of the table."""
    task, seeds = MEMORY[name], range(FIRST_SEED, FIRST_SEED + episodes)
    shown = [drive(env, name, seed) for seed in seeds]
    blind = [drive(env, name, seed, blind=True) for seed in seeds]
    steps, timed = [run["steps"] for run in shown], clock(name, shown)
    state, picture, labels, groups = looks(env, name, probes)
    cells = [
        name,
        REMEMBERED[name],
        f"{100 * task.chance:.0f} %",
        counted(blind),
        "" if timed is None else f"{100 * timed:.0f} %",
        counted(shown),
        f"{np.mean(steps):.0f} ({min(steps)} to {max(steps)})",
        f"S {probe(state, labels, groups):.2f}, P {probe(picture, labels, groups):.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def counted(runs: list[dict[str, Any]]) -> str:
    """Wins with a Wilson interval."""
    wins = sum(run["success"] for run in runs)
    rate = wilson(wins, len(runs))
    assert rate is not None
    return f"{wins}/{len(runs)} [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def main() -> None:
    """Run every task, write one page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--probes", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()
    env = KitchenEnv(image_size=32)
    head = ("task", "to remember", "chance", "blind, %", "clock", "expert, %", "expert's steps", "leaks")
    lines = [
        "# The memory suite: experts, chance, leaks",
        "",
        f"`python benchmarks/memory_suite.py --episodes {args.episodes} --probes {args.probes}`, commit {commit()}.",
        f"{', '.join(f'{name} {number}' for name, number in versions().items())}; {platform.machine()}, "
        f"{os.cpu_count()} cores. What the columns mean is in the script; what chance is, in `Task.chance_because`.",
        "",
        "| " + " | ".join(head) + " |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for name in MEMORY:
        lines.append(row(env, name, args.episodes, args.probes))
        print(lines[-1], flush=True)
    page = args.out / f"memory_suite_{datetime.date.today().isoformat()}.md"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
