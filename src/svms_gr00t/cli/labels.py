"""`svms-gr00t labels`: the Visual, Temporal and State labels of an instruction, word by word."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from svms_gr00t.cli.console import console

COLOURS = ("green", "yellow", "magenta", "cyan", "blue", "red")


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Show which stream each word of an instruction belongs to, as the auxiliary losses see it."""

    text: Annotated[str, tyro.conf.Positional]
    """An instruction, such as "turn on the stove"."""
    lexicon: Path | None = None
    """TOML of your own word labels (docs/labels.md); by default English kitchen words."""

    def run(self) -> int:
        """Print a coloured table."""
        console.print(word_table(self.text, self.lexicon))
        return 0


def label_table(title: str, column: str, streams: Sequence[str], rows: Iterable[tuple[str, Sequence[float]]]) -> Table:
    """One row a word or token, a coloured mark for each label."""
    shades = [COLOURS[i % len(COLOURS)] for i in range(len(streams))]
    table = Table(column, *streams, title=title)
    for text, values in rows:
        marks = [f"[{c}]yes[/]" if v else "" for c, v in zip(shades, values, strict=True)]
        colours = [c for c, v in zip(shades, values, strict=True) if v]
        table.add_row(f"[{colours[0]}]{text}[/]" if colours else text, *marks)
    return table


def word_table(text: str, lexicon: Path | None = None) -> Table:
    """The words of an instruction with their labels."""
    from svms_gr00t.data.labels.own import load_labeler
    from svms_gr00t.data.labels.tokens import streams_of
    from svms_gr00t.data.processor.prompt import formalize_language

    labeler, formalised = load_labeler(lexicon), formalize_language(text)
    rows = [(formalised[a:b], values) for a, b, values in labeler(formalised)]
    return label_table(formalised, "word", streams_of(labeler), rows)
