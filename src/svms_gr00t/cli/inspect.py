"""`svms-gr00t inspect`: the data flow with types, shapes, parameters, and what each phase trains."""

from dataclasses import dataclass
from typing import Literal

from svms_gr00t.cli.console import console
from svms_gr00t.cli.line.spelling import PresetName
from svms_gr00t.cli.shown.sheet import Sheet, num


@dataclass(frozen=True, kw_only=True)
class InspectModel:
    """Print the data flow: stage, input and output, shapes, parameters, trainable share of each phase."""

    preset: PresetName = "tiny"
    """tiny or n1d6 (the released size; nothing is loaded)."""
    use_sheaf_streams: bool = True
    """Off shows plain GR00T N1.6."""
    views: int = 2
    """Camera views in the example shapes."""
    format: Literal["table", "json"] = "table"
    """How to print."""
    json: bool = False
    """The same as --format json."""

    def run(self) -> int:
        """Print the table."""
        from svms_gr00t.recipes.dataflow import describe

        flow = describe(self.preset, use_sheaf_streams=self.use_sheaf_streams, views=self.views)
        if self.json or self.format == "json":
            console.print_json(data=[stage.__dict__ for stage in flow])
            return 0
        phases = list(flow[0].trainable)
        table = Sheet("stage", "input", "output", "shape", "parameters", *phases, title=f"svms-gr00t {self.preset}")
        for stage in flow:
            shares = [num(stage.trainable[p] if stage.parameters else None, ".0%") for p in phases]
            count = stage.parameters or None
            table.add_row(stage.name, stage.input, stage.output, stage.shape, count, *shares)
        table.show()
        return 0
