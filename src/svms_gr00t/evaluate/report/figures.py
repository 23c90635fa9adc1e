"""Curves as inline SVG that takes its colours and font from the page, so that they follow light and dark.

matplotlib draws in placeholder colours; `inline_svg` turns them into CSS variables. Figures are small (one column of a
phone); the page places several beside one another where there is room.
"""

import base64
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from svms_gr00t.core.errors import DataError
from svms_gr00t.evaluate.closed_loop.result import Rollout
from svms_gr00t.evaluate.closed_loop.video import encode_png
from svms_gr00t.evaluate.report.data import PatchExample, PhaseCurves
from svms_gr00t.evaluate.streams.routing import paint_routes

VARIABLES = {"#010101": "--ink", "#020202": "--soft", "#030303": "--line", "#040404": "--accent", "#050505": "--good"}
INK, SOFT, LINE, ACCENT, GOOD = VARIABLES
STREAMS = ("#0a0101", "#0a0202", "#0a0303", "#0a0404", "#0a0505", "#0a0606")
VARIABLES |= {colour: f"--s{i}" for i, colour in enumerate(STREAMS)}
STREAM_RGB = ((47, 111, 208), (214, 120, 24), (24, 146, 106), (155, 79, 181), (190, 60, 90), (110, 120, 40))
"""The streams' colours in pictures, where CSS does not reach; the page's --s0... are the same."""

TERMS = ("flow", "sheaf", "aux", "balance", "collapse")
"""Loss terms keep their colour from phase to phase."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names are names, also with a dollar sign in them
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve: a policy or a baseline."""

    name: str
    values: tuple[float | None, ...]
    role: str
    """candidate, reference, control or baseline; edge or stream for a part of one policy."""


@dataclass(frozen=True)
class Drawing:
    """A figure with what it says in words."""

    svg: str
    caption: str


def _stroke(role: str, rank: int) -> dict[str, Any]:
    if role == "candidate":
        return {"color": ACCENT, "linewidth": 2.2, "zorder": 5}
    if role == "reference":
        return {"color": INK, "linewidth": 1.6, "zorder": 4}
    if role in ("edge", "stream"):  # an edge is no stream and should not look like one
        return {"color": STREAMS[(rank + 3 * (role == "edge")) % len(STREAMS)], "linewidth": 1.6}
    if role == "control":
        return {"color": STREAMS[(3 + rank) % len(STREAMS)], "linewidth": 1.3}
    return {"color": SOFT, "linewidth": 1.1, "linestyle": ((0, (1, 1.5)), (0, (4, 2)), (0, (6, 2, 1, 2)))[rank % 3]}


def _ranked(lines: Sequence[Line]) -> Iterator[tuple[Line, int]]:
    """Each line with its number among those of its role."""
    ranks: dict[str, int] = {}
    for line in lines:
        yield line, ranks.setdefault(line.role, 0)
        ranks[line.role] += 1


def _axes(height: float = 2.5, width: float = 4.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    return figure, axes


def inline_svg(figure: Figure, name: str) -> str:
    """SVG for an HTML page: no prologue, no metadata, no outside references; unique ids; colours as CSS variables."""
    buffer = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px; font-family: var(--sans)", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    groups = r"figure|axes|patch|line2d|text|matplotlib|legend|xtick|ytick|PathC|LineC|FillB"
    text = re.sub(rf'\bid="(?:{groups})\w*"', "", text)  # the same in every figure, and nothing refers to them
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(name)}"', 1).strip()


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], dtype=float)


@mpl.rc_context(STYLE)
def horizon_figure(lines: Sequence[Line], *, executed: int) -> str:
    """Normalised error at each step of the chunk."""
    figure, axes = _axes()
    for line, rank in _ranked(lines):
        axes.plot(range(1, len(line.values) + 1), _floats(line.values), label=line.name, **_stroke(line.role, rank))
    if lines and executed < max(len(line.values) for line in lines):
        axes.axvline(executed + 0.5, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.annotate(
            "executed up to here", (executed + 0.5, 1), xycoords=("data", "axes fraction"), xytext=(-4, -9),
            textcoords="offset points", ha="right", color=SOFT, fontsize=8,
        )  # fmt: skip
    axes.set(xlabel="step of the chunk", ylabel="squared error")
    shown = np.concatenate([_floats(line.values) for line in lines])
    if np.nanmin(shown) > 0 and np.nanmax(shown) > 5 * np.nanmin(shown):
        axes.set_yscale("log")  # a bad baseline must not flatten the policies into one line
        _plain_ticks(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, axes)
    return inline_svg(figure, "error by horizon step")


@mpl.rc_context(STYLE)
def keys_figure(keys: Mapping[str, Sequence[Line]]) -> str:
    """Normalised error of each action key: one row a key, one mark a policy or baseline."""
    figure, axes = _axes(height=0.9 + 0.36 * len(keys))
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    marks = {"candidate": "o", "reference": "D", "control": "s", "baseline": "|"}
    seen: set[str] = set()
    for row, lines in enumerate(keys.values()):
        for line, rank in _ranked(lines):
            mark = ("|", "x", "+")[rank % 3] if line.role == "baseline" else marks[line.role]
            colour = _stroke(line.role, rank)["color"]
            label = None if line.name in seen else line.name
            axes.plot(_floats(line.values), [row], mark, color=colour, markersize=6.5, label=label, linestyle="none")
            seen.add(line.name)
        axes.axhline(row, color=LINE, linewidth=0.6, zorder=0)
    axes.set_yticks(range(len(keys)), [key.replace("_", " ") for key in keys])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(keys) - 0.5, -0.5)
    values = np.array([v for lines in keys.values() for line in lines for v in line.values], dtype=float)
    if values.size and np.nanmin(values) > 0:
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis)  # baselines may be a hundred times worse, and policies should still be told apart
    else:
        axes.set_xlim(left=0)
    axes.set_xlabel("normalised squared error")
    _legend(figure, axes)
    return inline_svg(figure, "error by action key")


@mpl.rc_context(STYLE)
def training_figure(phase: PhaseCurves, *, weights: bool) -> str:
    """Loss terms (log scale) or their weights over the steps of one phase."""
    figure, axes = _axes()
    curves = phase.weights if weights else phase.terms
    for rank, (name, values) in enumerate(curves.items()):
        rank = TERMS.index(name) if name in TERMS else len(TERMS) + rank
        stroke: dict[str, Any] = {"color": STREAMS[rank % len(STREAMS)], "linewidth": 2.2 if name == "flow" else 1.5}
        axes.plot(phase.steps, _floats(values), label=name, **stroke)
    shown = np.concatenate([_floats(values) for values in curves.values()]) if curves else np.zeros(0)
    if not weights and shown.size and np.nanmin(shown) > 0:
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
    axes.set(xlabel="optimiser step", ylabel="weight" if weights else "loss term")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _legend(figure, axes)
    return inline_svg(figure, f"{phase.name}, {'weights' if weights else 'losses'}")


@mpl.rc_context(STYLE)
def held_out_figure(
    name: str,
    curves: Sequence[tuple[Line, Sequence[int]]],
    *,
    phases: Mapping[str, int],
    log: bool = False,
    gate: float | None = None,
) -> str:
    """A held-out measure over the steps of all phases, each with its own steps.

    `phases` begin at dotted lines, `gate` is the value at which a phase is judged.
    """
    figure, axes = _axes()
    ranks = [rank for _, rank in _ranked([line for line, _ in curves])]
    for (line, steps), rank in zip(curves, ranks, strict=True):
        axes.plot(steps, _floats(line.values), label=line.name, marker="o", markersize=2.5, **_stroke(line.role, rank))
    shown = np.concatenate([_floats(line.values) for line, _ in curves])
    if gate is not None:
        axes.axhline(gate, color=SOFT, linewidth=0.8, linestyle=(0, (4, 2)), label=f"gate {gate:g}")
    if log and np.nanmin(shown) > 0:
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
    for phase, begins in phases.items():
        axes.axvline(begins, color=LINE, linewidth=0.9, linestyle=(0, (1, 1.5)), zorder=0)
        axes.annotate(
            phase, (begins, 1), xycoords=("data", "axes fraction"), xytext=(2, -7), textcoords="offset points",
            color=SOFT, fontsize=7,
        )  # fmt: skip
    axes.set(xlabel="optimiser step, all phases", ylabel=name)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _legend(figure, axes)
    return inline_svg(figure, f"held out: {name}")


@mpl.rc_context(STYLE)
def rho_figure(rollout: Rollout, edges: Sequence[str]) -> str:
    """Disagreement on each edge along one rollout: the mean over tokens, shaded up to the largest of any token."""
    figure, axes = _axes()
    steps = [r.step for r in rollout.replans]
    for e in range(len(rollout.replans[0].rho)):
        mean, top = ([getattr(r, kind)[e] for r in rollout.replans] for kind in ("rho", "rho_max"))
        name = edges[e] if e < len(edges) else f"edge {e + 1}"
        colour = STREAMS[(3 + e) % len(STREAMS)]  # an edge is no stream and should not look like one
        axes.plot(steps, mean, color=colour, label=name, marker="o", markersize=2.5)
        axes.fill_between(steps, mean, top, color=colour, alpha=0.12, linewidth=0)
    if rollout.stuck_at is not None:
        axes.axvline(rollout.stuck_at, color=SOFT, linestyle=(0, (2, 2)), linewidth=0.9, label="stuck")
    if rollout.success:
        axes.axvline(rollout.steps, color=GOOD, linewidth=1.2, label="success")
    axes.set(xlabel="step of the rollout", ylabel="disagreement ρ")
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return inline_svg(figure, "disagreement along a rollout")


@mpl.rc_context(STYLE)
def ages_figure(rollout: Rollout) -> str:
    """What memory looked at along one rollout: a column for each plan, a cell for each remembered step."""
    figure, axes = _axes()
    axes.grid(visible=False)
    known = [r for r in rollout.replans if r.ages]
    size = min((back for r in known for back in r.ages if back), default=1)
    top = max(share for r in known for share in r.ages.values())
    for replan in known:
        for back, share in replan.ages.items():
            corner = (replan.step - size / 2, replan.step - back - size / 2)
            axes.add_patch(Rectangle(corner, size, size, facecolor=ACCENT, linewidth=0, alpha=share / top))
    last = known[-1].step + size / 2
    axes.set(xlabel="step at which it plans", ylabel="step it looks at", xlim=(-size / 2, last), ylim=(-size / 2, last))
    return inline_svg(figure, f"attention over time, {rollout.task}")


@mpl.rc_context(STYLE)
def sensors_figure(rollouts: Sequence[tuple[str, Rollout]]) -> str:
    """How far apart a consistency monitor found the sensors of each policy's rollout, and where it alarms."""
    figure, axes = _axes()
    tops = []
    for number, (name, rollout) in enumerate(rollouts):
        threshold, scores = rollout.sensors[0].threshold, [look.score for look in rollout.sensors]
        steps = [look.step for look in rollout.sensors]
        axes.plot(steps, scores, color=ACCENT if number == 0 else SOFT, label=name, marker="o", markersize=2.5)
        tops += [min(score, 3 * threshold) for score in scores] + [threshold]
    axes.axhline(threshold, color=INK, linestyle=(0, (2, 2)), linewidth=0.9, label="alarm")
    axes.set(xlabel="step at which it plans", ylabel="clean spreads apart", ylim=(0, 1.1 * max(tops)))
    _legend(figure, axes)
    return inline_svg(figure, f"sensors over time, {rollouts[0][1].task}")


@mpl.rc_context(STYLE)
def routes_figure(rollout: Rollout, streams: Sequence[str]) -> str:
    """Router shares along one rollout, stacked to 1."""
    figure, axes = _axes()
    shares = np.array([r.routes for r in rollout.replans]).T
    names = [streams[s] if s < len(streams) else f"stream {s + 1}" for s in range(len(shares))]
    colours = [STREAMS[s % len(STREAMS)] for s in range(len(shares))]
    axes.stackplot([r.step for r in rollout.replans], shares, labels=names, colors=colours, alpha=0.75, linewidth=0)
    axes.set(xlabel="step of the rollout", ylabel="router share", ylim=(0, 1))
    axes.margins(x=0)
    _legend(figure, axes)
    return inline_svg(figure, "router shares along a rollout")


def patch_pictures(example: PatchExample) -> list[str]:
    """The picture, then the picture under each stream's weights, as PNG data URIs. DataError for broken pictures."""
    try:
        picture = np.asarray(Image.open(io.BytesIO(example.picture)).convert("RGB"))
    except OSError as error:
        got = f"{len(example.picture)} bytes that are no picture"
        raise DataError(f"picture of {example.view}", got=got, want="PNG or JPEG", hint="Use encode_png") from error
    routes = np.array(example.routes, dtype=float)
    painted = [paint_routes(picture, routes, s, STREAM_RGB[s % len(STREAM_RGB)]) for s in range(routes.shape[2])]
    return [data_uri(encode_png(image), "image/png") for image in (picture, *painted)]


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as a data: address that a page can hold inside itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _plain_ticks(axis: Axis) -> None:
    """0.01, 0.1, 1 instead of powers; in between only when there is hardly a whole decade."""
    low, high = axis.get_view_interval()
    between = (1.0, 2.0, 5.0) if high / low < 30 else (1.0,)
    axis.set_major_locator(LogLocator(subs=between))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        handles, labels = axes.get_legend_handles_labels()
        columns = len(labels) if len(labels) <= 4 else -(-len(labels) // 2)
        order = [i for c in range(columns) for i in range(c, len(labels), columns)]  # matplotlib fills columns first
        handles, labels = [handles[i] for i in order], [labels[i] for i in order]
        place: dict[str, Any] = {"loc": "outside upper left", "ncols": columns, "borderpad": 0}
        figure.legend(handles, labels, handlelength=1.6, columnspacing=1.2, labelcolor=INK, **place)
