"""`svms-gr00t card`: a Hugging Face model card from a run's own data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from svms_gr00t.cli.console import console


@dataclass(frozen=True, kw_only=True)
class Card:
    """Write README.md for the Hub: what the model is, how to use it, its results, training and limits.

    Results come from report.json, or from open_loop.json and closed_loop.json in the run folder; what was not measured
    is not claimed. Nothing is uploaded.
    """

    run_dir: Annotated[Path, tyro.conf.Positional]
    """A run, demo or checkpoint folder."""
    output: Path | None = None
    """Where to write; by default README.md in the policy's folder."""

    def run(self) -> int:
        """Write and say where."""
        from svms_gr00t.core.files.records import write_text
        from svms_gr00t.evaluate.report.card import CardSource, policy_of, render_card

        text = render_card(CardSource.of(self.run_dir))
        path = write_text(self.output or policy_of(self.run_dir) / "README.md", text)
        console.print(f"written to {path}", soft_wrap=True)
        return 0
