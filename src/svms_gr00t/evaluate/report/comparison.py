"""The main table from the results: every policy and baseline, every measured metric, effects against the reference."""

from collections.abc import Sequence
from typing import Literal

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.closed_loop.result import RolloutResult
from svms_gr00t.evaluate.open_loop.result import MethodResult, OpenLoopResult
from svms_gr00t.evaluate.report.data import Cell, Comparison, Metric, Row
from svms_gr00t.evaluate.statistics.stats import compare_paired, mean_interval, points

OPEN_LOOP = {
    "executed_mse": "Error, executed steps",
    "mse": "Error, whole chunk",
    "first_mse": "Error, first step",
    "flow_loss": "Flow loss",
}
"""Open-loop metrics in the table: per-episode attribute -> column name."""

Role = Literal["candidate", "reference", "control", "baseline"]


def build_comparison(
    open_loop: Sequence[OpenLoopResult], closed_loop: Sequence[RolloutResult], *, candidate: str, reference: str
) -> Comparison:
    """Rows: candidate, reference, other policies, baselines. Raises ConfigError when a policy appears twice."""
    offline, driven = _by_name(open_loop), _by_name(closed_loop)
    policies = sorted(offline.keys() | driven.keys(), key=lambda n: (n != candidate, n != reference, n))
    baselines = next((_baselines(r) for r in open_loop if len(r.methods) > 1), {})
    metrics = [Metric(name=title) for title in OPEN_LOOP.values()] if offline else []
    metrics += [Metric(name="Success", better="higher", percent=True)] if driven else []
    rows = []
    for name in policies:
        scores = offline[name].scores if name in offline else None
        cells = _offline_cells(scores, offline.get(reference)) if offline else []
        cells += [_driven_cell(driven.get(name), driven.get(reference))] if driven else []
        rows.append(Row(name=name, role=_role(name, candidate, reference), cells=tuple(cells)))
    for name, method in baselines.items():
        cells = _offline_cells(method, offline.get(reference)) + ([None] if driven else [])
        rows.append(Row(name=name, role="baseline", cells=tuple(cells)))
    return Comparison(metrics=tuple(metrics), rows=tuple(rows))


def _by_name(results: Sequence[OpenLoopResult | RolloutResult]) -> dict:
    found = {result.policy: result for result in results}
    if len(found) < len(results):
        names = [result.policy for result in results]
        raise ConfigError("report", got=f"policies {names}", want="different names", hint="Name each evaluation")
    return found


def _baselines(result: OpenLoopResult) -> dict[str, MethodResult]:
    return {name: method for name, method in result.methods.items() if name != result.policy}


def _role(name: str, candidate: str, reference: str) -> Role:
    if name == candidate:
        return "candidate"
    return "reference" if name == reference else "control"


def _offline_cells(method: MethodResult | None, reference: OpenLoopResult | None) -> list[Cell | None]:
    cells: list[Cell | None] = []
    for metric in OPEN_LOOP:
        ours = _measured(method, metric)
        theirs = _measured(reference.scores, metric) if reference is not None else None
        cells.append(None if ours is None else _offline_cell(ours, theirs))
    return cells


def _measured(method: MethodResult | None, metric: str) -> dict[int, float] | None:
    if method is None or any(getattr(e, metric) is None for e in method.episodes.values()):
        return None
    return method.metric(metric)


def _offline_cell(ours: dict[int, float], theirs: dict[int, float] | None) -> Cell:
    interval = mean_interval(list(ours.values()))
    found = None
    if theirs is not None and theirs is not ours and theirs.keys() == ours.keys() and theirs != ours:
        found = compare_paired(theirs, ours)
    return Cell(
        value=sum(ours.values()) / len(ours),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        effect=found.relative if found else None,
        p=found.p if found else None,
    )


def _driven_cell(result: RolloutResult | None, reference: RolloutResult | None) -> Cell | None:
    if result is None or result.overall.rate is None:
        return None
    rate, effect, p = result.overall.rate, None, None
    if reference is not None and reference.policy != result.policy:
        paired = result.against(reference).overall
        effect, p = points(paired.difference), paired.test.p
    return Cell(value=rate.estimate, low=rate.low, high=rate.high, effect=effect, p=p)
