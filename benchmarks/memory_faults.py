"""Do streams and sheaf help where a sensor fails? A memory study's finished policies, driven once more with faults.

    python benchmarks/memory_faults.py STUDY --faults "cameras black" --arms full alone --output page.md

The scenes are the study's. Nothing is trained: a policy that never met a fault meets it. Every driven policy is a file
in STUDY/faults; the same command goes on. Intervals are those of a new seed, sides paired by seed and scene.
"""

import argparse
import sys
from pathlib import Path

from svms_gr00t.core.files.records import write_text
from svms_gr00t.core.provenance import commit
from svms_gr00t.evaluate.closed_loop.result import RolloutResult
from svms_gr00t.evaluate.statistics.seeds import compare_seeds, success_rate
from svms_gr00t.evaluate.statistics.stats import points
from svms_gr00t.recipes.benchmarks.closed_loop import drive_kitchen
from svms_gr00t.recipes.memory_study.arms import ARMS
from svms_gr00t.recipes.memory_study.config import StudyConfig
from svms_gr00t.recipes.memory_study.driving import CLOSED_LOOP, driven_already
from svms_gr00t.recipes.memory_study.result import StudyResult, rate_text, span_text, wins_of
from svms_gr00t.recipes.memory_study.run import POLICY, Place


def driven(study: StudyResult, place: Place, arm: str, seed: int, fault: str, workers: int) -> RolloutResult:
    """What one policy wins with a fault, or without."""
    run = place.run(arm, study.row(arm).rate, seed)
    if not fault:
        return RolloutResult.load(run / CLOSED_LOOP)
    file, c = place.root / "faults" / f"{arm}_{seed}_{fault.replace(' ', '_')}.json", study.config
    if not driven_already(file, c, seed):
        asked = {"episodes": c.rollouts, "seed": c.scenes_of(seed), "n_action_steps": c.stride, "fault": fault}
        drive_kitchen(run / POLICY, name=arm, suite="memory", tasks=c.tasks, workers=workers, **asked).save(file)
    return RolloutResult.load(file)


def table(study: StudyResult, place: Place, arms: list[str], seeds: list[int], faults: list[str], workers: int) -> str:
    """A row for each fault and side; the first side is what the others are compared with."""
    lines = ["| fault | side | success (95 %) | points over the first side (95 %) |", "| --- | --- | ---: | ---: |"]
    for fault in ["", *faults]:
        found = {a: wins_of({s: driven(study, place, a, s, fault, workers) for s in seeds}) for a in arms}
        for arm, own in found.items():
            other = compare_seeds(found[arms[0]], own, outcomes=True).difference if arm != arms[0] else None
            cells = (fault or "none", ARMS[arm].says, rate_text(success_rate(own)), span_text(points(other), ""))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--faults", nargs="+", default=["state 20 steps stale", "cameras 20 steps stale"])
    parser.add_argument("--arms", nargs="+", default=["alone", "full"], help="the first is the reference")
    parser.add_argument("--seeds", nargs="+", type=int, default=None)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    study = StudyResult.load(given.study / "study.json")
    config: StudyConfig = study.config
    place = Place(root=given.study, dataset=Path(config.dataset_path or given.study / "demonstrations"))
    seeds = given.seeds or list(study.row(given.arms[0]).driven)
    rows = table(study, place, given.arms, seeds, given.faults, given.workers)
    about = (
        f"Commit {commit()}, seeds {seeds}, {config.rollouts} scenes a task; policies and scenes of the memory study."
    )
    write_text(given.output, f"# Memory under faults\n\n`python {' '.join(sys.argv)}`\n\n{about}\n\n{rows}\n")


if __name__ == "__main__":
    main()
