"""`svms-gr00t labels`: the Visual, Temporal and State labels of an instruction, word by word."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.table import Table

from svms_gr00t.cli.console import console

COLOURS = {"visual": "green", "temporal": "yellow", "state": "magenta"}


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Show which stream each word of an instruction belongs to, as the auxiliary losses see it."""

    text: Annotated[str, tyro.conf.Positional]
    """An instruction, such as "turn on the stove"."""

    def run(self) -> int:
        """Print a coloured table."""
        from svms_gr00t.data.labels import Labeler
        from svms_gr00t.data.prompt import formalize_language

        formalised = formalize_language(self.text)
        table = Table("word", *COLOURS, title=formalised)
        for start, end, values in Labeler()(formalised):
            marks = [f"[{c}]yes[/]" if v else "" for c, v in zip(COLOURS.values(), values, strict=True)]
            table.add_row(formalised[start:end], *marks)
        console.print(table)
        return 0
