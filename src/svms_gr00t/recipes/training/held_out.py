"""Which episodes a checkpoint may be judged on: those that its own run held out, as the run's passport says.

RUN/passport.json names them by number and the data by fingerprint; RUN/config.yaml says where the data was. Without a
passport, or on data that the run did not see, nobody can know what was trained on: then a split by seed stands in, and
`HeldOut.known` is False.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from svms_gr00t.core.errors import DataError, SvmsError
from svms_gr00t.core.files.documents import read_raw, validate
from svms_gr00t.core.progress import Progress
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.sound import Skipped, open_sound
from svms_gr00t.data.loading.split import Split, split_episodes
from svms_gr00t.recipes.shipped import demonstrations
from svms_gr00t.recipes.training.config import TrainConfig

PASSPORT, CONFIG = "passport.json", "config.yaml"
_UP = 3
"""RUN/phase_3/step_000100 and RUN/policy lie at most so deep in a run."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A dataset without its broken episodes, and which of the others were held out."""

    dataset: LeRobotDataset
    split: Split
    skipped: tuple[Skipped, ...]
    """Broken episodes, which are left out here as in training."""
    known: bool
    """The run says so; else the split is a guess by seed."""
    says: str
    """How it is known, or why not, in one sentence."""


def held_out(
    checkpoint: Path,
    dataset_path: Path | str,
    *,
    seed: int = 0,
    validation: float = 0.15,
    progress: Progress | None = None,
) -> HeldOut:
    """The run's own held-out episodes of a dataset; `seed` and `validation` count only where no run says.

    Raises DataError for a dataset that cannot be read, and when none of the held-out episodes can.
    """
    dataset, skipped = open_sound(dataset_path, progress=progress)
    run = run_of(checkpoint)
    part, says = (None, "") if run is None else _part(run, dataset)
    shared: dict[str, Any] = {"dataset": dataset, "skipped": skipped}
    if part is None:
        why = f"{run.name} was trained on other data" if run is not None else "there is no passport.json beside it"
        guess = f"these are the ones that --seed {seed} and --validation {validation:g} hold out"
        says = f"Which of these episodes {checkpoint.name} was trained on cannot be known ({why}); {guess}."
        everyone = [*dataset.episodes, *(one.listed for one in skipped)]
        broken = {one.episode for one in skipped}
        split = split_episodes(everyone, validation=validation, seed=seed, broken=broken)
        return HeldOut(split=split, known=False, says=says, **shared)
    sound = {episode.index for episode in dataset.episodes}
    left_out, chosen = part.skipped.keys(), set(part.held_out)
    if not chosen & sound:
        got, hint = f"none of {sorted(chosen)[:5]}", "Mend the dataset, or evaluate on the one that was trained on"
        raise DataError(dataset.root, got=got, want=f"episodes that {checkpoint.name} held out", hint=hint)
    split = Split(train=tuple(sorted(sound - chosen - left_out)), validation=tuple(sorted(chosen & sound)))
    return HeldOut(split=split, known=True, says=says, **shared)


def run_of(checkpoint: Path) -> Path | None:
    """The run folder that a checkpoint, a policy or a run belongs to; None where no passport is near."""
    folder = checkpoint.resolve()
    near = (folder, *folder.parents[:_UP])
    return next((place for place in near if (place / PASSPORT).is_file() and (place / CONFIG).is_file()), None)


def data_of(checkpoint: Path) -> Path:
    """The first dataset that the run or the demo around a checkpoint names. Raises DataError when there is none."""
    run = run_of(checkpoint)
    paths = _paths(run) if run is not None else []
    folder = checkpoint.resolve()
    for place in (folder, *folder.parents[:_UP]):  # a demo's configuration lies beside its policies
        if not paths and (place / "config.json").is_file():
            named = read_raw(place / "config.json").get("dataset_path")
            paths = [demonstrations(named)] if isinstance(named, str) else []
    if not paths:
        want, hint = "a run that names its data", "Pass --dataset-path"
        raise DataError(checkpoint, got="no dataset in its configuration", want=want, hint=hint)
    return paths[0]


class _Part(BaseModel):
    """What a passport says of a dataset."""

    fingerprint: str | None = None
    held_out: list[int]
    skipped: dict[int, Any] = {}


def _part(run: Path, dataset: LeRobotDataset) -> tuple[_Part | None, str]:
    """What the passport says of this dataset, and how it was recognised; None for data that the run did not see."""
    file, hint = run / PASSPORT, "Restore it, or move it away to choose held-out episodes by seed"
    data = read_raw(file, hint=hint).get("data")
    told = data.get("parts", [data]) if isinstance(data, dict) else []
    told = [part for part in told if isinstance(part, dict) and "held_out" in part] if isinstance(told, list) else []
    parts = [validate(_Part, part, file, hint=hint) for part in told]
    own = _fingerprint(dataset)
    for part in parts:
        if part.fingerprint == own:
            return part, f"Held-out episodes as {run.name} has them in its passport."
    for path, part in zip(_paths(run), parts, strict=False):
        if path == dataset.root.resolve():
            says = f"{dataset.root} has changed since {run.name} was trained on it; its held-out episodes go by number."
            return part, says
    return None, ""


def _fingerprint(dataset: LeRobotDataset) -> str | None:
    """None where a file is gone since."""
    try:
        return dataset.fingerprint()
    except DataError:
        return None


def _paths(run: Path) -> list[Path]:
    """Where the run's data was; nothing where that cannot be read any more."""
    try:
        return [part.path.expanduser().resolve() for part in TrainConfig.load(run / CONFIG).parts()]
    except SvmsError:
        return []
