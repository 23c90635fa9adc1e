"""The report's page with fewer sections: what one command measured."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from svms_gr00t import __version__
from svms_gr00t.evaluate.closed_loop.result import RolloutResult, TaskResult
from svms_gr00t.evaluate.comparison.compare import CompareReport, MetricComparison
from svms_gr00t.evaluate.comparison.contenders import Contender
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
from svms_gr00t.evaluate.report.comparison import build_comparison
from svms_gr00t.evaluate.report.data import CAVEATS, HeldOutCurves, PatchExample, ReportData, WordExample
from svms_gr00t.evaluate.statistics.stats import effect_text, points
from svms_gr00t.evaluate.streams.study import StreamStudy
from svms_gr00t.sheaf.graph import StreamGraph

OFFLINE, DRIVEN, EPISODES, STREAMS = CAVEATS
END = ("tables", "run", "limits")
"""How every page ends."""


def won(name: str, found: TaskResult) -> str:
    """ "svms 10 of 16 (39 to 82 %)": successes with their interval."""
    text = f"{name} {found.successes} of {found.episodes}"
    return text if found.rate is None else f"{text} ({100 * found.rate.low:.0f} to {100 * found.rate.high:.0f} %)"


def rollout_page(result: RolloutResult, graph: StreamGraph | None = None) -> ReportData:
    """One policy in a simulator; `graph` names its streams and edges."""
    return ReportData(
        title=f"{result.policy} in closed loop",
        candidate=result.policy,
        reference="",
        summary=(f"Episodes won: {won(result.policy, result.overall)}.",),
        closed_loop=(result,),
        graph=graph,
        sections=("closed-loop", "rollout", *END),
        caveats=(DRIVEN, EPISODES, STREAMS),
        version=__version__,
    )


def open_loop_page(result: OpenLoopResult) -> ReportData:
    """One policy on held-out episodes, beside naive references."""
    others = ", ".join(f"{n} {m.mse:.4f}" for n, m in result.methods.items() if n != result.policy)
    return ReportData(
        title=f"{result.policy} on held-out episodes",
        candidate=result.policy,
        reference="",
        summary=(f"Error: {result.policy} {result.scores.mse:.4f}; on the same steps {others or 'nothing else'}.",),
        comparison=build_comparison([result], [], candidate=result.policy, reference=""),
        open_loop=(result,),
        sections=("comparison", "open-loop", *END),
        caveats=(OFFLINE, EPISODES),
        version=__version__,
    )


def streams_page(
    name: str, study: StreamStudy, words: Sequence[WordExample], patches: Sequence[PatchExample]
) -> ReportData:
    """What the streams of one policy do."""
    whole = study.knockout.get("all")
    lines = [f"Error of the whole policy on held-out episodes: {study.whole:.4f}."]
    if whole is not None:
        lines.append("Without the streams: {:.4f} ({}, 95 %: {}).".format(whole.mse, *_effect(whole)))
    return ReportData(
        title=f"What the streams of {name} do",
        candidate=name,
        reference="",
        summary=tuple(lines),
        streams=study.report,
        words=tuple(words),
        patches=tuple(patches),
        sections=("streams", *END),
        caveats=(EPISODES, STREAMS),
        version=__version__,
    )


def detectors_page(name: str) -> ReportData:
    """What the monitor and other detectors notice, of a policy without streams: tables alone."""
    return ReportData(
        title=f"What detectors notice of {name}",
        candidate=name,
        reference="",
        summary=("How well each detector tells broken observations from clean ones.",),
        sections=END,
        caveats=(EPISODES,),
        version=__version__,
    )


def _effect(one: Any) -> tuple[str, str]:
    return effect_text(one.against_whole.relative, " %")


def compare_page(
    report: CompareReport, contenders: Sequence[Contender], held_out: Sequence[HeldOutCurves] = ()
) -> ReportData:
    """Candidates against a reference. Figures are of one training seed, the tables of all."""
    seeds = sorted(set.intersection(*(set(side.runs) for side in contenders)))
    seed = seeds[0] if seeds else None
    sides = [(side.name, side.runs[seed]) for side in contenders] if seed is not None else []
    offline = [renamed(run.open_loop, name) for name, run in sides if run.open_loop is not None]
    driven = [replace(run.closed_loop, policy=name) for name, run in sides if run.closed_loop is not None]
    many = max(len(side.runs) for side in contenders) > 1
    title = f"{' and '.join(pair.candidate for pair in report.pairs)} against {report.reference}"
    names: dict[str, Any] = {"candidate": report.pairs[0].candidate, "reference": report.reference}
    sections = ["closed-loop"] if driven else []
    sections += ["comparison"] if sides else []
    sections += ["training"] if held_out else []
    sections += ["open-loop"] if offline else []
    return ReportData(
        title=title,
        subtitle=f"Figures are of training seed {seed}, the tables of all." if many and sides else "",
        **names,
        summary=tuple(_lines(report))[:5],
        comparison=build_comparison(offline, driven, **names) if sides else None,
        open_loop=tuple(offline),
        closed_loop=tuple(driven),
        held_out=tuple(held_out),
        sections=(*sections, *END),
        caveats=(OFFLINE, DRIVEN, EPISODES),
        version=__version__,
    )


def renamed(result: OpenLoopResult, name: str) -> OpenLoopResult:
    """The result under a name that its page uses."""
    methods = {name if known == result.policy else known: one for known, one in result.methods.items()}
    return replace(result, policy=name, methods=methods)


def _lines(report: CompareReport) -> list[str]:
    """What is not equal first, then the verdicts, success before errors."""
    unequal = [f"Not equal: {line}." for pair in report.pairs for line in pair.differences][:2]
    metrics = [(pair.candidate, m) for pair in report.pairs for m in pair.metrics if m.metric in SAID]
    metrics.sort(key=lambda found: SAID.index(found[1].metric))
    return unequal + [_line(report.reference, name, metric) for name, metric in metrics]


SAID = ("success", "mse", "executed_mse")
"""Metrics that a comparison opens with."""


def _line(reference: str, candidate: str, m: MetricComparison) -> str:
    found: Mapping[str, Any] = {"mse": "Error", "executed_mse": "Error of executed steps", "success": "Success"}
    success = m.metric == "success"
    said, ends = effect_text(points(m.found.difference), " points") if success else effect_text(m.found.relative, " %")
    sides = [f"{value:.0%}" if success else f"{value:.4f}" for value in (m.found.candidate, m.found.reference)]
    interval = f" ({said}, 95 %: {ends})" if said else ""
    return f"{found[m.metric]}: {candidate} {sides[0]}, {reference} {sides[1]}{interval}; {m.verdict}."
