"""Checks of modality.json against the columns: numbers without a name, names that overlap, widths of rotations."""

from collections import defaultdict
from collections.abc import Iterator

from svms_gr00t.data.doctor.finding import Finding
from svms_gr00t.data.doctor.subject import BOOKKEEPING, Subject

_ROTATION_WIDTHS = {"quaternion": 4, "axis_angle": 3, "rotation_6d": 6, "matrix": 9}


def check_modality(subject: Subject) -> Iterator[Finding]:
    """What the reader accepts although it can hardly be meant."""
    dataset = subject.dataset
    modality, where = dataset.modality, str(dataset.root / "meta" / "modality.json")
    for kind in ("state", "action"):
        entries = getattr(modality, kind)
        named: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        for key, entry in entries.items():
            for element in range(entry.start, entry.end):
                named[modality.column(kind, key)][element].append(key)
            want = _ROTATION_WIDTHS.get(entry.rotation_type or "", 3 if entry.rotation_type else entry.width)
            if entry.width != want:
                found = f"{kind}.{key} is {entry.width} numbers wide, but {entry.rotation_type} has {want}"
                todo = "Correct start, end or rotation_type"
                yield Finding(severity="error", check="modality", where=where, found=found, todo=todo)
        for column, elements in named.items():
            yield from _elements(subject, where, kind, column, elements)
    for kind, what in (("state", "state key"), ("action", "action key"), ("video", "camera")):
        if not getattr(modality, kind):
            found, todo = f"no {what}", f"Training needs one: name it under {kind}, of the columns {_columns(subject)}"
            yield Finding(severity="error", check="modality", where=where, found=found, todo=todo)


def check_widths(subject: Subject) -> Iterator[Finding]:
    """Rows of another width than info.json says: every slice may lie in the wrong place."""
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, widths in subject.widths.items():
        for column, width in widths.items():
            found[column, width].append(index)
    for (column, width), episodes in found.items():
        feature = subject.dataset.info.features.get(column)
        said = 1 if feature is not None and not feature.shape else feature.shape[0] if feature is not None else width
        if width != said:
            text = f"rows of {width} numbers, but info.json says {said}"
            todo = "Names and slices may not mean these numbers: correct shape and names in info.json, or convert again"
            yield Finding(
                severity="error", check="modality", where=column, found=text, todo=todo, episodes=tuple(episodes)
            )


def _columns(subject: Subject) -> str:
    return ", ".join(name for name in subject.dataset.info.features if name not in BOOKKEEPING) or "none"


def _elements(
    subject: Subject, where: str, kind: str, column: str, elements: dict[int, list[str]]
) -> Iterator[Finding]:
    feature = subject.dataset.info.features.get(column)
    shape = feature.shape if feature is not None else []
    missing = sorted(set(range(shape[0] if len(shape) == 1 else 0)) - set(elements))
    if missing:
        found = f"{column}[{_runs(missing)}] has no {kind} name, so no model sees it"
        todo = "Name it, unless it is left out on purpose"
        severity = "warning" if kind == "action" else "note"
        yield Finding(severity=severity, check="modality", where=where, found=found, todo=todo)  # type: ignore[arg-type]
    if kind == "action":
        for element in (e for e, keys in elements.items() if len(keys) > 1):
            keys = " and ".join(elements[element])
            found, todo = f"{column}[{element}] is both {keys}", "An action is commanded once; correct the slices"
            yield Finding(severity="warning", check="modality", where=where, found=found, todo=todo)
            return


def _runs(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> "0:3, 5:6"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1][1] += 1
        else:
            runs.append([number, number + 1])
    return ", ".join(f"{start}:{end}" for start, end in runs)
