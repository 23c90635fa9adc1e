"""Episodes spread over processes. Each builds its own environment and policy once; jobs are handed out one by one.

Processes are spawned, not forked: simulators and CUDA do not survive a fork. A process that dies (simulators can crash)
takes the jobs in flight along; each of those is tried again alone, and only one that dies alone is reported as broken.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from svms_gr00t.core.progress import Task
from svms_gr00t.evaluate.closed_loop.episode import Driver, broken, check_broken
from svms_gr00t.evaluate.closed_loop.result import Rollout, RolloutConfig
from svms_gr00t.evaluate.protocols import Factory

Job = tuple[str, int]
"""Task and index of an episode."""
_driver: Driver | None = None
"""This worker process's own driver; None in the parent."""


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
