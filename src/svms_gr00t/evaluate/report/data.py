"""Everything a report shows, as one JSON record: rendering reads this and nothing else.

Whatever is left empty or None is shown as "not measured".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.evaluate.closed_loop.result import RolloutResult
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
from svms_gr00t.evaluate.statistics.stats import Interval
from svms_gr00t.evaluate.streams.report import StreamReport
from svms_gr00t.evaluate.streams.routing import WordRoute
from svms_gr00t.sheaf.graph import StreamGraph

CAVEATS = (
    "Open-loop error measures agreement with one demonstrator on recorded states; a policy may differ and still "
    "succeed, or agree and still fail once its own small errors add up.",
    "Closed-loop success is counted in simulation, on the tasks and scenes named above; it says nothing about a real "
    "robot or about other kitchens.",
    "Intervals cover the choice of episodes, not the choice of training seed, unless the table says that several seeds "
    "were trained.",
    "Router weights and disagreement describe what the module computes; they are evidence about the model, not an "
    "explanation of its behaviour.",
)
"""Said in every report unless the report says something else."""
SECTIONS = {
    "closed-loop": "Closed loop",
    "comparison": "Comparison",
    "gates": "Gates",
    "training": "Training",
    "open-loop": "Open loop",
    "streams": "Streams",
    "rollout": "A rollout",
    "tables": "Tables",
    "run": "What was run",
    "limits": "Limits",
}
"""Parts of a page in their order -> how its top calls them."""


@dataclass(frozen=True, kw_only=True)
class Fact(JsonRecord):
    """One line of the passport."""

    name: str
    """What: command, commit, seeds, data fingerprint, versions, time, memory..."""
    value: str
    """As it should be read."""


@dataclass(frozen=True, kw_only=True)
class Metric(JsonRecord):
    """A column of the comparison."""

    name: str
    better: Literal["lower", "higher"] = "lower"
    percent: bool = False
    """Show a share in [0, 1] as a percentage."""


@dataclass(frozen=True, kw_only=True)
class Cell(JsonRecord):
    """One measured number of one policy."""

    value: float
    low: float | None = None
    """Confidence interval; None when there is none."""
    high: float | None = None
    effect: Interval | None = None
    """Paired difference to the reference: percent of the reference, or percentage points for shares."""
    p: float | None = None
    """Of the paired test."""


@dataclass(frozen=True, kw_only=True)
class Row(JsonRecord):
    """One policy of the comparison."""

    name: str
    role: Literal["candidate", "reference", "control", "baseline"]
    cells: tuple[Cell | None, ...]
    """One for each metric; None is "not measured"."""


@dataclass(frozen=True, kw_only=True)
class Comparison(JsonRecord):
    """The main table."""

    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.metrics):
                want, hint = f"{len(self.metrics)}, one a metric", "Use None for what was not measured"
                raise ConfigError(f"comparison row {row.name}", got=f"{len(row.cells)} cells", want=want, hint=hint)


@dataclass(frozen=True, kw_only=True)
class PhaseCurves(JsonRecord):
    """Training of one phase, thinned to a few hundred points."""

    name: str
    """"1 specialise"."""
    steps: tuple[int, ...]
    terms: dict[str, tuple[float | None, ...]]
    """Loss term -> unweighted value at each step; None where it was not computed."""
    weights: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    """Loss term -> its weight at each step."""

    def __post_init__(self) -> None:
        _check_lengths(self.terms | self.weights, self.steps)


@dataclass(frozen=True, kw_only=True)
class HeldOutCurves(JsonRecord):
    """What one policy did on held-out samples while it trained, over the steps of all its phases."""

    policy: str
    steps: tuple[int, ...]
    """Optimiser steps done, counted from the first phase on."""
    measures: dict[str, tuple[float | None, ...]]
    """"flow", "action_error", "rho.EDGE", "accuracy.STREAM" -> value at each step; None where it was not measured."""
    phases: dict[str, int] = field(default_factory=dict)
    """Phase -> steps done when it began."""

    def __post_init__(self) -> None:
        _check_lengths(self.measures, self.steps)


@dataclass(frozen=True, kw_only=True)
class Table(JsonRecord):
    """A table as it was printed."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Gate(JsonRecord):
    """One criterion after a phase."""

    phase: str
    criterion: str
    """"balanced accuracy above 0.70 for each stream"."""
    measured: str | None
    """As it should be read; None: not measured."""
    passed: bool | None
    """None: not measured."""
    advice: str = ""
    """What to do when it fails."""


@dataclass(frozen=True, kw_only=True)
class WordExample(JsonRecord):
    """One instruction with the streams its words were sent to."""

    words: tuple[WordRoute, ...]
    note: str = ""
    """Which sample this is."""


@dataclass(frozen=True, kw_only=True)
class PatchExample(JsonRecord):
    """One camera picture with the streams its patches were sent to."""

    view: str
    picture: bytes
    """PNG or JPEG of what the model saw (base64 in JSON)."""
    routes: tuple[tuple[tuple[float, ...], ...], ...]
    """Rows of patches, patches of a row, weight of each stream."""


@dataclass(frozen=True, kw_only=True)
class ReportData(JsonRecord):
    """The whole report."""

    title: str
    subtitle: str = ""
    """One sentence under the title."""
    candidate: str = "svms"
    """Name of the policy the report is about, as in `open_loop` and `closed_loop`."""
    reference: str = "plain"
    """Name of the policy it is compared with."""
    passport: tuple[Fact, ...] = ()
    """What was run."""
    summary: tuple[str, ...] = ()
    """Five lines at most, the result first."""
    level: float = 0.95
    """Confidence level of all intervals."""
    comparison: Comparison | None = None
    """`report.comparison.build_comparison` makes it from the results below."""
    training: tuple[PhaseCurves, ...] = ()
    held_out: tuple[HeldOutCurves, ...] = ()
    """One for each policy."""
    gates: tuple[Gate, ...] = ()
    open_loop: tuple[OpenLoopResult, ...] = ()
    """One for each policy; baselines are taken from the first that has them."""
    closed_loop: tuple[RolloutResult, ...] = ()
    """One for each policy, on the same scenes."""
    streams: StreamReport | None = None
    """Of the candidate."""
    graph: StreamGraph | None = None
    """Names of the candidate's streams and edges where `streams` is not measured."""
    words: tuple[WordExample, ...] = ()
    patches: tuple[PatchExample, ...] = ()
    tables: tuple[Table, ...] = ()
    """What a command printed beside this."""
    sections: tuple[str, ...] = tuple(SECTIONS)
    """What the page speaks of, in this order; what is there and was not measured says so."""
    caveats: tuple[str, ...] = CAVEATS
    """What this does not show."""
    generated: str = ""
    """When, in words; empty leaves it out (and makes the page reproducible)."""
    version: str = ""
    """Version of this package."""

    @property
    def parts(self) -> dict[str, str]:
        """Sections of the page -> their names at its top; no empty place for tables."""
        return {name: SECTIONS[name] for name in self.sections if name != "tables" or self.tables}

    @property
    def failed(self) -> tuple[Gate, ...]:
        """Gates that did not pass, in order."""
        return tuple(gate for gate in self.gates if gate.passed is False)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.sections) - set(SECTIONS)):
            hint = "Leave it out for all"
            raise ConfigError("report.sections", got=unknown, want=f"some of {', '.join(SECTIONS)}", hint=hint)
        if len(self.summary) > 5:
            raise ConfigError("report.summary", got=f"{len(self.summary)} lines", want="at most 5", hint="Cut it down")


def _check_lengths(curves: Mapping[str, tuple[float | None, ...]], steps: tuple[int, ...]) -> None:
    for name, values in curves.items():
        if len(values) != len(steps):
            want = f"{len(steps)} values, one a step"
            raise ConfigError(f"curve {name}", got=f"{len(values)} values", want=want, hint="Pad with None")
