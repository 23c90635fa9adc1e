"""The door that every training goes through: the three phases one after the other on one model, with their gates.

phases, folder -> turns -> train_phase, turn by turn -> gates, where each phase ends
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from svms_gr00t.core.errors import TrainingError
from svms_gr00t.core.progress import Progress
from svms_gr00t.data.loading.batches import Batches, chosen_workers
from svms_gr00t.data.loading.protocols import Samples
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.judge import Judge
from svms_gr00t.train.gates import GateResult
from svms_gr00t.train.loop.run_dir import Row, RunDir
from svms_gr00t.train.loop.shares import Share, shared_batches
from svms_gr00t.train.loop.trackers import Tracker
from svms_gr00t.train.loop.trainer import LoopConfig, Validate, train_phase
from svms_gr00t.train.phases import Phase, plain_counterpart
from svms_gr00t.train.processes.cluster import Cluster


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model after its phases."""

    model: Gr00tN1d6
    rows: dict[str, list[Row]]
    """Metrics of each phase, by its name."""
    gates: tuple[GateResult, ...]
    """Gates of phases 1 and 2; empty for the plain model, and where nothing is held out."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One phase that is trained, or loaded from where it was."""

    phase: Phase
    run: RunDir
    first: int
    """Steps of the phases before it."""


def train_in_turn(
    model: Gr00tN1d6,
    train: Samples | Mapping[str, Samples],
    folder: Path,
    *,
    phases: Sequence[Phase],
    loop: LoopConfig,
    held_out: Samples | None = None,
    chosen: Sequence[int] = (1, 2, 3),
    ready: bool = False,
    micro: int = 1,
    workers: int | None = None,
    validate: Validate | None = None,
    trackers: tuple[Tracker, ...] = (),
    cluster: Cluster | None = None,
    progress: Progress | None = None,
    title: str = "",
) -> Trained:
    """Train the `chosen` phases, or go on where `folder` stopped. Gates are measured once, on what is `held_out`.

    `train` is what every phase trains on, or the same steps for each phase by its name, cached at the depth of each.
    `micro` batches make one step, `workers` processes read ahead, by default as many as fit data and device. Raises
    TrainingError as `turns` does.
    """
    plan = turns(folder, phases, chosen, ready=ready)
    here = cluster or Cluster()
    here.place(model)
    for_phase = train if isinstance(train, Mapping) else dict.fromkeys((phase.name for phase in phases), train)
    judge = Judge(model, next(iter(for_phase.values())), held_out, loop, here)
    share = Share(rank=here.rank, world=here.world, micro=micro)
    rows: dict[str, list[Row]] = {}
    for turn in plan:
        size, samples = turn.phase.batch_size, for_phase[turn.phase.name]
        ahead = chosen_workers(len(samples), here.device.type) if workers is None else workers
        batches = Batches(samples, size, loop.seed, workers=ahead, pin=here.device.type == "cuda")
        judge.begins(turn.run)
        rows[turn.phase.name] = train_phase(
            model,
            turn.phase if model.svms is not None else plain_counterpart(turn.phase),
            shared_batches(batches, share, size),
            turn.run,
            config=replace(loop, first_step=turn.first),
            validate=validate,
            trackers=trackers,
            cluster=here,
            progress=progress,
            title=f"{title}: {turn.phase.name}",
        )
        batches.close()
        judge.ends(turn.phase, turn.run)
    return Trained(model=model, rows=rows, gates=tuple(judge.found))


def turns(folder: Path, phases: Sequence[Phase], chosen: Sequence[int], *, ready: bool) -> list[Turn]:
    """The chosen phases, and those before them that are finished in `folder`; writes nothing.

    `ready` says that the model comes with what earlier phases train. Raises TrainingError when it does not and the
    phase before the first chosen one is missing, for one that was begun and not finished, and when a later phase was
    begun: the policy of the folder would fall back behind it.
    """
    for number, phase in enumerate(phases[max(chosen) :], start=max(chosen) + 1):
        if _progress(RunDir(folder / f"phase_{number}"), phase)[1]:
            got, where = f"phase {number} begun after it in {folder}", f"--phase {max(chosen)}"
            hint = f"Go on with --phase {number}, or train phase {max(chosen)} anew in another --output-dir"
            raise TrainingError(where, got=got, want="no later phase, whose policy would be replaced", hint=hint)
    found: list[Turn] = []
    first = 0
    for number, phase in enumerate(phases[: max(chosen)], start=1):
        run = RunDir(folder / f"phase_{number}")
        done, begun = _progress(run, phase)
        if number < min(chosen) and begun and not done:
            got, hint = f"phase {number} begun and not finished", f"Finish it: --phase {number}"
            raise TrainingError(f"--phase {min(chosen)}", got=got, want=f"all {phase.steps} steps of it", hint=hint)
        if number == min(chosen) - 1 and not done and not ready:
            got = f"no phase {number} in {folder}, and a model without what it trains"
            hint = f"Train phase {number} there first, or start from a base that carries a trained SVMS"
            raise TrainingError(f"--phase {min(chosen)}", got=got, want=f"phase {number} finished", hint=hint)
        if number in chosen or done:
            found.append(Turn(phase=phase, run=run, first=first))
        first += phase.steps
    return found


def _progress(run: RunDir, phase: Phase) -> tuple[bool, bool]:
    """Whether an earlier call trained the whole phase here, and whether it began."""
    found = run.checkpoints()
    return bool(found) and found[-1].name == f"step_{phase.steps:06d}", bool(found)
