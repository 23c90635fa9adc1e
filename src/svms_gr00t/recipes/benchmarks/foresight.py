"""Rollouts in the embedded kitchen, looked at on the way: which detector foresees their failures?"""

from svms_gr00t.consistency.monitor import Consistency
from svms_gr00t.core.progress import Progress
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.evaluate.streams.foresight import Looking
from svms_gr00t.evaluate.streams.looks import Look
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.benchmarks.closed_loop import build_kitchen, kitchen_rules
from svms_gr00t.sim.tasks.suites import TASKS


def drive_and_look(
    policy: Policy,
    monitor: Consistency | None,
    *,
    episodes: int,
    seed: int = 0,
    tasks: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> tuple[list[Look], dict[int, bool]]:
    """Drive every task of the single-frame suite in this process: a look of every request, and which episodes failed.

    Raises MissingExtra without the simulator.
    """
    looking, env = Looking(policy, monitor), build_kitchen()
    try:
        rules = kitchen_rules(tasks or tuple(TASKS), episodes=episodes, seed=seed)
        result = rollout(looking, env, rules, name="foresight", progress=progress)
    finally:
        env.close()
    return looking.looks, {number: not one.success for number, one in enumerate(result.rollouts)}
