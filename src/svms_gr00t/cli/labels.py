"""`svms-gr00t labels`: the Visual, Temporal and State labels of an instruction, word by word."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from svms_gr00t.cli.shown.sheet import Cell, Sheet, Tables

COLOURS = ("green", "yellow", "magenta", "cyan", "blue", "red")


@dataclass(frozen=True, kw_only=True)
class Labels(Tables):
    """Show which stream each word of an instruction belongs to, as the auxiliary losses see it."""

    text: Annotated[str, tyro.conf.Positional]
    """An instruction, such as "turn on the stove"."""
    lexicon: Path | None = None
    """TOML of your own word labels (docs/labels.md); by default English kitchen words."""

    def run(self) -> int:
        """Print a coloured table."""
        word_table(self.text, self.lexicon).show()
        return 0


def label_table(title: str, column: str, streams: Sequence[str], rows: Iterable[tuple[str, Sequence[float]]]) -> Sheet:
    """One row a word or token, a coloured mark for each label."""
    shades = [COLOURS[i % len(COLOURS)] for i in range(len(streams))]
    table = Sheet(column, *streams, title=title)
    for text, values in rows:
        marks = [Cell(bool(v), "yes" if v else "", c) for c, v in zip(shades, values, strict=True)]
        table.add_row(Cell(text, text, next((mark.style for mark in marks if mark.value), "")), *marks)
    return table


def word_table(text: str, lexicon: Path | None = None) -> Sheet:
    """The words of an instruction with their labels."""
    from svms_gr00t.data.labels.own import load_labeler
    from svms_gr00t.data.labels.tokens import streams_of
    from svms_gr00t.data.processor.prompt import formalize_language

    labeler, formalised = load_labeler(lexicon), formalize_language(text)
    rows = [(formalised[a:b], values) for a, b, values in labeler(formalised)]
    return label_table(formalised, "word", streams_of(labeler), rows)
