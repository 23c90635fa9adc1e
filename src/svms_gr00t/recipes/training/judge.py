"""The gates of phases 1 and 2, each measured where its phase ends."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.data.loading.protocols import Samples
from svms_gr00t.evaluate.streams.report import StreamReport
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.evidence import read_streams, word_gate
from svms_gr00t.recipes.training.gates import read_measured
from svms_gr00t.train.gates import GateResult, couple_gate
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.step import arithmetic
from svms_gr00t.train.loop.trainer import LoopConfig
from svms_gr00t.train.phases import Phase
from svms_gr00t.train.processes.cluster import Cluster

log = logging.getLogger(__name__)
Ranks = dict[str, list[float]]
"""rank.json: effective rank of the projections at each end of an edge, by the edge's name."""


class Judge:
    """Reads the streams on held-out samples; without SVMS or samples it measures nothing.

    What it measures is kept in the phase's folder, so that a resumed run does not measure it again.
    """

    def __init__(
        self, model: Gr00tN1d6, train: Samples, held_out: Samples | None, loop: LoopConfig, cluster: Cluster
    ) -> None:
        self.model, self.train, self.loop, self.cluster = model, train, loop, cluster
        self.held_out = held_out if model.config.has_streams else None
        self.found: list[GateResult] = []
        self._start: dict[str, Any] | None = None

    def begins(self, run: RunDir) -> None:
        """Before a phase: the rank that the overlaps start from, once for all phases."""
        run.create()
        if self.held_out is not None and self._start is None:
            self._start = self._kept(run, "rank.json", Ranks, lambda: self._read()[1])

    def ends(self, phase: Phase, run: RunDir) -> None:
        """After a phase: its gate."""
        if self.held_out is not None:
            self.found += self._kept(run, "gate.json", list[GateResult], partial(self._measure, phase.name))

    def _measure(self, phase: str) -> list[dict[str, Any]]:
        """The results as plain dicts; phase 3 is judged against the plain model, later."""
        if phase == "end to end":
            return []
        assert self.held_out is not None
        if phase == "specialise":
            with self._arithmetic():
                found = word_gate(self.model, self.train, self.held_out)
        else:
            report, rank = self._read()
            assert self._start is not None, "the rank is read before the first phase"
            rho = {edge: stats.mean for edge, stats in report.rho.items()}
            found = couple_gate(rho, rank, self._start, report.type_information)
        return [asdict(result) for result in found]

    def _read(self) -> tuple[StreamReport, dict[str, Any]]:
        """The streams on held-out samples, in the arithmetic of the training."""
        assert self.held_out is not None
        with self._arithmetic():
            return read_streams(self.model, self.held_out)

    def _arithmetic(self) -> Any:
        return arithmetic(next(self.model.action_head.parameters()).device, self.loop.precision)

    def _kept(self, run: RunDir, name: str, kind: Any, measure: Callable[[], Any]) -> Any:
        """A value of type `kind` measured once for each run folder, by the process that writes; a damaged one again."""
        path = run.root / name
        with self.cluster.main_first() as writes:
            if writes and not _is_whole(path, kind):
                run.write(name, json.dumps(measure()) + "\n")
        return read_measured(path, kind)


def _is_whole(path: Path, kind: Any) -> bool:
    if not path.is_file():
        return False
    try:
        read_measured(path, kind)
    except CheckpointError as error:
        log.warning("%s", error)
        return False
    return True
