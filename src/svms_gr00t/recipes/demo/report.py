"""The demo's findings as a report: every number comes from the results, and what was not run says so."""

from dataclasses import asdict

import torch

from svms_gr00t import __version__
from svms_gr00t.core.provenance import commit, versions
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.evaluate.closed_loop.result import RolloutResult
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
from svms_gr00t.evaluate.report.comparison import build_comparison
from svms_gr00t.evaluate.report.data import Fact, Gate, PhaseCurves, ReportData
from svms_gr00t.evaluate.report.pages import won
from svms_gr00t.evaluate.statistics.stats import effect_text
from svms_gr00t.recipes.demo.config import BASE, DemoConfig
from svms_gr00t.recipes.training.evidence import examples, held_out_curves, read_routes, read_streams
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.phases_in_turn import Trained
from svms_gr00t.train.gates import end_gate

TITLES = (
    "SVMS beside plain GR00T N1.6 in the embedded kitchen",
    "SVMS that remembers beside plain GR00T N1.6 in the embedded kitchen",
)
"""Without memory, and with it."""


def assemble(
    config: DemoConfig,
    experiment: Experiment,
    trained: dict[str, Trained],
    open_loop: dict[str, OpenLoopResult],
    closed_loop: dict[str, RolloutResult],
    held_out: SampleDataset,
    *,
    seconds: float,
) -> ReportData:
    """Everything the page shows."""
    model = trained["svms"].model
    streams, _ = read_streams(model, held_out)
    words, patches = read_routes(model, held_out, examples(held_out))
    (last,) = end_gate(open_loop["svms"].scores.mse, open_loop["plain"].scores.mse)
    order = [name for name in ("svms", "plain", BASE) if name in open_loop]
    return ReportData(
        title=TITLES[bool(config.memory_frames)],
        subtitle="A tiny model on a CPU: the same code as the full one, other numbers.",
        passport=passport(experiment, config, seconds),
        summary=tuple(summary_lines(trained["svms"], open_loop, closed_loop, last.passed)),
        comparison=build_comparison(
            [open_loop[n] for n in order],
            [closed_loop[n] for n in order if n in closed_loop],
            candidate="svms",
            reference="plain",
        ),
        training=curves(trained["svms"]),
        held_out=tuple(held_out_curves(name, trained[name].rows) for name in ("svms", "plain")),
        gates=gates(trained["svms"], [Gate(**last.__dict__)]),
        open_loop=tuple(open_loop[n] for n in order),
        closed_loop=tuple(closed_loop[n] for n in order if n in closed_loop),
        streams=streams,
        words=words,
        patches=patches,
        version=__version__,
    )


def summary_lines(
    trained: Trained,
    open_loop: dict[str, OpenLoopResult],
    closed_loop: dict[str, RolloutResult],
    below_plain: bool | None,
) -> list[str]:
    """Five lines, the result first, flattering or not."""
    svms, plain = open_loop["svms"], open_loop["plain"]
    change = svms.against(plain).relative
    span = ""
    if change is not None:
        span = " ({}, 95 % interval {} %)".format(*effect_text(change, " %"))
    driven = ", ".join(won(name, result.overall) for name, result in closed_loop.items()) or "not measured"
    lines = [f"Closed loop, episodes won: {driven}."]
    lines.append(f"Open-loop error: SVMS {svms.scores.mse:.4f}, plain {plain.scores.mse:.4f}{span}.")
    others = [f"{name} {m.mse:.4f}" for name, m in plain.methods.items() if name != plain.policy]
    before = f"before fine-tuning {open_loop[BASE].scores.mse:.4f}, " if BASE in open_loop else ""
    lines.append(f"On the same steps: {before}{', '.join(others)}.")
    passed = sum(bool(gate.passed) for gate in trained.gates) + bool(below_plain)
    lines.append(f"Gates passed: {passed} of {len(trained.gates) + 1}.")
    lines.append("One seed and few episodes: an interval that includes zero is no difference.")
    return lines


def passport(experiment: Experiment, config: DemoConfig, seconds: float) -> tuple[Fact, ...]:
    """What was run, for the report."""
    facts = {
        "command": config.command(),
        "commit": commit() or "not a git checkout",
        "dataset": f"{experiment.dataset.root.name}, {len(experiment.dataset.episodes)} episodes",
        "data fingerprint": experiment.dataset.fingerprint(),
        "held out": f"{len(experiment.split.validation)} episodes",
        "base": config.base,
        "steps": " + ".join(str(n) for n in config.steps) + f" at batch {config.batch_size}",
        "memory": f"{config.memory_frames} steps, {config.stride} apart" if config.memory_frames else "none",
        "seed": str(config.seed),
        "closed-loop episodes": f"{config.rollouts} for each task and policy",
        "time": f"{seconds:.0f} s of this call, {torch.get_num_threads()} threads",
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
    return tuple(Fact(name=name, value=value) for name, value in facts.items())


def curves(trained: Trained) -> tuple[PhaseCurves, ...]:
    """Training curves of the three phases."""
    found = []
    for number, (phase, rows) in enumerate(trained.rows.items(), start=1):
        names = [key.removeprefix("term.") for key in (rows or ({},))[0] if key.startswith("term.")]
        rows = [row for row in rows if all(f"{kind}.{name}" in row for kind in ("term", "weight") for name in names)]
        found.append(
            PhaseCurves(
                name=f"{number} {phase}",
                steps=tuple(row["step"] for row in rows),
                terms={name: tuple(row[f"term.{name}"] for row in rows) for name in names},
                weights={name: tuple(row[f"weight.{name}"] for row in rows) for name in names},
            )
        )
    return tuple(found)


def gates(trained: Trained, last: list[Gate]) -> tuple[Gate, ...]:
    """The gates of the phases in order."""
    return (*(Gate(**asdict(result)) for result in trained.gates), *last)
