"""`svms-gr00t labels`: the Visual, Temporal and State labels of an instruction, word by word."""

from collections.abc import Iterable, Sequence
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
        console.print(word_table(self.text))
        return 0


def label_table(title: str, column: str, rows: Iterable[tuple[str, Sequence[float]]]) -> Table:
    """One row a word or token, a coloured mark for each label."""
    table = Table(column, *COLOURS, title=title)
    for text, values in rows:
        marks = [f"[{c}]yes[/]" if v else "" for c, v in zip(COLOURS.values(), values, strict=True)]
        colours = [c for c, v in zip(COLOURS.values(), values, strict=True) if v]
        table.add_row(f"[{colours[0]}]{text}[/]" if colours else text, *marks)
    return table


def word_table(text: str) -> Table:
    """The words of an instruction with their labels."""
    from svms_gr00t.data.labels.labeler import Labeler
    from svms_gr00t.data.processor.prompt import formalize_language

    formalised = formalize_language(text)
    return label_table(formalised, "word", [(formalised[a:b], values) for a, b, values in Labeler()(formalised)])
