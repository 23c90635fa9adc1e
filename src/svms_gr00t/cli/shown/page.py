"""`--html`: what a command found as one page, the printed tables among it."""

import shlex
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svms_gr00t.cli.console import console
from svms_gr00t.cli.shown.sheet import Tables, shown

if TYPE_CHECKING:
    from svms_gr00t.evaluate.report.data import ReportData


POSITIONAL = ("runs",)
"""Fields that stand on the command line without a flag."""


@dataclass(frozen=True, kw_only=True)
class Paged(Tables):
    """What a command begins with whose tables can be a page."""

    html: Path | None = None
    """Write figures and tables as one HTML page here; it needs no server and no network."""

    def write_page(self, command: str, make: "Callable[[], ReportData]") -> None:
        """The page that `make` says, where one is wanted, with every table printed so far."""
        if self.html is None:
            return
        from svms_gr00t.core.provenance import commit, versions
        from svms_gr00t.evaluate.report.data import Fact, Table
        from svms_gr00t.evaluate.report.html import save_page

        facts = {
            "command": self._line(command),
            "commit": commit() or "not a git checkout",
            "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        }
        tables = [
            Table(title=s.title, head=s.heads, rows=tuple(tuple(cell.text for cell in row) for row in s.rows))
            for s in shown()
        ]
        passport = tuple(Fact(name=name, value=value) for name, value in facts.items())
        page = replace(make(), tables=tuple(tables), passport=passport)
        console.print(f"written to {save_page(page, self.html)}", soft_wrap=True)

    def _line(self, command: str) -> str:
        """The command line with every setting that is not the usual one."""
        words, flags = ["svms-gr00t", *command.split()], list[str]()
        for field in fields(self):
            value = getattr(self, field.name)
            usual = field.default if field.default_factory is MISSING else field.default_factory()
            if field.name in POSITIONAL:
                words += map(str, value)
            elif value != usual:
                flags += _words(field.name, value)
        return shlex.join(words + flags)


def _words(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    values = [str(one) for one in value] if isinstance(value, (tuple, list)) else [str(value)]
    return [flag, *values]
