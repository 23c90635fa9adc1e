"""Closed loop of the study: the memory suite's scenes, the same for every side and seed."""

from collections.abc import Sequence
from pathlib import Path

from svms_gr00t.evaluate.closed_loop.result import RolloutResult
from svms_gr00t.recipes.memory_study.config import StudyConfig
from svms_gr00t.recipes.memory_study.run import POLICY, Place

CLOSED_LOOP, STRAY = "closed_loop.json", "closed_loop_stray.json"


def drive(config: StudyConfig, place: Place, arm: str, rate: float, seed: int) -> Path:
    """Success of one run in every scene, or what an earlier call with as many scenes found."""
    from svms_gr00t.recipes.benchmarks.closed_loop import drive_kitchen  # the simulator is an extra

    folder = place.run(arm, rate, seed)
    file = folder / CLOSED_LOOP
    if not file.is_file() or RolloutResult.load(file).config.episodes != config.rollouts:
        found = drive_kitchen(
            folder / POLICY,
            name=arm,
            suite="memory",
            tasks=config.tasks,
            episodes=config.rollouts,
            seed=config.scenes,
            n_action_steps=config.stride,
        )
        found.save(file)
    return file


def driven_files(
    place: Place, arm: str, rate: float, seeds: Sequence[int], *, stray: bool = False
) -> dict[int, RolloutResult]:
    """What was driven of a side, by seed."""
    name = STRAY if stray else CLOSED_LOOP
    return {seed: RolloutResult.load(f) for seed in seeds if (f := place.run(arm, rate, seed) / name).is_file()}
