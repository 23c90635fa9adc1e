"""Every step of the chosen episodes as a training sample; map-style, so any sampler and any number of workers fit.

Axes: T steps of an episode, H horizon, D numbers of a key.

Sample i is one (episode, step). Its augmentation depends on (seed, epoch, i) and on nothing else, so a batch is the
same in whichever process it is made. Past the end of an episode the last action is repeated and masked out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.collate import collate
from svms_gr00t.data.lerobot import LeRobotDataset
from svms_gr00t.data.observation import Observation
from svms_gr00t.data.processor import Labeler, Processor, Sample
from svms_gr00t.data.sampler import Draw, ResumableSampler


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where a sample comes from."""

    episode: int
    step: int


@dataclass(frozen=True, kw_only=True)
class _Episode:
    """One episode in memory."""

    lowdim: dict[str, np.ndarray]
    """"state.<key>" and "action.<key>", float32 (T, D)."""
    frames: dict[str, np.ndarray]
    """View -> resized uint8 (T, h, w, 3)."""
    instructions: list[str]


class StepDataset(Dataset[Sample]):
    """Steps of `episodes`, read and decoded once, then held in memory as small uint8 frames.

    Meant for data whose resized frames fit in memory (84 px: 0.02 MB a frame). `augment` switches the training crops
    and colour jitter on. Raises DataError for an episode that cannot be read, and for no episodes.
    """

    def __init__(
        self,
        dataset: LeRobotDataset,
        processor: Processor,
        *,
        episodes: Sequence[int],
        labeler: Labeler | None = None,
        augment: bool = False,
        seed: int = 0,
        stride: int = 1,
        progress: Progress | None = None,
    ) -> None:
        if not episodes:
            raise DataError(dataset.root, got="no episodes", want="at least one", hint="Choose episodes of the dataset")
        self.processor, self.labeler, self.augment, self.seed = processor, labeler, augment, seed
        self._episodes: dict[int, _Episode] = {}
        with (progress or Silent()).task("reading demonstrations", len(episodes)) as task:
            for index in episodes:
                self._episodes[index] = self._read(dataset, index)
                task.advance()
        self.steps: tuple[Step, ...] = tuple(
            Step(episode=index, step=step)
            for index, episode in self._episodes.items()
            for step in range(0, len(episode.instructions), stride)
        )

    def _read(self, dataset: LeRobotDataset, index: int) -> _Episode:
        length = dataset.episode(index).length
        views = self.processor.config.embodiment.video.modality_keys
        resize = self.processor.config.images.resize
        frames = {view: resize(dataset.frames(index, view, range(length))) for view in views}
        return _Episode(lowdim=dataset.lowdim(index), frames=frames, instructions=dataset.instructions(index))

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`; a `Draw` carries its epoch, so that augmentation differs between epochs."""
        at = self.steps[index]
        episode = self._episodes[at.episode]
        rng = np.random.default_rng([self.seed, getattr(index, "epoch", 0), int(index)]) if self.augment else None
        actions, pad = self._chunk(episode, at.step)
        return self.processor.encode(self._observation(episode, at.step), actions, pad, rng, self.labeler)

    def instruction(self, at: Step) -> str:
        """The instruction in force at a step."""
        return self._episodes[at.episode].instructions[at.step]

    def _observation(self, episode: _Episode, step: int) -> Observation:
        state = {k.removeprefix("state."): v[step] for k, v in episode.lowdim.items() if k.startswith("state.")}
        video = {view: frames[step] for view, frames in episode.frames.items()}
        return Observation.single(video=video, state=state, language=episode.instructions[step])

    def _chunk(self, episode: _Episode, step: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Actions (H, D) of each key from `step` on, and which of them lie beyond the end."""
        offsets = np.array(self.processor.config.embodiment.action.delta_indices)
        wanted = step + offsets
        last = len(episode.instructions) - 1
        rows = np.clip(wanted, 0, last)
        actions = {k.removeprefix("action."): v[rows] for k, v in episode.lowdim.items() if k.startswith("action.")}
        return actions, wanted > last

    def batch(self, indices: Sequence[int], label_weight: Float[Tensor, " S"] | None = None) -> ModelInputs:
        """The samples at `indices`, collated."""
        return collate([self[index] for index in indices], label_weight)

    def label_weight(self) -> Float[Tensor, " S"] | None:
        """Negatives over positives of each stream over every sample's instruction tokens; None without a labeler.

        Each instruction counts as often as it has steps. A stream without positives gets 1.
        """
        if self.labeler is None:
            return None
        positives, total = torch.zeros(0), 0
        for episode in self._episodes.values():
            sample = self.processor.encode(self._observation(episode, 0), labeler=self.labeler)
            assert sample.labels is not None
            assert sample.label_mask is not None
            chosen = sample.labels[sample.label_mask]
            weight = len(episode.instructions)
            positives = chosen.sum(0) * weight + (positives if len(positives) else 0)
            total += len(chosen) * weight
        return torch.where(positives > 0, (total - positives) / positives.clamp(min=1), torch.ones_like(positives))


class Batches:
    """Batch n of a seeded endless stream: a function of n alone, so a resumed run sees the very next batch."""

    def __init__(self, steps: StepDataset, batch_size: int, seed: int) -> None:
        self.steps, self.label_weight = steps, steps.label_weight()
        self._sampler = ResumableSampler(len(steps), batch_size, seed)

    def __call__(self, number: int) -> ModelInputs:
        """Batch `number`, from 0."""
        return self.steps.batch(self.indices(number), self.label_weight)

    def indices(self, number: int) -> list[Draw]:
        """Sample numbers of that batch."""
        self._sampler.batch = number
        return [index for index in next(self._sampler) if isinstance(index, Draw)]


def in_order(steps: StepDataset, batch_size: int) -> Iterator[list[int]]:
    """Every sample once, in order: what validation reads."""
    for start in range(0, len(steps), batch_size):
        yield list(range(start, min(start + batch_size, len(steps))))
