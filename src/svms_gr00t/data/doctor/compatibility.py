"""Do a checkpoint's statistics fit a dataset? Before training on it, or before running a policy on its robot.

    clipped   share of the data's values outside the base's range: there the model cannot tell values apart
    foreign   share outside everything the base ever saw; without percentiles the same
    used      the data's range over the base's range: what is left of the resolution
    constant  elements that never moved when the base was trained: they become 0, whatever the data does

Axes: D elements of a key; relative actions are judged by horizon step and summed up over it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import read_raw
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.doctor.finding import Finding, sort_findings
from svms_gr00t.data.doctor.percentiles import lost_to_percentiles
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.processor.config import ProcessorConfig, known_robots
from svms_gr00t.data.processor.embodiment import EmbodimentConfig
from svms_gr00t.data.processor.normalize import still
from svms_gr00t.data.processor.processor import read_statistics
from svms_gr00t.data.processor.relative import relative_chunks, relative_keys

CLIPPED = 0.01
"""More than this share outside the base's range is worth a warning."""
UNUSED = 0.05
"""Less than this share of the base's range in use is worth a warning."""
_OWN = "Train with the dataset's own statistics (another embodiment tag), or bring the data to the base's units"


@dataclass(frozen=True, kw_only=True)
class ElementFit:
    """One number of one key, base against data."""

    key: str
    """"state.<key>", "action.<key>" or "relative_action.<key>"."""
    element: int
    """Its place in the key."""
    base: tuple[float, float]
    """Lowest and highest value that the base normalises by."""
    data: tuple[float, float]
    """Lowest and highest value in the data."""
    clipped: float
    """Share of the data's values outside the base's range."""
    used: float
    """The data's range over the base's; 0 when the base's is constant."""
    whole: tuple[float, float]
    """Lowest and highest value that the base saw; wider than `base` where it normalises by percentiles."""
    foreign: float
    """Share of the data's values outside `whole`."""

    @property
    def constant(self) -> bool:
        """The base never saw it move."""
        return bool(still(*self.whole))


@dataclass(frozen=True, kw_only=True)
class Compatibility:
    """All elements, and what to do about those that do not fit."""

    elements: tuple[ElementFit, ...]
    """In the order of the embodiment's keys."""
    findings: tuple[Finding, ...]
    """Errors first."""

    @property
    def fits(self) -> bool:
        """No errors."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"fits": self.fits, **asdict(self)}


@dataclass
class _Bounds:
    """Counts of one key while the data streams by; bounds are (D,), or (H, D) for relative actions."""

    low: np.ndarray
    high: np.ndarray
    whole: tuple[np.ndarray, np.ndarray]
    seen_low: np.ndarray = field(init=False)
    seen_high: np.ndarray = field(init=False)
    outside: np.ndarray = field(init=False)
    foreign: np.ndarray = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        width = self.low.shape[-1]
        self.seen_low, self.seen_high = np.full(width, np.inf), np.full(width, -np.inf)
        self.outside, self.foreign = np.zeros(width), np.zeros(width)

    def update(self, rows: np.ndarray, step: int | None = None) -> None:
        if not len(rows):
            return
        self.outside += _beyond(rows, self.low, self.high, step)
        self.foreign += _beyond(rows, *self.whole, step)
        self.seen_low, self.seen_high = np.minimum(self.seen_low, rows.min(0)), np.maximum(self.seen_high, rows.max(0))
        self.count += len(rows)


def _beyond(rows: np.ndarray, low: np.ndarray, high: np.ndarray, step: int | None) -> np.ndarray:
    """How many rows lie outside, for each element."""
    low, high = (low, high) if step is None else (low[step], high[step])
    slack = 1e-6 * np.maximum(np.abs(low), np.abs(high))  # statistics went through float32
    return ((rows < low - slack) | (rows > high + slack)).sum(axis=0)


def compare_with_base(
    dataset: LeRobotDataset,
    embodiment: EmbodimentConfig,
    base: Mapping[str, Any],
    *,
    episodes: Sequence[int] | None = None,
    use_percentiles: bool = False,
    progress: Progress | None = None,
) -> Compatibility:
    """The statistics `base` of one robot against the values of `dataset`. Raises DataError from the dataset."""
    bounds, findings = _bounds(dataset, embodiment, base, use_percentiles)
    chosen = [episode.index for episode in dataset.episodes] if episodes is None else list(episodes)
    relative = relative_keys(embodiment)
    with (progress or Silent()).task("comparing", len(chosen)) as task:
        for index in chosen:
            rows = dataset.lowdim(index)
            for name, bound in bounds.items():
                kind, key = name.split(".", 1)
                if kind == "relative_action" and key in relative:
                    for step, values in enumerate(relative_chunks(rows, embodiment, key)):
                        bound.update(values, step)
                else:
                    bound.update(rows[name])
            task.advance()
    elements = [fit for name, bound in bounds.items() for fit in _fits(name, bound)]
    findings += [finding for name in bounds for finding in _judge(name, [e for e in elements if e.key == name])]
    return Compatibility(elements=tuple(elements), findings=sort_findings(findings))


def lost_commands(
    dataset: LeRobotDataset,
    config: ProcessorConfig,
    statistics: Mapping[str, Any],
    *,
    episodes: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> tuple[Finding, ...]:
    """What a processor of these settings can never command, or see, of `episodes`: nothing without percentiles.

    `statistics` are those of all its robots. Raises DataError from the dataset.
    """
    if not config.use_percentiles:
        return ()
    own = statistics[config.embodiment_tag]
    report = compare_with_base(
        dataset, config.embodiment, own, episodes=episodes, use_percentiles=True, progress=progress
    )
    return tuple(finding for finding in report.findings if finding.check == "percentiles")


def _bounds(
    dataset: LeRobotDataset, embodiment: EmbodimentConfig, base: Mapping[str, Any], use_percentiles: bool
) -> tuple[dict[str, _Bounds], list[Finding]]:
    """Bounds of every key that base and data share, and a finding for each of the others."""
    relative, findings = relative_keys(embodiment), []
    bounds: dict[str, _Bounds] = {}
    names = [("state", key) for key in embodiment.state.modality_keys]
    names += [("action", key) for key in embodiment.action.modality_keys]
    for kind, key in names:
        table = "relative_action" if kind == "action" and key in relative else kind
        entry = (dataset.modality.state if kind == "state" else dataset.modality.action).get(key)
        summary = base.get(table, {}).get(key)
        low, high = ("q01", "q99") if use_percentiles and table != "relative_action" else ("min", "max")
        fault = None
        if entry is None:
            fault, todo = "the dataset has no such key", "Name that slice in modality.json, under the base's name"
        elif summary is None:
            fault, todo = "the base has no statistics of it", "Use a tag that the base knows, or its own statistics"
        elif np.shape(summary[low])[-1] != entry.width:
            fault = f"{entry.width} numbers in the data, {np.shape(summary[low])[-1]} in the base"
            todo = "Correct the slice in modality.json: it is another robot or another representation"
        if fault:
            findings.append(Finding(severity="error", check="keys", where=f"{kind}.{key}", found=fault, todo=todo))
        else:
            assert summary is not None
            of = {name: np.array(summary[name], float) for name in (low, high, "min", "max")}
            bounds[f"{table}.{key}"] = _Bounds(low=of[low], high=of[high], whole=(of["min"], of["max"]))
    return bounds, findings


def _fits(name: str, bound: _Bounds) -> Iterator[ElementFit]:
    if not bound.count:
        raise DataError("compatibility", got="no steps", want="at least one", hint="Choose at least one episode")
    low, least = (a.reshape(-1, a.shape[-1]).min(axis=0) for a in (bound.low, bound.whole[0]))
    high, most = (a.reshape(-1, a.shape[-1]).max(axis=0) for a in (bound.high, bound.whole[1]))
    for i in range(len(low)):
        span, seen = high[i] - low[i], bound.seen_high[i] - bound.seen_low[i]
        yield ElementFit(
            key=name,
            element=i,
            base=(float(low[i]), float(high[i])),
            data=(float(bound.seen_low[i]), float(bound.seen_high[i])),
            clipped=float(bound.outside[i] / bound.count),
            used=0.0 if still(low[i], high[i]) else float(seen / span),
            whole=(float(least[i]), float(most[i])),
            foreign=float(bound.foreign[i] / bound.count),
        )


def _judge(name: str, elements: list[ElementFit]) -> Iterator[Finding]:
    """What a key's elements mean together."""
    lost = [e for e in elements if e.constant and not still(*e.data)]
    if lost:
        severity = "error" if name.split(".")[0] != "state" else "warning"
        found = f"elements {_list(lost)} move in the data, but never moved in the base: they become 0"
        yield Finding(severity=severity, check="constant", where=name, found=found, todo=_OWN)  # type: ignore[arg-type]
    yield from _rare(name, elements)
    coded = [e for e in elements if e.base == (0.0, 1.0) and e.data[0] == -1.0 and e.data[1] <= 1.0]
    if coded:
        todo = "Store (x > 0) as 0 and 1, or train with the dataset's own statistics"
        found = "coded -1/1 in the data, 0/1 in the base"
        yield Finding(severity="error", check="coding", where=name, found=found, todo=todo)
    cut = [e for e in elements if e.foreign > CLIPPED and not e.constant and e not in coded]
    if cut:
        worst = max(cut, key=lambda e: e.foreign)
        found = (
            f"{worst.foreign:.1%} of element {worst.element} lie outside the base's range "
            f"[{worst.whole[0]:.3g}, {worst.whole[1]:.3g}] (data [{worst.data[0]:.3g}, {worst.data[1]:.3g}])"
        )
        more = f"; also elements {_list([e for e in cut if e is not worst])}" if len(cut) > 1 else ""
        yield Finding(severity="warning", check="clipped", where=name, found=found + more, todo=_OWN)
    narrow = [e for e in elements if not e.constant and 0 < e.used < UNUSED]
    if narrow:
        worst = min(narrow, key=lambda e: e.used)
        found = f"elements {_list(narrow)} use {worst.used:.1%} of the base's range or little more"
        todo = "Check the units (metres or millimetres, radians or degrees, scaled or not)"
        yield Finding(severity="warning", check="unused", where=name, found=found, todo=todo)


def _rare(name: str, elements: list[ElementFit]) -> Iterator[Finding]:
    """What percentiles take from a key; nothing where they are not used, for there base and whole are one."""
    bounds, whole = (np.array([getattr(e, part) for e in elements]).T for part in ("base", "whole"))
    share = np.array([e.clipped for e in elements])
    if (bounds != whole).any():
        yield from lost_to_percentiles(name, bounds, whole, share, severity="error")


def _list(elements: list[ElementFit]) -> str:
    return ", ".join(str(e.element) for e in elements)


def read_base(
    folder: Path, embodiment_tag: str | None = None, *, modality: Modality | None = None
) -> tuple[ProcessorConfig, dict[str, Any]]:
    """Processor settings of a checkpoint and its statistics of one robot; no weights, no tokenizer are read.

    Without a tag, a base of several robots is read for the one whose keys `modality` has, if it is only one.
    Raises DataError or CheckpointError when files are missing or do not name the robot.
    """
    where = folder / "processor_config.json"
    values = read_raw(where)
    if embodiment_tag is None and modality is not None and len(robots := known_robots(folder)) > 1:
        configs = [ProcessorConfig.from_dict(values, embodiment_tag=tag, where=where) for tag in robots]
        fitting = [config.embodiment_tag for config in configs if _has_keys(modality, config.embodiment)]
        embodiment_tag = fitting[0] if len(fitting) == 1 else None
    config = ProcessorConfig.from_dict(values, embodiment_tag=embodiment_tag, where=where)
    statistics = read_statistics(folder)
    if config.embodiment_tag not in statistics:
        want = f"statistics of {config.embodiment_tag}"
        hint = "Pass one of its robots as embodiment tag"
        raise DataError(folder / "statistics.json", got=", ".join(statistics) or "none", want=want, hint=hint)
    return config, dict(statistics[config.embodiment_tag])


def _has_keys(modality: Modality, robot: EmbodimentConfig) -> bool:
    return set(robot.state.modality_keys) <= modality.state.keys() and set(robot.action.modality_keys) <= (
        modality.action.keys()
    )
