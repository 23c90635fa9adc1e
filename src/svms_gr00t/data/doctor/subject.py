"""What the checks look at: the metadata, and the rows of some episodes, read as far as they can be read.

Axes: T steps of an episode, D numbers of a key.

Opening never stops at the first fault: a missing or wrong modality.json becomes a finding and a proposal takes its
place, so that one visit names every trouble.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.doctor.finding import Finding, from_error
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.labels.tokens import Labeler as AnyLabeler
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.init_modality import propose_modality
from svms_gr00t.data.lerobot.metadata import Info, read_info, read_metadata
from svms_gr00t.data.lerobot.modality import Modality

_WRITE = "Run: svms-gr00t data init-modality {root}, then check the names it proposes"
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One dataset on the table."""

    dataset: LeRobotDataset
    """With its own modality.json, or a proposal where that cannot be used."""
    chosen: tuple[int, ...]
    """Episodes that are looked into."""
    rows: dict[int, dict[str, np.ndarray]]
    """Episode -> "state.<key>" and "action.<key>" as stored (T, D); episodes that cannot be read are absent."""
    columns: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    """Episode -> the bookkeeping and annotation columns that it has, (T, 1)."""
    widths: dict[int, dict[str, int]] = field(default_factory=dict)
    """Episode -> numbers of a row of each numeric column that modality.json names."""
    labeler: AnyLabeler = field(default_factory=Labeler)
    """Who will label the instructions."""

    def stacked(self, name: str) -> np.ndarray:
        """One key of all episodes that were read, (sum of T, D)."""
        parts = [rows[name] for rows in self.rows.values() if name in rows]
        return np.concatenate(parts) if parts else np.zeros((0, 0))

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of all numeric keys."""
        kinds = (("state", self.dataset.modality.state), ("action", self.dataset.modality.action))
        return tuple(f"{kind}.{key}" for kind, entries in kinds for key in entries)


def open_dataset(root: Path) -> tuple[LeRobotDataset, list[Finding]]:
    """The dataset as far as it can be opened, and what was wrong. Raises DataError when the metadata is unusable."""
    info = read_info(root)
    metadata = read_metadata(root, info)
    findings: list[Finding] = []
    path = root / "meta" / "modality.json"
    proposal = propose_modality(info)
    modality = proposal.modality
    if not path.is_file():
        found, todo = "no modality.json; its names are proposed for this visit", _WRITE.format(root=root)
        findings.append(Finding(severity="error", check="modality", where=str(path), found=found, todo=todo))
        for fault in proposal.missing:
            todo = "Name it by hand in modality.json (start, end, original_key), or record it: training needs one"
            findings.append(Finding(severity="error", check="modality", where=str(path), found=fault, todo=todo))
    else:
        try:
            modality = Modality.load(path)
        except DataError as error:
            findings.append(from_error("modality", error))
    modality, more = _usable(root, info, modality)
    return LeRobotDataset(root=root, modality=modality, metadata=metadata), findings + more


def _usable(root: Path, info: Info, modality: Modality) -> tuple[Modality, list[Finding]]:
    """`modality` without the entries whose column or width is not there, and a finding for each of those."""
    where, findings = str(root / "meta" / "modality.json"), []
    kept: dict[str, dict[str, object]] = modality.to_dict()
    for kind in ("state", "action", "video", "annotation"):
        for key in list(getattr(modality, kind)):
            column = modality.column(kind, key)
            feature = info.features.get(column)
            fault = None
            if feature is None and column not in BOOKKEEPING:
                fault = f"{kind}.{key} is read from {column}, which info.json does not list"
            elif kind == "video" and feature is not None and feature.depth:
                fault = f"{kind}.{key} is read from {column}, a depth map, which a model of colours cannot read"
            elif kind == "video" and (feature is None or not (feature.dtype == "video" or feature.tabled)):
                fault = f"{kind}.{key} is read from {column}, which holds no pictures"
            elif kind in ("state", "action") and feature is not None and len(feature.shape) == 1:
                end = getattr(modality, kind)[key].end
                fault = f"{kind}.{key} ends at {end} of {feature.shape[0]}" if end > feature.shape[0] else None
            if fault:
                known = ", ".join(name for name in info.features if name not in BOOKKEEPING)
                todo = f"Correct that entry; the columns are {known}"
                findings.append(Finding(severity="error", check="modality", where=where, found=fault, todo=todo))
                kept[kind].pop(key)
    return Modality.from_dict(kept), findings


def read_subject(
    dataset: LeRobotDataset, chosen: tuple[int, ...], progress: Progress | None = None
) -> tuple[Subject, list[Finding]]:
    """Read the numbers of `chosen` as they are stored, NaN and all; an episode that cannot be read is a finding."""
    rows: dict[int, dict[str, np.ndarray]] = {}
    columns: dict[int, dict[str, np.ndarray]] = {}
    widths: dict[int, dict[str, int]] = {}
    findings: list[Finding] = []
    extra = [name for name in dataset.info.features if name in BOOKKEEPING or name.startswith("annotation.")]
    with (progress or Silent()).task("reading numbers", len(chosen)) as task:
        for index in chosen:
            try:
                rows[index], widths[index] = _numbers(dataset, index)
                columns[index] = _present(dataset, index, extra)
            except DataError as error:
                findings.append(from_error("rows", error, (index,)))
                rows.pop(index, None)
            task.advance()
    return Subject(dataset=dataset, chosen=chosen, rows=rows, columns=columns, widths=widths), findings


def _numbers(dataset: LeRobotDataset, index: int) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    modality, result = dataset.modality, {}
    places = [("state", key, entry) for key, entry in modality.state.items()]
    places += [("action", key, entry) for key, entry in modality.action.items()]
    sources = {f"{kind}.{key}": modality.column(kind, key) for kind, key, _ in places}  # type: ignore[arg-type]
    table = dataset.columns(index, list(sources.values()))
    for kind, key, entry in places:
        column = table[sources[f"{kind}.{key}"]]
        if column.shape[1] < entry.end:
            where, got = f"{dataset.metadata.data[index]}, {sources[f'{kind}.{key}']}", f"{column.shape[1]} numbers"
            want = f"the {entry.end} that {kind}.{key} ends at"
            raise DataError(where, got=got, want=want, hint="Correct meta/modality.json")
        result[f"{kind}.{key}"] = column[:, entry.start : entry.end].astype(np.float64)
    return result, {name: column.shape[1] for name, column in table.items()}


def _present(dataset: LeRobotDataset, index: int, names: list[str]) -> dict[str, np.ndarray]:
    """Bookkeeping columns; one that only info.json knows is left out (RoboCasa's lists are longer than its files)."""
    try:
        return dataset.columns(index, names)
    except DataError:
        found: dict[str, np.ndarray] = {}
        for name in names:
            try:
                found |= dataset.columns(index, [name])
            except DataError:
                continue
        return found
