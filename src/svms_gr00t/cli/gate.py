"""`svms-gr00t gate RUN`: what each finished phase had to reach, what it did, and what to try when it fell short."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from svms_gr00t.cli.shown.sheet import Sheet, Tables, verdict


@dataclass(frozen=True, kw_only=True)
class Gate(Tables):
    """Print the gates of a run: criterion, measured value, pass or fail, and what to try. Exit code 1 on a failure."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Folder of a training run."""
    reference: Path | None = None
    """Run of the plain model, trained on the same batches: phase 3 is judged against it."""

    def run(self) -> int:
        """Print one row for each criterion."""
        from svms_gr00t.recipes.training.gates import run_gates

        found = run_gates(self.run_dir, self.reference)
        table = Sheet("phase", "criterion", "measured", "passed", "what to try")
        for gate in found:
            advice = "" if gate.passed else gate.advice
            table.add_row(gate.phase, gate.criterion, gate.measured, verdict(gate.passed), advice)
        table.show()
        return int(any(gate.passed is False for gate in found))
