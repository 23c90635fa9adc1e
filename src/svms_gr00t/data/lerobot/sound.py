"""Open a dataset without its broken episodes, and say which those are: one bad file must not stop a long training.

An episode is sound when its rows, its instruction and the length of its clips can be read. Nothing is decoded and
nothing is written; `svms-gr00t data doctor` looks deeper.
"""

from dataclasses import dataclass
from pathlib import Path

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.metadata import Episode
from svms_gr00t.data.lerobot.modality import Modality

MOST = 0.25
"""Larger shares of broken episodes are no accident: then the dataset is refused."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """An episode that was left out."""

    episode: int
    """Its number."""
    reason: str
    """What was wrong, one sentence."""
    listed: Episode
    """What the metadata says of it: splits deal it with the others, so that mending it moves none of them."""


def open_sound(
    root: Path | str, *, modality: Modality | None = None, most: float = MOST, progress: Progress | None = None
) -> tuple[LeRobotDataset, tuple[Skipped, ...]]:
    """The dataset without its broken episodes, and those episodes.

    Raises DataError when the metadata is unusable or more than a share `most` of the episodes is broken.
    """
    dataset = LeRobotDataset.open(root, modality=modality, empty_episodes=True)
    skipped: list[Skipped] = []
    with (progress or Silent()).task("checking episodes", len(dataset.episodes)) as task:
        for episode in dataset.episodes:
            try:
                dataset.check_episode(episode.index)
            except DataError as error:
                skipped.append(Skipped(episode=episode.index, reason=str(error), listed=episode))
            task.advance()
    if len(skipped) > most * len(dataset.episodes):
        got = f"{len(skipped)} broken of {len(dataset.episodes)} episodes, first: {skipped[0].reason}"
        hint = f"Run: svms-gr00t data doctor {dataset.root}"
        raise DataError(dataset.root, got=got, want=f"at most {most:.0%} broken", hint=hint)
    return dataset.without({skip.episode for skip in skipped}), tuple(skipped)
