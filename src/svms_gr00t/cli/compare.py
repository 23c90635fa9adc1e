"""`svms-gr00t compare`: is B better than A, by how much, and would more episodes tell?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from svms_gr00t.cli.console import console


@dataclass(frozen=True, kw_only=True)
class Compare:
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
        from svms_gr00t.evaluate.compare import compare, render_markdown, row
        from svms_gr00t.evaluate.contenders import Contender
        from svms_gr00t.evaluate.records import write_text

        report = compare([Contender.load(path) for path in self.runs], force=self.force, width=self.width)
        for pair in report.pairs:
            for line in pair.differences:
                console.print(f"not equal: {line}", style="yellow", markup=False, highlight=False)
            for line in pair.unknown:
                console.print(f"unknown: {line}", markup=False, highlight=False)
            head = ("metric", report.reference, pair.candidate, "difference (95 %)", "effect", "p", "p perm.")
            table = Table(*head, "needed", "verdict", title=f"{pair.candidate} against {report.reference}")
            for metric in pair.metrics:
                table.add_row(*row(metric))
            console.print(table)
            for test in (m.test for m in pair.metrics if m.test is not None):
                console.print(
                    f"McNemar: only {report.reference} won {test.only_reference}, only {pair.candidate} "
                    f"{test.only_candidate}, p = {test.p:.3f}",
                    markup=False,
                )
        if self.output is not None:
            text = render_markdown(report) if self.output.suffix == ".md" else report.to_json() + "\n"
            console.print(f"written to {write_text(self.output, text)}", highlight=False, soft_wrap=True)
        return 0
