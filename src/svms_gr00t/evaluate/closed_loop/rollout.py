"""Closed loop: drive an environment with a policy, count successes, and keep what the streams said on the way.

Every episode's scene and noise depend on (seed, task, index) and on nothing else, and the policy sees one observation
at a time: results do not depend on the order of episodes or the number of workers, and two policies meet equal scenes.

Episodes spread over processes. Each builds its own environment and policy once; jobs are handed out one by one.

Processes are spawned, not forked: simulators and CUDA do not survive a fork. A process that dies (simulators can crash)
takes the jobs in flight along; each of those is tried again alone, and only one that dies alone is reported as broken.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.progress import Progress, Silent, Task
from svms_gr00t.core.protocols import ActionPolicy, Environment, Factory
from svms_gr00t.evaluate.closed_loop.episode import Driver, broken, check_broken, check_driven
from svms_gr00t.evaluate.closed_loop.result import Rollout, RolloutConfig, RolloutResult

Job = tuple[str, int]
"""Task and index of an episode."""
_driver: Driver | None = None
"""This worker process's own driver; None in the parent."""


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
    for what would break every episode (missing action keys, unknown tasks, what cannot be built), after `max_errors`
    broken episodes, and when none could be driven.
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
    check_driven(done)
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


def _start(policy: Factory, env: Factory, config: RolloutConfig) -> None:
    global _driver
    _driver = Driver(policy, env, config)


def _drive(task: str, index: int) -> Rollout:
    assert _driver is not None, "the initialiser runs first"
    return _driver.drive(task, index)


def drive_in_workers(
    policy: Factory, env: Factory, config: RolloutConfig, jobs: list[Job], *, workers: int, bar: Task
) -> list[Rollout]:
    """All jobs, in their order. Raises what `Driver.drive` raises, and RolloutError for too many broken episodes."""
    done: dict[Job, Rollout] = {}

    def take(job: Job, found: Rollout) -> None:
        done[job] = found
        bar.advance()
        check_broken(list(done.values()), config)

    def pool(size: int) -> ProcessPoolExecutor:
        initargs = (policy, env, config)
        return ProcessPoolExecutor(size, mp_context=get_context("spawn"), initializer=_start, initargs=initargs)

    waiting = deque(jobs)
    while waiting:
        with pool(min(workers, len(waiting))) as executor:
            suspects = _run(executor, waiting, workers, take)
        for job in suspects:
            with pool(1) as executor:
                if _run(executor, deque([job]), 1, take):
                    take(job, broken(config, *job, "the worker process died"))
    return [done[job] for job in jobs]


def _run(
    executor: ProcessPoolExecutor, waiting: deque[Job], window: int, take: Callable[[Job, Rollout], None]
) -> list[Job]:
    """Empty `waiting`, `window` jobs in flight at a time; when a process dies, stop and return those in flight."""
    flying: dict[Future[Rollout], Job] = {}
    while waiting or flying:
        try:
            while waiting and len(flying) < window:
                flying[executor.submit(_drive, *waiting[0])] = waiting[0]
                waiting.popleft()
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                found = future.result()
                take(flying.pop(future), found)
        except BrokenProcessPool:
            return list(flying.values())
    return []
