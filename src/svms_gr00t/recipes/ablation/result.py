"""The ablation's one table and one figure, from the results of its runs.

Every row is compared with plain N1.6 and with the full SVMS, paired by seed and episode; the interval is that of a new
seed (`evaluate/seeds.py`). What was not run is absent, never guessed.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from svms_gr00t.core.escape import code, markdown, plain
from svms_gr00t.core.files.records import JsonRecord, write_text
from svms_gr00t.evaluate.comparison.contenders import Contender
from svms_gr00t.evaluate.statistics.seeds import SeedComparison, compare_seeds
from svms_gr00t.evaluate.statistics.stats import Interval, effect_text, p_value, points
from svms_gr00t.evaluate.streams.report import StreamReport
from svms_gr00t.recipes.ablation.run import AblationConfig
from svms_gr00t.recipes.ablation.variants import ALL

FULL = "full"


@dataclass(frozen=True, kw_only=True)
class AblationRow(JsonRecord):
    """One variant."""

    variant: str
    says: str
    seeds: tuple[int, ...]
    """Training seeds that are done."""
    added: int | None
    """Parameters that it adds to plain N1.6."""
    error: float
    """Normalised open-loop error (MSE over the whole chunk), mean over seeds of means over episodes."""
    executed: float
    """The same over the steps that a robot would execute."""
    against_plain: SeedComparison | None
    against_full: SeedComparison | None
    success: float | None
    """Closed-loop success rate; None: not driven."""
    success_against_plain: SeedComparison | None
    accuracy: float | None
    """Balanced accuracy of the token labels, mean over streams and seeds; None without labels of its own."""
    rho: float | None
    """Disagreement of the streams before the correction, mean over edges and seeds."""
    rank: float | None
    """Effective rank of the overlaps, mean over ends of edges and seeds; low rho counts only while it stays up."""


@dataclass(frozen=True, kw_only=True)
class AblationResult(JsonRecord):
    """The whole table."""

    config: AblationConfig
    rows: tuple[AblationRow, ...]

    def row(self, variant: str) -> AblationRow:
        """The row of a variant. KeyError when it was not run."""
        return {row.variant: row for row in self.rows}[variant]

    def write(self, folder: Path) -> None:
        """ablation.json, ablation.md and ablation.svg."""
        self.save(folder / "ablation.json")
        write_text(folder / "ablation.svg", draw(self))
        write_text(folder / "ablation.md", table(self))


def summarise(config: AblationConfig, output: Path, variants: Sequence[str], seeds: Sequence[int]) -> AblationResult:
    """The table of finished runs. Raises DataError when a variant has none."""
    found = {name: Contender.load(output / name) for name in ALL if name in variants}
    chosen = {name: {s: c.runs[s] for s in seeds if s in c.runs} for name, c in found.items()}
    contenders = {name: Contender(name=name, runs=runs) for name, runs in chosen.items()}
    return AblationResult(config=config, rows=tuple(_row(name, contenders, output) for name in contenders))


def _row(name: str, contenders: Mapping[str, Contender], output: Path) -> AblationRow:
    own = contenders[name]
    errors, executed = own.errors("mse"), own.errors("executed_mse")
    streams = [StreamReport.load(f) for s in own.runs if (f := output / name / f"seed_{s}" / "streams.json").is_file()]
    labelled = streams if ALL[name].changes.get("use_aux_losses", True) else []
    wins = own.successes() if all(run.closed_loop for run in own.runs.values()) else None
    facts = next(iter(own.runs.values())).facts
    bare = ALL[name].kind == "plain" and not ALL[name].changes  # a reference itself, in whatever order it trains
    plain = None if bare else contenders.get(ALL[name].reference)
    full = contenders.get(FULL) if name != FULL else None
    return AblationRow(
        variant=name,
        says=ALL[name].says,
        seeds=tuple(sorted(own.runs)),
        added=None if facts is None else facts.added,
        error=_mean_of_means(errors),
        executed=_mean_of_means(executed),
        against_plain=None if plain is None else compare_seeds(plain.errors("mse"), errors),
        against_full=None if full is None else compare_seeds(full.errors("mse"), errors),
        success=None if wins is None else _mean_of_means(wins),
        success_against_plain=None
        if plain is None or wins is None
        else compare_seeds(plain.successes(), wins, outcomes=True),
        accuracy=_mean([s.balanced_accuracy for r in labelled for s in r.scores.values()]),
        rho=_mean([edge.mean for r in streams for edge in r.rho.values()]),
        rank=_mean([end for r in streams for ends in (r.effective_rank or {}).values() for end in ends]),
    )


def _mean_of_means(by_seed: Mapping[int, Mapping[int, float]]) -> float:
    return float(np.mean([np.mean(list(errors.values())) for errors in by_seed.values()]))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def table(result: AblationResult) -> str:
    """GitHub-flavoured Markdown."""
    driven = any(row.success is not None for row in result.rows)
    head = ["variant", "adds", "error", "against plain (95 %)", "p", "against full SVMS (95 %)"]
    head += ["success", "points over plain (95 %)"] * driven + ["labels", "ρ", "rank"]
    lines = [head, ["---"] * len(head)]
    for row in result.rows:
        cells = [markdown(row.says), _count(row.added), f"{row.error:.4f}", _percent(row.against_plain)]
        cells += [p_value(row.against_plain.p) if row.against_plain else "", _percent(row.against_full)]
        if driven:
            cells += ["" if row.success is None else f"{100 * row.success:.0f} %", _points(row.success_against_plain)]
        cells += ["" if v is None else f"{v:.{d}f}" for v, d in ((row.accuracy, 2), (row.rho, 2), (row.rank, 1))]
        lines.append(cells)
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    c = result.config
    unit = "a new seed" if max(len(row.seeds) for row in result.rows) > 1 else "new episodes with this one seed"
    seeds = sorted({seed for row in result.rows for seed in row.seeds})
    about = (
        f"Steps {' + '.join(map(str, c.steps))} at batch {c.batch_size}, rates {', '.join(map(str, c.learning_rates))} "
        f"(times {c.svms_rate:g} for SVMS and adapter), seeds {', '.join(map(str, seeds))}, data "
        f"{code(c.dataset_path)}, base {code(c.base)}. Error: normalised, held-out episodes, whole chunk; less is "
        f"better. Paired by seed and episode; intervals and p are those of {unit}. Labels: balanced accuracy of the "
        "streams' own heads (0.5 is chance); ρ: disagreement before the correction, to be read beside the rank of the "
        "overlaps."
    )
    return f"# Ablation\n\n{about}\n\n{text}\n\n![Effect of each variant](ablation.svg)\n"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _percent(found: SeedComparison | None) -> str:
    return "" if found is None else _span(found.relative, " %")


def _points(found: SeedComparison | None) -> str:
    return "" if found is None else _span(points(found.difference), "")


def _span(interval: Interval | None, unit: str) -> str:
    return "{} ({})".format(*effect_text(interval, unit)).replace("-", "−") if interval else ""


def draw(result: AblationResult) -> str:
    """Effect against plain with its interval, one row a variant, as SVG text."""
    rows = [row for row in result.rows if row.against_plain is not None and row.against_plain.relative is not None]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ablation", "font.size": 9, "text.parse_math": False}):
        figure = Figure(figsize=(6.2, 0.8 + 0.34 * max(1, len(rows))), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color="#888888", linewidth=0.8)
        for at, row in enumerate(rows):
            effect = row.against_plain.relative  # type: ignore[union-attr]
            assert effect is not None
            colour = "#2f6fd0" if row.variant == FULL else "#555555"
            axes.plot([effect.low, effect.high], [at, at], color=colour, linewidth=1.6, solid_capstyle="round")
            axes.plot([effect.estimate], [at], "o", color=colour, markersize=5)
        axes.set_yticks(range(len(rows)), [plain(row.says) for row in rows])
        axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        several = any(len(row.seeds) > 1 for row in rows)
        unit = "a new seed" if several else "one seed's episodes"
        axes.set_xlabel(f"open-loop error against plain N1.6, % (95 % for {unit}); left is better")
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()
