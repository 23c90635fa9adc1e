"""Tables that never lie: nothing is cut, numbers stay whole, and `--json` has them in full.

A table wider than the terminal folds: texts wrap, then columns go on below, the first one repeated. In a pipe or a file
it is as wide as it needs to be.
"""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from svms_gr00t.cli.console import console
from svms_gr00t.core.escape import json_text

if TYPE_CHECKING:
    from svms_gr00t.evaluate.statistics.stats import Interval

NARROWEST = 20
"""Characters that a column of text keeps before columns go on below."""
_BORDER = 3
"""Characters between two columns."""
_asked: list[dict[str, Any]] | None = None
"""The tables so far, while JSON is asked for."""
_shown: "list[Sheet]" = []
"""Every table of this command so far."""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What a command that prints tables begins with."""

    json: bool = False
    """Print the tables as JSON, numbers in full; everything else goes to standard error."""


@dataclass(frozen=True)
class Cell:
    """A value, how it is shown, and in which colour."""

    value: Any
    text: str
    style: str = ""


class Sheet:
    """One table. Cells are texts, numbers (shown short), None (shown empty) and `Cell`s."""

    def __init__(self, *heads: str, title: str = "") -> None:
        self.heads, self.title = heads, title
        self.rows: list[list[Cell]] = []

    def add_row(self, *values: Any) -> None:
        """One value for each column; missing ones at the end are empty."""
        cells = [value if isinstance(value, Cell) else Cell(value, short(value)) for value in values]
        self.rows.append(cells + [Cell(None, "")] * (len(self.heads) - len(cells)))

    def show(self) -> None:
        """Print it, or keep it for the JSON."""
        _shown.append(self)
        if _asked is not None:
            _asked.append(self.to_dict())
            return
        limit = console.width if console.is_terminal else sys.maxsize
        for number, columns in enumerate(self._folds(limit)):
            console.print(self._table(columns, limit, self.title if number == 0 else ""), crop=False)

    def to_dict(self) -> dict[str, Any]:
        """{"title", "rows": [{head: value}]}; numbers in full, null for what is not there and not finite."""
        names = [head or f"column {i + 1}" for i, head in enumerate(self.heads)]
        rows = [{name: _plain(cell.value) for name, cell in zip(names, row, strict=True)} for row in self.rows]
        return {"title": self.title, "rows": rows}

    def _widths(self) -> list[tuple[int, int]]:
        """(least, natural) width of each column: numbers are not broken, texts wrap."""
        found = []
        for i, head in enumerate(self.heads):
            cells = [row[i] for row in self.rows if row[i].text]
            natural = max([cell_len(head), *(cell_len(cell.text) for cell in cells)])
            words = max((cell_len(word) for word in head.split()), default=0)
            texts = all(isinstance(cell.value, str) for cell in cells)
            least = min(natural, NARROWEST) if texts else max([words, *(cell_len(cell.text) for cell in cells)])
            found.append((least, natural))
        return found

    def _folds(self, limit: int) -> Iterator[list[int]]:
        """Columns that stand side by side, the first one in each fold."""
        least = [width for width, _ in self._widths()]
        fold = [0]
        for i in range(1, len(self.heads)):
            room = sum(least[k] + _BORDER for k in [*fold, i]) + 1
            if room > limit and len(fold) > 1:
                yield fold
                fold = [0]
            fold.append(i)
        yield fold

    def _table(self, columns: list[int], limit: int, title: str) -> Table:
        widths = self._widths()
        natural = sum(widths[i][1] + _BORDER for i in columns) + 1
        table = Table(title=Text(title) if title else None, width=natural if natural <= limit else None)
        for i in columns:
            cells = [row[i].value for row in self.rows if row[i].text]
            side: Any = "right" if cells and all(type(value) in (int, float) for value in cells) else "left"
            table.add_column(Text(self.heads[i]), overflow="fold", min_width=widths[i][0], justify=side)
        for row in self.rows:
            table.add_row(*(Text(row[i].text, style=row[i].style) for i in columns))
        return table


def shown() -> list[Sheet]:
    """The tables that the running command showed so far."""
    return list(_shown)


def short(value: Any) -> str:
    """A value as a table shows it: four digits of a number, thousands apart, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def num(value: float | None, spec: str = ".4f", unit: str = "") -> Cell:
    """A number in one form: 0.1234, 53 %; empty for None."""
    return Cell(value, "" if value is None else f"{value:{spec}}{unit}")


def span(low: float | None, high: float | None, spec: str = ".4f") -> Cell:
    """An interval; empty for None."""
    if low is None or high is None:
        return Cell(None, "")
    return Cell([low, high], f"{low:{spec}} to {high:{spec}}")


def effect(interval: "Interval | None", unit: str = "") -> tuple[Cell, Cell]:
    """An effect and its interval; empty without one."""
    from svms_gr00t.evaluate.statistics.stats import effect_text

    said, ends = effect_text(interval, unit)
    if interval is None:
        return Cell(None, said), Cell(None, ends)
    return Cell(interval.estimate, said), Cell([interval.low, interval.high], ends)


def chance(p: float | None) -> Cell:
    """A p-value; empty for None."""
    from svms_gr00t.evaluate.statistics.stats import p_value

    return Cell(p, "" if p is None else p_value(p))


def verdict(passed: bool | None) -> Cell:
    """pass, FAIL or not measured."""
    text, style = {True: ("pass", "green"), False: ("FAIL", "red"), None: ("not measured", "")}[passed]
    return Cell(passed, text, style)


@contextmanager
def as_json(asked: bool) -> Iterator[None]:
    """While it is `asked`, tables are kept and written as one JSON object in the end; texts go to standard error."""
    global _asked
    _shown.clear()
    if not asked:
        yield
        return
    out, _asked = console.file, []
    console.file = sys.stderr
    try:
        yield
        if not console.quiet:
            print(json_text({"tables": _asked}), file=out)
    finally:
        console.file, _asked = None, None  # type: ignore[assignment]  # whatever sys.stdout is, as before


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, bool) or value is None or isinstance(value, (int, str)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
