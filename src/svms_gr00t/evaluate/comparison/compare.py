"""Two or more runs side by side: is the difference real, how large is it, and would more episodes tell?

Paired by training seed and episode. Errors: t over episodes for a single seed, t over seeds for several (`seeds.py`),
sign-flip permutation beside it. Success: Tango's interval and exact McNemar for a single seed, t over seeds for
several, and McNemar within each. A comparison is only fair when both sides had the same data, held-out episodes, steps
and budget, and were asked the same questions: `differences` lists what is not equal, and `compare` refuses such a pair
unless forced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.escape import markdown
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.evaluate.comparison.contenders import Contender, Run
from svms_gr00t.evaluate.statistics.seeds import BySeed, SeedComparison, compare_seeds
from svms_gr00t.evaluate.statistics.stats import (
    McNemar,
    effect_text,
    episodes_for_width,
    mcnemar,
    p_value,
    points,
)

OPEN_LOOP = ("mse", "executed_mse", "first_mse", "flow_loss")
"""Open-loop metrics that are compared where both sides measured them."""
SUCCESS = "success"
WIDTH = 0.10
"""Wanted width of the interval by default: a tenth of the reference's error, ten points of success."""


@dataclass(frozen=True, kw_only=True)
class MetricComparison(JsonRecord):
    """One metric of one candidate against the reference."""

    metric: str
    better: str
    """lower or higher."""
    found: SeedComparison
    tests: dict[int, McNemar] = field(default_factory=dict)
    """Success only, by training seed: pairs of several seeds are not independent, so they are never pooled."""
    episodes_needed: int | None = None
    """Paired episodes (of one seed) at which the interval would have the wanted width; None when it is unknown."""

    @property
    def verdict(self) -> str:
        """better, worse, or unclear when the interval of the difference holds 0 or there is none."""
        if self.found.difference is None or not self.found.difference.excludes(0.0):
            return "unclear"
        return "better" if (self.found.difference.estimate < 0) == (self.better == "lower") else "worse"


@dataclass(frozen=True, kw_only=True)
class Pair(JsonRecord):
    """One candidate against the reference."""

    candidate: str
    differences: tuple[str, ...]
    """What is not equal on both sides; empty for a fair comparison."""
    unknown: tuple[str, ...]
    """What no file says, so that nobody can tell."""
    metrics: tuple[MetricComparison, ...]


@dataclass(frozen=True, kw_only=True)
class CompareReport(JsonRecord):
    """All candidates against one reference."""

    reference: str
    width: float
    pairs: tuple[Pair, ...]


def compare(contenders: Sequence[Contender], *, force: bool = False, width: float = WIDTH) -> CompareReport:
    """The first against each of the others. `width`: share of the reference's error, or of 1 for success.

    Raises ConfigError for fewer than two contenders, for nothing to compare, and, unless `force`, for runs of different
    data, steps or budget, saying what differs. With `force` only the seeds and episodes that both have are paired.
    """
    if len(contenders) < 2:
        raise ConfigError("compare", got=f"{len(contenders)} runs", want="two or more", hint="Name A and B")
    reference, *others = contenders
    pairs = []
    for candidate in others:
        differ, unknown = differences(reference, candidate)
        if differ and not force:
            want = "runs of equal data, steps, budget and evaluation"
            hint = "Train and evaluate them alike, or say --force"
            raise ConfigError(f"{reference.name} and {candidate.name}", got="; ".join(differ), want=want, hint=hint)
        metrics = tuple(_metrics(reference, candidate, width))
        if not metrics:
            want, hint = "a metric that both measured on the same episodes", "Evaluate both with one command"
            raise ConfigError(f"{reference.name} and {candidate.name}", got="nothing in common", want=want, hint=hint)
        pairs.append(Pair(candidate=candidate.name, differences=differ, unknown=unknown, metrics=metrics))
    return CompareReport(reference=reference.name, width=width, pairs=tuple(pairs))


def differences(a: Contender, b: Contender) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what differs, what is unknown), in words."""
    found: dict[str, None] = {}
    if a.runs.keys() != b.runs.keys():
        found[f"training seeds: {sorted(a.runs)} against {sorted(b.runs)}"] = None
    unknown: dict[str, None] = {}
    for seed in sorted(a.runs.keys() & b.runs.keys()):
        ours, theirs = a.runs[seed], b.runs[seed]
        for side, run in ((a, ours), (b, theirs)):
            if run.facts is None:
                unknown[f"{side.name}: data, steps and budget (nobody wrote them down)"] = None
        known = (_known(ours), _known(theirs))
        for name in sorted(known[0].keys() & known[1].keys()):
            left, right = known[0][name], known[1][name]
            if left != right:
                found[f"{name}: {left} against {right}"] = None
    return tuple(found), tuple(unknown)


def _known(run: Run) -> dict[str, str]:
    """Everything that must be equal, by name, as text."""
    known: dict[str, str] = {}
    if run.facts is not None:
        known |= run.facts.differences()
    if run.open_loop is not None:
        for name in ("horizon", "executed", "stride", "seed", "language"):
            known[f"open-loop {name}"] = str(getattr(run.open_loop, name))
        known["open-loop episodes"] = str(sorted(run.open_loop.scores.episodes))
    if run.closed_loop is not None:
        rules = run.closed_loop.config
        for name in ("tasks", "episodes", "seed", "split", "n_action_steps", "horizon", "horizons", "threshold"):
            known[f"closed-loop {name}"] = str(getattr(rules, name))
    return known


def _metrics(reference: Contender, candidate: Contender, width: float) -> list[MetricComparison]:
    compared = []
    for metric in OPEN_LOOP:
        sides = _common(_measured(reference, metric), _measured(candidate, metric))
        if sides is not None:
            found = compare_seeds(*sides)
            needed = _needed(*sides, width * abs(found.reference))
            compared.append(MetricComparison(metric=metric, better="lower", found=found, episodes_needed=needed))
    sides = _common(_driven(reference), _driven(candidate))
    if sides is not None:
        compared.append(
            MetricComparison(
                metric=SUCCESS,
                better="higher",
                found=compare_seeds(*sides, outcomes=True),
                tests={
                    k: mcnemar(*(np.array([w > 0.5 for w in side[k].values()]) for side in sides)) for k in sides[0]
                },
                episodes_needed=_needed(*sides, width),
            )
        )
    return compared


def _measured(side: Contender, metric: str) -> dict[int, dict[int, float]]:
    """By seed and episode; seeds without the metric are left out."""
    return {
        seed: run.open_loop.scores.metric(metric)
        for seed, run in side.runs.items()
        if run.open_loop is not None
        and all(getattr(e, metric) is not None for e in run.open_loop.scores.episodes.values())
    }


def _driven(side: Contender) -> dict[int, dict[int, float]]:
    driven = Contender(name=side.name, runs={k: run for k, run in side.runs.items() if run.closed_loop is not None})
    return driven.successes()


def _common(a: BySeed, b: BySeed) -> tuple[BySeed, BySeed] | None:
    """Both sides cut to the seeds and episodes that both have; None when there are none."""

    def cut(side: BySeed, other: BySeed) -> dict[int, Mapping[int, float]]:
        kept = {
            k: {e: side[k][e] for e in sorted(side[k].keys() & other[k].keys())} for k in side.keys() & other.keys()
        }
        return {k: kept[k] for k in sorted(kept) if kept[k]}

    left, right = cut(a, b), cut(b, a)
    return (left, right) if left else None


def _needed(a: BySeed, b: BySeed, width: float) -> int | None:
    """From the spread of the pairs within seeds."""
    pairs = np.concatenate([[b[k][e] - a[k][e] for e in a[k]] for k in a])
    if len(pairs) < 2 or width <= 0 or not np.ptp(pairs):
        return None
    return episodes_for_width(pairs, width)


def render_markdown(report: CompareReport) -> str:
    """GitHub-flavoured Markdown: what differs first, then one table for each candidate."""
    parts = [f"# Against {markdown(report.reference)}"]
    for pair in report.pairs:
        parts.append(f"## {markdown(pair.candidate)}")
        parts += [f"**Not equal:** {markdown(line)}" for line in pair.differences]
        parts += [f"*Unknown:* {markdown(line)}" for line in pair.unknown]
        names = (markdown(name) for name in (report.reference, pair.candidate))
        head = ("metric", *names, "difference (95 %)", "effect", "p", "p, permutation")
        lines: list[tuple[str, ...]] = [(*head, f"episodes for ±{50 * report.width:g} %", "verdict")]
        lines += [("---",) * 9, *(row(metric) for metric in pair.metrics)]
        parts.append("\n".join("| " + " | ".join(cells) + " |" for cells in lines))
        parts += [f"{markdown(line)}." for line in mcnemar_lines(report.reference, pair)]
    return "\n\n".join(parts) + "\n"


def mcnemar_lines(reference: str, pair: Pair) -> list[str]:
    """One for each training seed that drove."""
    found = [(seed, test) for metric in pair.metrics for seed, test in metric.tests.items()]
    return [
        f"McNemar{f', seed {seed}' if len(found) > 1 else ''}: only {reference} won {test.only_reference}, only "
        f"{pair.candidate} {test.only_candidate}; p: {p_value(test.p)}"
        for seed, test in found
    ]


def row(m: MetricComparison) -> tuple[str, ...]:
    """One metric as the cells of a table."""
    d = m.found.difference
    if m.metric == SUCCESS:
        effect, _ = effect_text(points(d), " points")
    else:
        effect = "{} ({})".format(*effect_text(m.found.relative, " %")) if m.found.relative else ""
    return (
        m.metric,
        f"{m.found.reference:.4g}",
        f"{m.found.candidate:.4g}",
        "" if d is None else f"{d.estimate:+.4g} ({d.low:+.4g} to {d.high:+.4g})",
        effect,
        p_value(m.found.p),
        p_value(m.found.p_permutation),
        "" if m.episodes_needed is None else f"{m.episodes_needed:,}",
        m.verdict,
    )
