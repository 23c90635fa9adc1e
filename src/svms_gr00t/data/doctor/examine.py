"""One visit: open, read, run every check, report. Nothing is written.

Checks are functions of what was read, so that a new one is a function and a line in the table below.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.progress import Progress
from svms_gr00t.data.doctor.actions import check_coding, check_echo, check_order
from svms_gr00t.data.doctor.bookkeeping import (
    check_language,
    check_smooth,
    check_tasks,
    check_times,
    check_totals,
)
from svms_gr00t.data.doctor.finding import Finding, Report, from_error, sort_findings
from svms_gr00t.data.doctor.media import check_videos
from svms_gr00t.data.doctor.modality import check_modality, check_widths
from svms_gr00t.data.doctor.numbers import (
    check_finite,
    check_idle,
    check_quaternions,
    check_reaction,
    check_stored_statistics,
)
from svms_gr00t.data.doctor.percentiles import check_percentiles
from svms_gr00t.data.doctor.subject import Subject, open_dataset, read_subject
from svms_gr00t.data.doctor.trial import try_training
from svms_gr00t.data.doctor.units import check_jumps, check_units
from svms_gr00t.data.doctor.watching import check_cameras
from svms_gr00t.data.labels.tokens import Labeler
from svms_gr00t.data.lerobot.dataset import spread

CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    check_modality,
    check_widths,
    check_totals,
    check_finite,
    check_order,
    check_coding,
    check_quaternions,
    check_units,
    check_jumps,
    check_idle,
    check_reaction,
    check_echo,
    check_stored_statistics,
    check_percentiles,
    check_times,
    check_smooth,
    check_tasks,
    check_language,
    check_cameras,
)


def examine(
    root: Path | str, *, episodes: int = 200, labeler: Labeler | None = None, progress: Progress | None = None
) -> Report:
    """Examine the dataset at `root`, reading at most `episodes` of its episodes (0: all). Never raises DataError.

    `labeler` is who will label its instructions, by default the package's own English one.
    """
    root = Path(root)
    try:
        dataset, findings = open_dataset(root)
    except DataError as error:
        return Report(root=str(root), episodes=0, examined=0, findings=(from_error("metadata", error),))
    chosen = spread([episode.index for episode in dataset.episodes if episode.length], episodes)
    subject, unreadable = read_subject(dataset, chosen, progress)
    subject = subject if labeler is None else replace(subject, labeler=labeler)
    findings += unreadable
    findings += check_videos(subject, progress)
    for check in CHECKS:
        findings += check(subject)
    if not any(finding.severity == "error" for finding in findings):
        findings += try_training(subject)
    return Report(
        root=str(root), episodes=len(dataset.episodes), examined=len(chosen), findings=sort_findings(findings)
    )
