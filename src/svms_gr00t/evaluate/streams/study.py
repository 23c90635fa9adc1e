"""What each stream is good for, and whether the monitor notices what it should, on held-out episodes.

Axes: N looks, S streams, E edges.

    by task, by time     route shares and ρ of each edge
    knock-out            `knockout.py`
    detectors            `detectors.py`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from svms_gr00t.consistency.monitor import Consistency
from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.core.progress import Progress
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig
from svms_gr00t.evaluate.streams.detectors import Detection, detect
from svms_gr00t.evaluate.streams.knockout import KnockOut, knock_out, streams_of
from svms_gr00t.evaluate.streams.looks import Look, look_at_episodes
from svms_gr00t.evaluate.streams.report import StreamReport
from svms_gr00t.evaluate.streams.shifts import shifts
from svms_gr00t.monitor import Monitor, Unit, calibrate
from svms_gr00t.policy import Policy

BINS = 5
"""Parts of an episode in "by time"."""


@dataclass(frozen=True, kw_only=True)
class Slice(JsonRecord):
    """Looks that belong together: one task, or one part of the episodes."""

    looks: int
    routes: tuple[float, ...]
    """Mean router weight of each stream; they sum to 1."""
    rho: tuple[float, ...]
    """Mean disagreement on each edge."""


@dataclass(frozen=True, kw_only=True)
class StreamStudy(JsonRecord):
    """Everything that `svms-gr00t evaluate streams` says."""

    report: StreamReport
    by_task: dict[str, Slice]
    by_time: tuple[Slice, ...]
    """From the first to the last part of the episodes."""
    whole: float
    """Open-loop error of the policy as it is."""
    knockout: dict[str, KnockOut]
    """By stream; "all" for SVMS as a whole."""
    detectors: dict[str, dict[str, Detection]]
    """Shift -> detector -> how well it is seen; "clean" shows the false alarms."""
    alpha: float
    """Promised false alarms of `flagged`."""


def study_streams(
    policy: Policy,
    dataset: Any,
    episodes: Sequence[int],
    report: StreamReport,
    *,
    statistics: Mapping[str, Any],
    stride: int = 8,
    alpha: float = 0.2,
    draws: int = 4,
    monitor: Consistency | None = None,
    progress: Progress | None = None,
) -> StreamStudy:
    """Slices, knock-outs and detectors on held-out `episodes`; `report` is `recipes.evidence.read_streams`'s.

    Raises DataError for a policy without streams, or fewer than four episodes (two to fit detectors, two to try them).
    """
    streams_of(policy)
    shared: dict[str, Any] = {"stride": stride, "progress": progress}
    clean, detectors = study_detectors(policy, dataset, episodes, alpha=alpha, draws=draws, monitor=monitor, **shared)
    config = OpenLoopConfig.within(policy.processor.codec.horizon, stride=stride, batch_size=32)
    whole, knockout = knock_out(policy, dataset, episodes, statistics=statistics, config=config, progress=progress)
    return StreamStudy(
        report=report,
        by_task={
            text: cut([n for n in clean if n.instruction == text]) for text in sorted({n.instruction for n in clean})
        },
        by_time=tuple(cut(part) for part in by_time(clean) if part),
        whole=whole.scores.mse,
        knockout=knockout,
        detectors=detectors,
        alpha=alpha,
    )


def study_detectors(
    policy: Policy,
    dataset: Any,
    episodes: Sequence[int],
    *,
    stride: int = 8,
    alpha: float = 0.2,
    draws: int = 4,
    monitor: Consistency | None = None,
    progress: Progress | None = None,
) -> tuple[list[Look], dict[str, dict[str, Detection]]]:
    """Clean looks, and how well each detector tells broken ones from them; of any policy, with streams or without.

    Raises DataError for fewer than four episodes (two to fit detectors, two to try them).
    """
    if len(episodes) < 4:
        want, hint = "at least four held-out episodes", "Hold out more of them"
        raise DataError("streams", got=f"{len(episodes)} episodes", want=want, hint=hint)
    shared: dict[str, Any] = {"stride": stride, "draws": draws, "monitor": monitor, "progress": progress}
    clean = look_at_episodes(policy, dataset, episodes, title="clean", **shared)
    tried = sorted(episodes)[1::2]
    found = {
        name: look_at_episodes(policy, dataset, tried, shift=shift, title=name, **shared)
        for name, shift in shifts(dataset).items()
    }
    return clean, detect(clean, {name: looks for name, looks in found.items() if looks}, tried, alpha=alpha)


def cut(looks: Sequence[Look]) -> Slice:
    """Means over some looks."""
    routes, rho = (np.mean([getattr(n, name) for n in looks], axis=0).tolist() for name in ("routes", "edges"))
    return Slice(looks=len(looks), routes=tuple(routes), rho=tuple(rho))


def by_time(looks: Sequence[Look], bins: int = BINS) -> list[list[Look]]:
    """Looks by the part of the episode in which they were taken."""
    parts: list[list[Look]] = [[] for _ in range(bins)]
    for one in looks:
        parts[min(int(one.progress * bins), bins - 1)].append(one)
    return parts


def monitor_of(
    policy: Policy,
    dataset: Any,
    episodes: Sequence[int],
    *,
    alpha: float,
    per: Unit = "chunk",
    stride: int = 8,
    progress: Progress | None = None,
) -> Monitor:
    """Calibrate the disagreement monitor on clean held-out episodes. Raises ConfigError when they are too few."""
    edges = streams_of(policy).graph.edge_names
    looks = look_at_episodes(policy, dataset, episodes, stride=stride, title="calibrating", progress=progress)
    scores: dict[int, list[float]] = {}
    for one in looks:
        scores.setdefault(one.episode, []).append(one.rho)
    return calibrate(scores, alpha=alpha, edges=edges, per=per)
