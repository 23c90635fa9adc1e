"""Checkpoints while training goes on: copied to the host between two steps, written by a thread of their own.

The copy is what makes it safe: the thread never reads a tensor that a step writes into. Where the host has no room for
one, and for the last checkpoint of a run, tensors are written as they lie and the next step waits.
"""

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from threading import Thread
from types import TracebackType

from torch import Tensor

from svms_gr00t.core.errors import TrainingError
from svms_gr00t.train.loop.host import available_memory
from svms_gr00t.train.loop.run_dir import RunDir, Snapshot
from svms_gr00t.train.processes.cluster import Cluster

log = logging.getLogger(__name__)
SHARE = 0.5
"""Of the host's free memory that a copy may take."""


class Saver:
    """Writes the checkpoints of one phase, at most one at a time.

    As a context it waits in the end for the one that is being written. A second Ctrl-C waits for nothing.
    """

    def __init__(self, run: RunDir, cluster: Cluster, *, keep_last: int, background: bool) -> None:
        self.run, self.cluster, self.keep_last, self.background = run, cluster, keep_last, background
        self._writing: Future[None] | None = None
        self._done = 0
        """Step of the checkpoint that is being written."""

    def save(self, live: Snapshot, *, last: bool) -> None:
        """Write a checkpoint of tensors that the next step changes; returns when they may change.

        Collective where processes share weights. Raises TrainingError when it, or the one before, cannot be written.
        """
        self.join()
        aside = self.background and not last and self._has_room(live)
        # Processes that share weights put each tensor together, and only the one that writes keeps it.
        snapshot = self._copied(live) if aside or self.cluster.sharded else live
        if self.cluster.rank:
            return
        self._writing, self._done = Future(), snapshot.state.done
        if aside:
            Thread(target=self._write, args=(self._writing, snapshot), name="checkpoint", daemon=True).start()
        else:
            self._write(self._writing, snapshot)
            self.join()

    def check(self) -> None:
        """Raise TrainingError when the last checkpoint could not be written; waits for nothing."""
        if self._writing is not None and self._writing.done():
            self.join()

    def join(self) -> None:
        """Wait until everything is written. Raises TrainingError when it cannot be."""
        writing, self._writing = self._writing, None
        try:
            if writing is not None:
                writing.result()
        except OSError as error:
            hint = "Make room for it, then give the same command again: it goes on from the checkpoint before it"
            where = f"checkpoint of step {self._done} in {self.run.root}"
            raise TrainingError(where, got=str(error), want="it written", hint=hint) from error

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        if kind is None:
            self.join()
        elif not issubclass(kind, KeyboardInterrupt):
            try:
                self.join()
            except TrainingError as error:
                log.warning("%s", error)  # beside the error that ended training

    def _write(self, writing: "Future[None]", snapshot: Snapshot) -> None:
        try:
            self.run.save(snapshot, keep_last=self.keep_last)
        except BaseException as error:  # noqa: BLE001  # raised where training asks for it
            writing.set_exception(error)
        else:
            writing.set_result(None)

    def _has_room(self, live: Snapshot) -> bool:
        need = sum(
            value.numel() * value.dtype.itemsize for part in (live.model, live.optimizer) for value in part.values()
        )
        if need <= SHARE * available_memory():
            return True
        log.warning(
            "The host has no room for a copy of %.1f GiB: steps wait while checkpoints are written", need / 2**30
        )
        return False

    def _copied(self, live: Snapshot) -> Snapshot:
        model, optimizer = (self._on_host(part) for part in (live.model, live.optimizer))
        return Snapshot(model=model, optimizer=optimizer, state=live.state)

    def _on_host(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies on the process that writes; nothing on others."""
        found = {}
        for name, value in tensors.items():
            whole = self.cluster.whole(value)
            if self.cluster.rank == 0:
                found[name] = whole.to("cpu", copy=True)
        return found
