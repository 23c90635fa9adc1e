"""The three phases one after the other on one model, with the gate of each phase measured where it ends."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.progress import Progress
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.data.loading.protocols import Samples
from svms_gr00t.evaluate.streams.report import StreamReport
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.evidence import read_streams, word_gate
from svms_gr00t.recipes.training.gates import read_measured
from svms_gr00t.train.gates import GateResult, couple_gate
from svms_gr00t.train.loop.run_dir import Row, RunDir
from svms_gr00t.train.loop.shares import Share, shared_batches
from svms_gr00t.train.loop.step import arithmetic
from svms_gr00t.train.loop.trackers import Tracker
from svms_gr00t.train.loop.trainer import LoopConfig, Validate, train_phase
from svms_gr00t.train.phases import Phase, plain_counterpart
from svms_gr00t.train.processes.cluster import Cluster

log = logging.getLogger(__name__)
Ranks = dict[str, list[float]]
"""rank.json: effective rank of the projections at each end of an edge, by the edge's name."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model after its phases."""

    model: Gr00tN1d6
    rows: dict[str, list[Row]]
    """Metrics of each phase, by its name."""
    gates: tuple[GateResult, ...]
    """Gates of phases 1 and 2; empty for the plain model."""


def train_in_turn(
    model: Gr00tN1d6,
    train: Samples,
    held_out: Samples,
    folder: Path,
    *,
    phases: Sequence[Phase],
    chosen: Sequence[int] = (1, 2, 3),
    loop: LoopConfig,
    micro: int = 1,
    workers: int = 0,
    validate: Validate | None = None,
    trackers: tuple[Tracker, ...] = (),
    cluster: Cluster | None = None,
    progress: Progress,
    title: str,
) -> Trained:
    """Train the `chosen` phases, or go on where `folder` stopped. Gates are measured once, where their phase ends.

    A phase before the first chosen one must be finished in `folder`, or the model must come trained (a base with SVMS).
    Raises TrainingError otherwise.
    """
    here = cluster or Cluster()
    here.place(model)
    rows: dict[str, list[Row]] = {}
    gates: list[GateResult] = []
    first, start_rank = 0, None
    for number, phase in enumerate(phases, start=1):
        run = RunDir(folder / f"phase_{number}")
        if number > max(chosen):
            break
        if number not in chosen and not _finished(run, phase):
            first += phase.steps
            continue
        run.create()
        used = phase if model.svms is not None else plain_counterpart(phase)
        if model.svms is not None and start_rank is None:
            start_rank = _kept(run, "rank.json", Ranks, here, lambda: _read(model, held_out, loop)[1])
        share = Share(rank=here.rank, world=here.world, micro=micro)
        rows[phase.name] = train_phase(
            model,
            used,
            shared_batches(Batches(train, phase.batch_size, loop.seed, workers=workers), share, phase.batch_size),
            run,
            config=replace(loop, first_step=first),
            validate=validate,
            trackers=trackers,
            cluster=here,
            progress=progress,
            title=f"{title}: {phase.name}",
        )
        first += phase.steps
        if model.svms is not None:
            judge = partial(_gate, phase.name, model, train, held_out, start_rank, loop)
            gates += _kept(run, "gate.json", list[GateResult], here, judge)
    return Trained(model=model, rows=rows, gates=tuple(gates))


def _finished(run: RunDir, phase: Phase) -> bool:
    """Whether an earlier call trained the whole phase here."""
    found = run.checkpoints()
    return bool(found) and found[-1].name == f"step_{phase.steps:06d}"


def _read(model: Gr00tN1d6, held_out: Samples, loop: LoopConfig) -> tuple[StreamReport, dict[str, Any]]:
    """The streams on held-out samples, in the arithmetic of the training."""
    with arithmetic(next(model.action_head.parameters()).device, loop.precision):
        return read_streams(model, held_out)


def _gate(
    phase: str, model: Gr00tN1d6, train: Samples, held_out: Samples, start: dict[str, Any] | None, loop: LoopConfig
) -> list[dict[str, Any]]:
    """The gate's results as plain dicts; phase 3 is judged against the plain model, later."""
    if phase == "end to end":
        return []
    if phase == "specialise":
        with arithmetic(next(model.action_head.parameters()).device, loop.precision):
            found = word_gate(model, train, held_out)
    else:
        report, rank = _read(model, held_out, loop)
        assert start is not None, "the rank is read before the first phase"
        rho = {edge: stats.mean for edge, stats in report.rho.items()}
        found = couple_gate(rho, rank, start, report.type_information)
    return [asdict(result) for result in found]


def _kept(run: RunDir, name: str, kind: Any, cluster: Cluster, measure: Callable[[], Any]) -> Any:
    """A value of type `kind` measured once for each run folder, by the process that writes; a damaged one again."""
    path = run.root / name
    with cluster.main_first() as writes:
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
