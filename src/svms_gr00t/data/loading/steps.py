"""Every step of the chosen episodes as a training sample; map-style, so any sampler and any number of workers fit.

Axes: T steps of an episode, H horizon, D numbers of a key.

Sample i is one (episode, step). Its augmentation depends on (seed, epoch, i) and on nothing else, so a batch is the
same in whichever process it is made. Past the end of an episode the last action is repeated and masked out. Numbers
come from one flat table, pictures from a frame store, or neither pictures nor the frozen backbone from a feature cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from svms_gr00t.core.errors import DataError, SvmsError
from svms_gr00t.core.progress import Progress
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.loading.feature_cache import FeatureCache
from svms_gr00t.data.loading.frames import frame_store
from svms_gr00t.data.loading.lowdim_table import LowDimTable
from svms_gr00t.data.loading.sampler import Draw, ResumableSampler
from svms_gr00t.data.processor.observation import Observation
from svms_gr00t.data.processor.processor import Labeler, Processor, Sample


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where a sample comes from."""

    episode: int
    step: int


class StepDataset(Dataset[Sample]):
    """Steps of `episodes`.

    `frames` says where pictures come from ("memory", "clips", "auto": memory when they fit, or the folder of a pack).
    With `features` no picture is read at all. `tables` is a folder that keeps the numbers between runs. `augment`
    switches the training crops and colour jitter on. Raises DataError for an episode that cannot be read, and for no
    episodes.
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
        frames: str | Path = "auto",
        features: FeatureCache | None = None,
        tables: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not episodes:
            raise DataError(dataset.root, got="no episodes", want="at least one", hint="Choose episodes of the dataset")
        self.dataset, self.processor, self.labeler = dataset, processor, labeler
        self.augment, self.seed, self.features = augment, seed, features
        self.episodes = tuple(episodes)
        self._views = processor.config.embodiment.video.modality_keys
        self._table = LowDimTable.build(dataset, self.episodes, folder=tables, progress=progress)
        self._frames = None
        if features is None:
            images = processor.config.images
            self._frames = frame_store(dataset, images, self.episodes, self._views, where=frames, progress=progress)
        elif missing := features.missing(self.episodes):
            got, want = f"{len(missing)} episodes of a copy missing", "all episodes and copies"
            raise DataError(features.root, got=got, want=want, hint="Run data cache build again; it goes on")
        self.steps: tuple[Step, ...] = tuple(
            Step(episode=index, step=step) for index in self.episodes for step in range(0, self.length(index), stride)
        )

    def length(self, episode: int) -> int:
        """Steps of an episode."""
        return self.dataset.episode(episode).length

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`; a `Draw` carries its epoch, so that augmentation differs between epochs."""
        at, epoch = self.steps[index], getattr(index, "epoch", 0)
        if self.features is not None:
            copies = self.features.key.variants if self.augment else 0
            return self.cached(at, 1 + (epoch + int(index)) % copies if copies else 0)
        return self.sample(at, np.random.default_rng([self.seed, epoch, int(index)]) if self.augment else None)

    def sample(self, at: Step, rng: np.random.Generator | None = None) -> Sample:
        """The sample at a step from its pictures; `rng` switches the training augmentation on."""
        actions, pad = self._chunk(at)
        return self.processor.encode(self.observation(at), actions, pad, rng, self.labeler)

    def cached(self, at: Step, variant: int) -> Sample:
        """The sample at a step with copy `variant` of its cached states."""
        assert self.features is not None
        actions, pad = self._chunk(at)
        counts = self.features.image_tokens(at.episode)
        blind = self.observation(at)
        plain = self.processor.encode(blind, actions, pad, labeler=self.labeler, image_tokens=counts)
        hidden = self.features.read(variant, at.episode, at.step)
        if len(hidden) != len(plain.input_ids):
            got, want = f"{len(hidden)} cached tokens", f"{len(plain.input_ids)}, as many as the prompt has"
            raise DataError(f"{self.features.root}, episode {at.episode}", got=got, want=want, hint="Build it again")
        return replace(plain, hidden=hidden, hidden_layer=self.features.key.layer)

    def instruction(self, at: Step) -> str:
        """The instruction in force at a step."""
        return self._table.instruction(at.episode, at.step)

    def origin(self, index: int) -> tuple[int, str]:
        """Episode and instruction of sample `index`."""
        at = self.steps[index]
        return at.episode, self.instruction(at)

    def observation(self, at: Step, *, pictures: bool = True) -> Observation:
        """What the robot saw at a step, frames resized; with a feature cache there are none."""
        frames = self._frames if pictures else None
        video = {} if frames is None else {view: frames.frame(at.episode, view, at.step) for view in self._views}
        state = self._table.rows(at.episode, at.step, "state")
        return Observation.single(video=video, state=state, language=self.instruction(at))

    def _chunk(self, at: Step) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Actions (H, D) of each key from the step on, and which of them lie beyond the end."""
        wanted = at.step + np.array(self.processor.config.embodiment.action.delta_indices)
        last = self.length(at.episode) - 1
        return self._table.rows(at.episode, np.clip(wanted, 0, last), "action"), wanted > last

    def batch(self, indices: Sequence[int], label_weight: Float[Tensor, " S"] | None = None) -> ModelInputs:
        """The samples at `indices`, collated."""
        return collate([self[index] for index in indices], label_weight)

    def sampler(self, batch_size: int, seed: int) -> ResumableSampler:
        """Every step once an epoch, shuffled."""
        return ResumableSampler(len(self), batch_size, seed)

    def label_weight(self) -> Float[Tensor, " S"] | None:
        """Negatives over positives of each stream over every sample's instruction tokens; None without a labeler.

        Each instruction counts as often as it has steps. A stream without positives gets 1.
        """
        counts = self.label_counts()
        return None if counts is None else negatives_over_positives(*counts)

    def label_counts(self) -> tuple[Float[Tensor, " S"], float] | None:
        """Positive tokens of each stream and all tokens, summed over the steps; None without a labeler."""
        if self.labeler is None:
            return None
        positives, total = torch.zeros(0), 0
        for at, times in self._table.examples():
            blind = self.observation(Step(**at), pictures=False)
            sample = self.processor.encode(blind, labeler=self.labeler, image_tokens=(1,))
            assert sample.labels is not None
            assert sample.label_mask is not None
            chosen = sample.labels[sample.label_mask]
            positives = chosen.sum(0) * times + (positives if len(positives) else 0)
            total += len(chosen) * times
        return positives, float(total)


def negatives_over_positives(positives: Float[Tensor, " S"], total: float) -> Float[Tensor, " S"]:
    """Class weights of the label loss; 1 for a stream without positives."""
    return torch.where(positives > 0, (total - positives) / positives.clamp(min=1e-9), torch.ones_like(positives))


@runtime_checkable
class Sampler(Protocol):
    """Batches of draws; `batch` may be set to go to any of them."""

    batch: int

    def __next__(self) -> list[int]: ...


@runtime_checkable
class Samples(Protocol):
    """What batches are made of: the steps of one dataset, or a mixture."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def origin(self, index: int) -> tuple[int, str]:
        """Episode and instruction of sample `index`; episodes of two datasets have two numbers."""
        ...

    def batch(self, indices: Sequence[int], label_weight: Float[Tensor, " S"] | None = None) -> ModelInputs:
        """The samples at `indices`, collated."""
        ...

    def label_weight(self) -> Float[Tensor, " S"] | None:
        """Class weights of the label loss."""
        ...

    def sampler(self, batch_size: int, seed: int) -> Sampler:
        """Which sample comes when."""
        ...


class Batches:
    """Batch n of a seeded endless stream: a function of n alone, so a resumed run sees the very next batch.

    `workers` processes prefetch the batches after the one asked for last; 0 makes each here. The batches are the same.
    `rows` are the parts of every batch that are wanted, each a batch of its own; by default the whole.
    """

    def __init__(
        self,
        steps: Samples,
        batch_size: int,
        seed: int,
        *,
        workers: int = 0,
        rows: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.steps, self.label_weight, self.workers = steps, steps.label_weight(), workers
        self.rows = rows or (range(batch_size),)
        self._sampler = steps.sampler(batch_size, seed)
        self._ahead: Iterator[ModelInputs | SvmsError] | None = None
        self._next = 0

    def __call__(self, number: int) -> ModelInputs:
        """The first part of batch `number`, from 0: the whole of it unless `rows` says otherwise."""
        return self.parts(number)[0]

    def parts(self, number: int) -> tuple[ModelInputs, ...]:
        """The parts of batch `number`."""
        if self.workers == 0:
            return tuple(self.steps.batch(chosen, self.label_weight) for chosen in self._chosen(number))
        if self._ahead is None or number != self._next:
            self._ahead = self._start(number)
        self._next = number + 1
        found = [next(self._ahead) for _ in self.rows]
        for part in found:
            if isinstance(part, SvmsError):
                self.close()
                raise part
        return tuple(part for part in found if isinstance(part, ModelInputs))

    def indices(self, number: int) -> list[Draw]:
        """Sample numbers of that batch."""
        self._sampler.batch = number
        return [index for index in next(self._sampler) if isinstance(index, Draw)]

    def _chosen(self, number: int) -> list[list[Draw]]:
        indices = self.indices(number)
        return [[indices[row] for row in part] for part in self.rows]

    def _start(self, number: int) -> Iterator[ModelInputs | SvmsError]:
        self.close()
        return iter(
            DataLoader(
                _Caught(self.steps),
                batch_sampler=(part for n in count(number) for part in self._chosen(n)),  # type: ignore[arg-type]
                num_workers=self.workers,
                collate_fn=partial(_collated, label_weight=self.label_weight),
            )
        )

    def close(self) -> None:
        """Stop the workers; the next call starts new ones."""
        self._ahead = None


class _Caught(Dataset[Sample | SvmsError]):
    """Hands errors over as values: the way out of a worker would turn them into another type with a long text."""

    def __init__(self, steps: Samples) -> None:
        self._steps = steps

    def __getitem__(self, index: int) -> Sample | SvmsError:
        try:
            return self._steps[index]
        except SvmsError as error:
            return error


def _collated(items: Sequence[Sample | SvmsError], label_weight: Float[Tensor, " S"] | None) -> ModelInputs | SvmsError:
    samples = [item for item in items if isinstance(item, Sample)]
    bad = [item for item in items if isinstance(item, SvmsError)]
    return bad[0] if bad else collate(samples, label_weight)


def in_order(steps: Samples, batch_size: int) -> Iterator[list[int]]:
    """Every sample once, in order: what validation reads."""
    for start in range(0, len(steps), batch_size):
        yield list(range(start, min(start + batch_size, len(steps))))
