"""`svms-gr00t compare`: is B better than A, by how much, and would more episodes tell?"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svms_gr00t.cli.console import console
from svms_gr00t.cli.shown.page import Paged
from svms_gr00t.cli.shown.sheet import Sheet, chance, effect, num

if TYPE_CHECKING:
    from svms_gr00t.evaluate.comparison.compare import CompareReport, MetricComparison
    from svms_gr00t.evaluate.comparison.contenders import Contender
    from svms_gr00t.evaluate.report.data import ReportData


@dataclass(frozen=True, kw_only=True)
class Compare(Paged):
    """Compare runs with the first one, paired by training seed and episode.

    A run is a folder with open_loop.json or closed_loop.json, a folder of seed_* folders, a policy of a demo
    (runs/demo/plain), or a result file. Runs of different data, steps or budget are refused.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The reference, then one or more candidates."""
    force: bool = False
    """Compare runs that differ in data, steps or budget; the report says in what."""
    width: float = 0.10
    """Wanted width of the interval, as a share of the reference's error (of 1 for success)."""
    output: Path | None = None
    """Write the report here: .md as Markdown, anything else as JSON."""

    def run(self) -> int:
        """Print one table for each candidate."""
        from svms_gr00t.core.files.records import write_text
        from svms_gr00t.evaluate.comparison.compare import compare, mcnemar_lines, render_markdown
        from svms_gr00t.evaluate.comparison.contenders import Contender

        contenders = [Contender.load(path) for path in self.runs]
        report = compare(contenders, force=self.force, width=self.width)
        for pair in report.pairs:
            for line in pair.differences:
                console.print(f"not equal: {line}", style="yellow")
            for line in pair.unknown:
                console.print(f"unknown: {line}")
            head = ("metric", report.reference, pair.candidate, "effect", "95 %", "p", "needed", "verdict")
            table = Sheet(*head, title=f"{pair.candidate} against {report.reference}")
            for metric in pair.metrics:
                table.add_row(*_cells(metric))
            table.show()
            console.print(
                f"needed: episodes for an interval of {report.width:.0%} of the reference (of 1 for success); "
                f"--output has the differences and permutation tests",
                markup=False,
                highlight=False,
            )
            for line in mcnemar_lines(report.reference, pair):
                console.print(line)
        if self.output is not None:
            text = render_markdown(report) if self.output.suffix == ".md" else report.to_json() + "\n"
            console.print(f"written to {write_text(self.output, text)}", soft_wrap=True)
        self.write_page("compare", lambda: self._page(report, contenders))
        return 0

    def _page(self, report: "CompareReport", contenders: "list[Contender]") -> "ReportData":
        from svms_gr00t.evaluate.report.pages import compare_page
        from svms_gr00t.recipes.training.evidence import curves_of_run

        sides = zip(contenders, self.runs, strict=True)
        found = [curves_of_run(side.name, run) for side, run in sides if len(side.runs) == 1]
        return compare_page(report, contenders, [curves for curves in found if curves.steps])


def _cells(m: "MetricComparison") -> tuple[Any, ...]:
    """Points for shares, percent of the reference for errors."""
    from svms_gr00t.evaluate.statistics.stats import points

    success = m.metric == "success"
    found = effect(points(m.found.difference)) if success else effect(m.found.relative, " %")
    sides = (num(m.found.reference), num(m.found.candidate))
    return (m.metric, *sides, *found, chance(m.found.p), m.episodes_needed, m.verdict)
