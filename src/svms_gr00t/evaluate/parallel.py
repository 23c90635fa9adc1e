"""Episodes spread over processes. Each builds its own environment and policy once; jobs are handed out one by one.

Processes are spawned, not forked: simulators and CUDA do not survive a fork.
"""

from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from svms_gr00t.core.progress import Task
from svms_gr00t.evaluate.episode import Driver, check_broken, episode_seed
from svms_gr00t.evaluate.protocols import Factory
from svms_gr00t.evaluate.rollout_result import Rollout, RolloutConfig

_driver: Driver | None = None
"""This worker process's own driver; None in the parent."""


def _start(policy: Factory, env: Factory, config: RolloutConfig) -> None:
    global _driver
    _driver = Driver(policy, env, config)


def _drive(task: str, index: int) -> Rollout:
    assert _driver is not None, "the initialiser runs first"
    return _driver.drive(task, index)


def drive_in_workers(
    policy: Factory, env: Factory, config: RolloutConfig, jobs: list[tuple[str, int]], *, workers: int, bar: Task
) -> list[Rollout]:
    """All jobs in order. A worker that dies (simulators can crash) costs one retry, then its episodes are broken."""
    done: dict[tuple[str, int], Rollout] = {}
    for _ in range(2):
        missing = [job for job in jobs if job not in done]
        if missing:
            _one_pool(policy, env, config, missing, workers, bar, done)
    return [done[job] if job in done else _lost(config, *job) for job in jobs]


def _one_pool(
    policy: Factory,
    env: Factory,
    config: RolloutConfig,
    jobs: list[tuple[str, int]],
    workers: int,
    bar: Task,
    done: dict[tuple[str, int], Rollout],
) -> None:
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=get_context("spawn"), initializer=_start, initargs=(policy, env, config)
    )
    with pool:
        futures: dict[Future[Rollout], tuple[str, int]] = {pool.submit(_drive, *job): job for job in jobs}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                bar.advance()
                check_broken(list(done.values()), config)
        except BrokenProcessPool:
            return
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _lost(config: RolloutConfig, task: str, index: int) -> Rollout:
    fields = {"instruction": "", "success": False, "steps": 0, "ending": "error"}
    seed, error = episode_seed(config, task, index), "the worker process died twice"
    return Rollout(task=task, index=index, seed=seed, error=error, **fields)
