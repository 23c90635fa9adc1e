"""What the doctor says: one finding says where, what was found and what to do; a report holds them all.

An error makes training fail or learn something false; a warning costs quality or speed; a note is good to know.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from svms_gr00t.core.errors import SvmsError

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a dataset's owner should know."""

    severity: Severity
    """error, warning or note."""
    check: str
    """Name of the check that found it."""
    where: str
    """Key, column, file or episode."""
    found: str
    """What is there, with its number."""
    todo: str
    """What to do about it."""
    episodes: tuple[int, ...] = ()
    """Episodes that show it; empty when it concerns the whole dataset."""

    def __post_init__(self) -> None:
        assert self.todo.strip(), "every finding says what to do"


@dataclass(frozen=True, kw_only=True)
class Report:
    """All findings, worst first."""

    root: str
    """The dataset."""
    episodes: int
    """Episodes that the metadata lists."""
    examined: int
    """Episodes whose rows and videos were read."""
    findings: tuple[Finding, ...]
    """Errors, then warnings, then notes."""

    @property
    def healthy(self) -> bool:
        """No errors."""
        return not self.count("error")

    def count(self, severity: Severity) -> int:
        """Findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def of(self, check: str) -> tuple[Finding, ...]:
        """Findings of one check."""
        return tuple(finding for finding in self.findings if finding.check == check)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"healthy": self.healthy, **asdict(self)}


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first; the order within a severity is kept."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def from_error(check: str, error: SvmsError, episodes: tuple[int, ...] = ()) -> Finding:
    """An error of the reader as a finding: its last sentence is what to do."""
    found, _, todo = str(error).rpartition(". ")
    where, _, found = (found or str(error)).partition(": found ")
    return Finding(severity="error", check=check, where=where, found=found, todo=todo or str(error), episodes=episodes)
