"""Jobs of a study spread over processes of this machine."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

Work = Callable[[], object]


def finished(jobs: Sequence[Work], workers: int) -> Iterator[int]:
    """Do all jobs, and yield the number of each as it ends; raises what a job raises, and starts no more then."""
    if workers <= 1:
        for number, job in enumerate(jobs):
            job()
            yield number
        return
    # Spawned, because threads of torch do not survive a fork; one thread each, set before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(job): number for number, job in enumerate(jobs)}
        try:
            for done in as_completed(waiting):
                done.result()
                yield waiting[done]
        except BaseException:
            pool.shutdown(cancel_futures=True)  # the runs in progress end; the rest waits for the next call
            raise
