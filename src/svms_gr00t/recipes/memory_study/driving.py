"""Closed loop of the study: scenes of the memory suite, the same for every side, other ones for every training seed.

Policies of one base act alike in one scene: if all seeds shared ten scenes, what those ten happen to ask for would look
like skill, and no interval over seeds would show it.

A side that remembers is driven once more with the memory of a recorded episode of the same task: what it then still
wins, it wins without its own past.
"""

from collections.abc import Sequence
from pathlib import Path

from svms_gr00t.core.protocols import Factory
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.evaluate.closed_loop.result import Rollout, RolloutConfig, RolloutResult
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.recipes.memory_study.config import StudyConfig
from svms_gr00t.recipes.memory_study.run import POLICY, Place

CLOSED_LOOP, STRAY = "closed_loop.json", "closed_loop_stray.json"


def drive(config: StudyConfig, place: Place, arm: str, rate: float, seed: int, *, stray: bool = False) -> Path:
    """Success of one run in every scene, or what an earlier call in the same scenes found."""
    file = place.run(arm, rate, seed) / (STRAY if stray else CLOSED_LOOP)
    if not driven_already(file, config, seed):
        rules = _rules(config, seed, _tasks(config))
        driven = [one for task in rules.tasks for one in _drive(config, place, file.parent, task, seed, stray)]
        RolloutResult(policy=arm, config=rules, rollouts=tuple(driven)).save(file)
    return file


def driven_already(file: Path, config: StudyConfig, seed: int) -> bool:
    """Whether a file holds what was driven in the scenes of this training seed, in all of them."""
    if not file.is_file():
        return False
    found = RolloutResult.load(file).config
    return (found.seed, found.episodes) == (config.scenes_of(seed), config.rollouts)


def _tasks(config: StudyConfig) -> tuple[str, ...]:
    from svms_gr00t.sim.tasks.suites import tasks_named  # the simulator is an extra

    return tasks_named(config.tasks, "memory")


def _rules(config: StudyConfig, seed: int, tasks: tuple[str, ...]) -> RolloutConfig:
    from svms_gr00t.recipes.benchmarks.closed_loop import kitchen_rules

    scenes = config.scenes_of(seed)
    return kitchen_rules(tasks, episodes=config.rollouts, seed=scenes, n_action_steps=config.stride)


def _drive(config: StudyConfig, place: Place, folder: Path, task: str, seed: int, stray: bool) -> Sequence[Rollout]:
    """The scenes of one task; a scene depends on training seed, task and number alone."""
    from svms_gr00t.recipes.benchmarks.closed_loop import build_kitchen, saved_policy

    lent = {"memory": "swapped", "dataset": str(place.dataset), "episodes": shown(config, place, task)} if stray else {}
    policy = saved_policy(folder / POLICY, **lent, device=config.device, dtype=config.dtype)
    env = Factory(path=f"{build_kitchen.__module__}:build_kitchen")
    return rollout(policy, env, _rules(config, seed, (task,)), name=task).rollouts


def shown(config: StudyConfig, place: Place, task: str) -> tuple[int, ...]:
    """Episodes in which the expert showed a task: they are recorded task by task in turn."""
    tasks, episodes = _tasks(config), LeRobotDataset.open(place.dataset).episodes
    return tuple(one.index for one in episodes if one.index % len(tasks) == tasks.index(task))


def driven_files(
    place: Place, arm: str, rate: float, seeds: Sequence[int], *, stray: bool = False
) -> dict[int, RolloutResult]:
    """What was driven of a side, by seed."""
    name = STRAY if stray else CLOSED_LOOP
    return {seed: RolloutResult.load(f) for seed in seeds if (f := place.run(arm, rate, seed) / name).is_file()}
