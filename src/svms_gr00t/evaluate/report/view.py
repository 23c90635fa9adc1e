"""ReportData as the page wants it: figures drawn, rows chosen, examples picked. No number is made here."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from svms_gr00t.core.escape import plain
from svms_gr00t.evaluate.closed_loop.result import Rollout
from svms_gr00t.evaluate.closed_loop.strip import Told
from svms_gr00t.evaluate.closed_loop.video import Clip, side_by_side
from svms_gr00t.evaluate.open_loop.result import KeyResult, MethodResult
from svms_gr00t.evaluate.report import figures
from svms_gr00t.evaluate.report.data import HeldOutCurves, PatchExample, PhaseCurves, ReportData
from svms_gr00t.evaluate.report.figures import Drawing, Line
from svms_gr00t.evaluate.report.format import percent


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """One policy on one task, for the interval bars."""

    policy: str
    role: str
    successes: int
    episodes: int
    rate: float
    low: float
    high: float


def page(data: ReportData) -> dict[str, Any]:
    """Everything that the template needs. Texts are plain; Jinja escapes them."""
    data = _plain(data)
    driven = showcase(data)
    drawn = [(p, figures.patch_pictures(p)) for p in data.patches]  # a broken picture is refused, shown or not
    return {
        "data": data,
        "stream_names": stream_names(data),
        "training": [(phase, _training(phase)) for phase in data.training],
        "held_out": _held_out(data),
        "open_loop": _open_loop(data),
        "key_rows": _key_rows(data),
        "angles": any(key.angle is not None for _, _, method in _methods(data) for key in method.keys.values()),
        "tasks": _tasks(data),
        "patches": [(p.view, pictures) for p, pictures in drawn if not _uniform(p)],
        "uniform": _alike(data),
        "clips": _clips(data),
        "ages": _ages(data),
        "sensors": _sensors(data),
        "driven": driven,
        "film": figures.data_uri(driven.video, "image/gif") if driven is not None and driven.video else None,
        "trace": _trace(data, driven),
    }


def _plain(value: Any) -> Any:
    """A record with every text in it as `plain` shows it."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.init})
    return value


def stream_names(data: ReportData) -> tuple[str, ...]:
    """Names from the stream report or the policy's graph, else numbers."""
    if named := data.streams or data.graph:
        return named.streams
    shares = [w.routes for example in data.words for w in example.words]
    shares += [p for example in data.patches for row in example.routes for p in row]
    shares += [r.routes for result in data.closed_loop for rollout in result.rollouts for r in rollout.replans]
    return tuple(f"stream {i + 1}" for i in range(max((len(s) for s in shares), default=0)))


def _uniform(example: PatchExample) -> bool:
    """Whether a picture of its routes would show one colour: no patch is 5 points from another."""
    routes = np.array(example.routes, dtype=float)
    return bool(np.ptp(routes, axis=(0, 1)).max(initial=0.0) < 0.05)


def _alike(data: ReportData) -> list[str]:
    """A sentence for each camera whose patches all go the same way."""
    names, views = stream_names(data), {p.view: p for p in reversed(data.patches) if _uniform(p)}
    means = {view: np.array(p.routes, dtype=float).mean(axis=(0, 1)) for view, p in views.items()}
    text = "{}: every patch goes the same way, {}."
    shares = {v: ", ".join(f"{n} {percent(s)}" for n, s in zip(names, m, strict=False)) for v, m in means.items()}
    return [text.format(view, said) for view, said in reversed(shares.items())]


def showcase(data: ReportData) -> Rollout | None:
    """The candidate's rollout to look at: a filmed one first, then one with streams, then a successful one."""
    shown = [r for r in _rollouts(data, data.candidate) if r.video or r.replans]
    return max(shown, key=lambda r: (r.video is not None, bool(r.replans), r.success), default=None)


def _rollouts(data: ReportData, policy: str) -> list[Rollout]:
    return [r for result in data.closed_loop if result.policy == policy for r in result.rollouts]


def _firsts(data: ReportData, policy: str, shows: Callable[[Rollout], object]) -> dict[str, Rollout]:
    """Task -> a policy's first rollout that `shows` something."""
    rollouts = sorted(filter(shows, _rollouts(data, policy)), key=lambda r: -r.index)
    return {r.task: r for r in rollouts}


def _role(name: str, data: ReportData) -> str:
    return {data.candidate: "candidate", data.reference: "reference"}.get(name, "control")


def _methods(data: ReportData) -> list[tuple[str, str, MethodResult]]:
    """(name, role, numbers) of every policy, then the baselines of the first evaluation that has them."""
    found = [(r.policy, _role(r.policy, data), r.scores) for r in data.open_loop]
    found.sort(key=lambda item: ("candidate", "reference", "control").index(item[1]))
    for result in data.open_loop:
        if len(result.methods) > 1:
            return found + [(n, "baseline", m) for n, m in result.methods.items() if n != result.policy]
    return found


def _open_loop(data: ReportData) -> list[Drawing]:
    methods = _methods(data)
    if not methods:
        return []
    keys: dict[str, list[Line]] = {}
    for name, role, method in methods:
        for key, result in method.keys.items():
            if result.mse is not None:
                keys.setdefault(key, []).append(Line(name=name, role=role, values=(result.mse,)))
    lines = [Line(name=name, role=role, values=method.by_step) for name, role, method in methods]
    horizon = figures.horizon_figure(lines, executed=data.open_loop[0].executed)
    return [
        Drawing(horizon, "Error at each step of the predicted chunk, all action keys; lower is better."),
        Drawing(figures.keys_figure(keys), "Error of each action key over the whole chunk; lower is better."),
    ]


def _key_rows(data: ReportData) -> list[tuple[str, list[tuple[str, KeyResult]]]]:
    """For each key, (policy, numbers) of every policy."""
    policies = [(name, method) for name, role, method in _methods(data) if role != "baseline"]
    keys = list(dict.fromkeys(key for _, method in policies for key in method.keys))
    return [(key, [(name, method.keys[key]) for name, method in policies if key in method.keys]) for key in keys]


def _tasks(data: ReportData) -> list[tuple[str, list[TaskRow]]]:
    results = sorted(data.closed_loop, key=lambda r: ("candidate", "reference", "control").index(_role(r.policy, data)))
    named = [(r.policy, {**r.tasks, "all tasks": r.overall}) for r in results]
    tasks = list(dict.fromkeys(task for _, found in named for task in found))
    tasks.sort(key=lambda task: task == "all tasks")
    rows = []
    for task in tasks:
        bars = [
            TaskRow(
                policy=policy,
                role=_role(policy, data),
                successes=found[task].successes,
                episodes=found[task].episodes,
                rate=rate.estimate,
                low=rate.low,
                high=rate.high,
            )
            for policy, found in named
            if task in found and (rate := found[task].rate) is not None
        ]
        rows.append((task, bars))
    return rows


def _training(phase: PhaseCurves) -> list[Drawing]:
    drawn = [Drawing(figures.training_figure(phase, weights=False), f"{phase.name}: loss terms before weighting.")]
    if phase.weights:
        drawn.append(Drawing(figures.training_figure(phase, weights=True), f"{phase.name}: how much each term counts."))
    return drawn


HELD_OUT: dict[str, tuple[str, dict[str, Any], str]] = {
    "flow": ("flow loss", {"log": True}, "Flow loss at the same noise and times."),
    "action_error": ("action error", {"log": True}, "Squared error of denoised chunks, normalised; lower is better."),
    "rho": ("disagreement ρ", {"gate": 0.15}, "Mean disagreement on each overlap, of policies with streams."),
    "accuracy": (
        "balanced accuracy",
        {},
        "How well each stream finds its own words in held-out episodes; half is chance. The gate asks for other "
        "wordings, which training does not have.",
    ),
}
"""Kind of measure -> what its axis says, how it is drawn, and what it is."""


def _held_out(data: ReportData) -> list[Drawing]:
    """A figure for each kind of measure, all policies on one axis."""
    drawn = []
    for kind, (name, drawing, says) in HELD_OUT.items():
        lines = []
        for curves in data.held_out:
            for measure, values in curves.measures.items():
                family, _, part = measure.partition(".")
                if family == kind:
                    role = {"rho": "edge", "accuracy": "stream"}.get(kind, _role(curves.policy, data))
                    lines.append((Line(name=_part_name(data, curves, part), values=values, role=role), curves.steps))
        if lines:
            phases = data.held_out[0].phases
            drawn.append(Drawing(figures.held_out_figure(name, lines, phases=phases, **drawing), says))
    return drawn


def _part_name(data: ReportData, curves: HeldOutCurves, part: str) -> str:
    """A policy, or one of its streams or edges; with the policy's name where several have such parts."""
    several = sum(any("." in measure for measure in one.measures) for one in data.held_out) > 1
    if not part:
        return curves.policy
    return f"{curves.policy} {part}" if several else part


def _clips(data: ReportData) -> list[tuple[str, str, Rollout, Rollout]]:
    """(task, film, candidate's rollout, reference's) of the first filmed scene of each task: chosen by no result."""
    sides = [_firsts(data, name, lambda r: r.video) for name in (data.candidate, data.reference)]
    found = []
    for task in sides[0]:
        both = [side[task] for side in sides if task in side]
        if len(both) == 2 and both[0].seed == both[1].seed:
            clips = [clip_of(r, name) for r, name in zip(both, (data.candidate, data.reference), strict=True)]
            found.append((task, figures.data_uri(side_by_side(clips), "image/gif"), both[0], both[1]))
    return found


def clip_of(rollout: Rollout, name: str) -> Clip:
    """A filmed rollout over its stage and its disagreement, the mean over edges."""
    rho = tuple((replan.step, sum(replan.rho) / len(replan.rho)) for replan in rollout.replans)
    told = Told(name=name, stages=rollout.stages, rho=rho)
    return Clip(gif=rollout.video or b"", steps=max(rollout.steps, 1), success=rollout.success, told=told)


def _ages(data: ReportData) -> list[Drawing]:
    """Where memory looked in the candidate's first rollout of each task."""
    first = _firsts(data, data.candidate, lambda r: any(replan.ages for replan in r.replans))
    says = "{}, scene {}: each column is a plan, each cell a step it remembers; the darker, the more of its attention."
    return [Drawing(figures.ages_figure(r), says.format(task, r.index)) for task, r in sorted(first.items())]


def _sensors(data: ReportData) -> list[Drawing]:
    """What a consistency monitor said in each task's first scene, of the candidate and of the reference."""
    found: dict[str, list[tuple[str, Rollout]]] = {}
    for name in (data.candidate, data.reference):
        for task, first in _firsts(data, name, lambda r: r.sensors).items():
            found.setdefault(task, []).append((name, first))
    return [Drawing(figures.sensors_figure(both), _alarms(task, both)) for task, both in sorted(found.items())]


def _alarms(task: str, rollouts: list[tuple[str, Rollout]]) -> str:
    said = [(name, sum(s.score > s.threshold for s in r.sensors), len(r.sensors)) for name, r in rollouts]
    counts = ", ".join(f"{name} {alarms} of {looks}" for name, alarms, looks in said)
    return f"{task}, scene {rollouts[0][1].index}: the largest gap between sensors at each plan. Alarms: {counts}."


def _trace(data: ReportData, driven: Rollout | None) -> list[Drawing]:
    if driven is None or not driven.replans:
        return []
    edges = data.streams.edges if data.streams else data.graph.edge_names if data.graph else ()
    rho = "Disagreement between the streams whenever the policy plans: the line is the mean over tokens, the shade "
    return [
        Drawing(figures.rho_figure(driven, edges), rho + "reaches up to the largest of any token."),
        Drawing(
            figures.routes_figure(driven, stream_names(data)), "Where the router sends the tokens, mean over tokens."
        ),
    ]
