"""Closed loop: drive an environment with a policy, count successes, and keep what the streams said on the way.

Every episode's scene and noise depend on (seed, task, index) and on nothing else, and the policy sees one observation
at a time: results do not depend on the order of episodes or the number of workers, and two policies meet equal scenes.
"""

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.progress import Progress, Silent, Task
from svms_gr00t.evaluate.closed_loop.episode import Driver, check_broken
from svms_gr00t.evaluate.closed_loop.parallel import drive_in_workers
from svms_gr00t.evaluate.closed_loop.result import Rollout, RolloutConfig, RolloutResult
from svms_gr00t.evaluate.protocols import ActionPolicy, Environment, Factory


def rollout(
    policy: ActionPolicy | Factory,
    env: Environment | Factory,
    config: RolloutConfig,
    *,
    name: str = "policy",
    workers: int = 1,
    progress: Progress | None = None,
) -> RolloutResult:
    """Drive every episode of every task. With `workers` > 1, both must be a Factory; each process builds its own.

    An episode that raises is kept as broken (a failure) and the environment is built again. Raises SvmsError at once
    for what would break every episode (missing action keys, unknown tasks), and after `max_errors` broken episodes.
    """
    jobs = [(task, index) for task in config.tasks for index in range(config.episodes)]
    with (progress or Silent()).task(f"closed loop: {name}", len(jobs)) as bar:
        if workers > 1:
            if not isinstance(policy, Factory) or not isinstance(env, Factory):
                hint = "Pass a Factory for the policy and for the environment"
                raise ConfigError("rollout.workers", got=workers, want="1 for objects that live here", hint=hint)
            done = drive_in_workers(policy, env, config, jobs, workers=workers, bar=bar)
        else:
            done = _one_by_one(policy, env, config, jobs, bar)
    return RolloutResult(policy=name, config=config, rollouts=tuple(done))


def _one_by_one(
    policy: ActionPolicy | Factory,
    env: Environment | Factory,
    config: RolloutConfig,
    jobs: list[tuple[str, int]],
    bar: Task,
) -> list[Rollout]:
    driver, done = Driver(policy, env, config), []
    try:
        for task, index in jobs:
            done.append(driver.drive(task, index))
            bar.advance()
            check_broken(done, config)
    finally:
        driver.close()
    return done
