"""`svms-gr00t data doctor`: what is wrong with a dataset, and what to do about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from svms_gr00t.cli.console import Bars, console
from svms_gr00t.core.escape import json_text
from svms_gr00t.data.doctor.finding import SEVERITIES

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Examine a dataset without changing it; exit code 1 when training on it would fail or learn something false."""

    dataset_path: Annotated[Path, tyro.conf.Positional]
    """Folder that holds meta/info.json."""
    json: bool = False
    """Print the findings as JSON instead of text."""
    episodes: int = 200
    """Episodes to look into, spread evenly; 0 reads them all."""
    lexicon: Path | None = None
    """TOML of your own word labels, as for svms-gr00t train; by default English kitchen words."""

    def run(self) -> int:
        """Print the findings."""
        from svms_gr00t.data.doctor.examine import examine
        from svms_gr00t.data.labels.own import load_labeler

        labeler = load_labeler(self.lexicon) if self.lexicon else None
        bars = None if self.json else Bars()
        report = examine(self.dataset_path, episodes=self.episodes, labeler=labeler, progress=bars)
        if self.json:
            print(json_text(report.to_dict()))
            return 0 if report.healthy else 1
        for finding in report.findings:
            console.print(finding.severity, style=_COLOURS[finding.severity], end="")
            episodes = _listed(finding.episodes)
            console.print(f" {finding.check}: {finding.where}{episodes}: {finding.found}", soft_wrap=True)
            console.print(f"    -> {finding.todo}", style="dim", soft_wrap=True)
        numbers = [(report.count(name), name) for name in SEVERITIES]
        counts = ", ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in numbers)
        looked = f"looked into {report.examined} of {report.episodes} episodes"
        console.print(f"{report.root}: {counts}; {looked}", soft_wrap=True)
        return 0 if report.healthy else 1


def _listed(episodes: tuple[int, ...]) -> str:
    if not episodes:
        return ""
    more = f" and {len(episodes) - _NAMED} more" if len(episodes) > _NAMED else ""
    return f" (episode{'s' * (len(episodes) > 1)} {', '.join(map(str, episodes[:_NAMED]))}{more})"
