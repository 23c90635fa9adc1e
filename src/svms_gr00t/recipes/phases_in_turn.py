"""The three phases one after the other on one model, with the gate of each phase measured where it ends."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from svms_gr00t.core.progress import Progress
from svms_gr00t.data.steps import Batches, StepDataset
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.evidence import read_streams
from svms_gr00t.train.gates import GateResult, couple_gate, specialise_gate
from svms_gr00t.train.phases import PHASES, plain_counterpart
from svms_gr00t.train.run_dir import Row, RunDir
from svms_gr00t.train.trainer import LoopConfig, train_phase


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
    batches: Batches,
    held_out: StepDataset,
    folder: Path,
    *,
    steps: Sequence[int],
    learning_rates: Sequence[float],
    batch_size: int,
    seed: int,
    progress: Progress,
    title: str,
    checkpoint_every: int = 100,
) -> Trained:
    """Train, or go on where `folder` stopped. Gates are measured once, at the end of their phase, and kept."""
    rows: dict[str, list[Row]] = {}
    gates: list[GateResult] = []
    first, start_rank = 0, None
    for number, phase in enumerate(PHASES.values()):
        changes = {"steps": steps[number], "learning_rate": learning_rates[number], "batch_size": batch_size}
        phase = replace(phase, **changes)
        chosen = phase if model.svms is not None else plain_counterpart(phase)
        run = RunDir(folder / f"phase_{number + 1}").create()
        if model.svms is not None and start_rank is None:
            start_rank = _kept(run, "rank.json", lambda: read_streams(model, held_out)[1])
        config = LoopConfig(seed=seed, first_step=first, checkpoint_every=checkpoint_every)
        rows[phase.name] = train_phase(
            model, chosen, batches, run, config=config, progress=progress, title=f"{title}: {phase.name}"
        )
        first += phase.steps
        if model.svms is not None:
            found = _kept(run, "gate.json", lambda p=phase.name, r=start_rank: _gate(p, model, held_out, r))
            gates += [GateResult(**result) for result in found]
    return Trained(model=model, rows=rows, gates=tuple(gates))


def _gate(phase: str, model: Gr00tN1d6, held_out: StepDataset, start: dict[str, Any]) -> list[dict[str, Any]]:
    """The gate's results as plain dicts; phase 3 is judged against the plain model, later."""
    if phase == "end to end":
        return []
    report, rank = read_streams(model, held_out)
    if phase == "specialise":
        found = specialise_gate({name: score.balanced_accuracy for name, score in report.scores.items()})
    else:
        rho = {edge: stats.mean for edge, stats in report.rho.items()}
        found = couple_gate(rho, rank, start, report.type_information)
    return [asdict(result) for result in found]


def _kept(run: RunDir, name: str, measure: Callable[[], Any]) -> Any:
    """A JSON value measured once for each run folder."""
    path = run.root / name
    if not path.is_file():
        run.write(name, json.dumps(measure()) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))
