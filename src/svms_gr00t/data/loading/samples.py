"""Every step of the chosen episodes as a training sample; map-style, so any sampler and any number of workers fit.

Axes: T steps of an episode, H horizon, D numbers of a key.

Sample i is one (episode, step); steps that were only watched are none, but may be the past of one. Its augmentation
depends on (seed, epoch, i) and on nothing else, so a batch is the same in whichever process it is made. Past the end of
an episode the last action is repeated and masked out; before its start the first frame and state are repeated, for
robots whose `delta_indices` look back. Numbers come from one flat table, pictures from a frame store, or neither
pictures nor the frozen backbone from a feature cache.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.history import clipped_steps
from svms_gr00t.core.progress import Progress
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.labels.hand import Hand
from svms_gr00t.data.labels.tokens import Labeler, TokenLabels
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.loading.deciding import AHEAD, DecidingSampler, deciding_steps
from svms_gr00t.data.loading.feature_cache import FeatureCache
from svms_gr00t.data.loading.frames import frame_store
from svms_gr00t.data.loading.lowdim_table import LowDimTable
from svms_gr00t.data.loading.protocols import Sampler
from svms_gr00t.data.loading.sampler import ResumableSampler
from svms_gr00t.data.processor.observation import Observation
from svms_gr00t.data.processor.processor import Processor, Sample

GLIMPSES = 10_000
"""So many encoded past steps are kept; without pictures and states one is a few kilobytes."""


@dataclass(frozen=True, kw_only=True)
class At:
    """Where a sample comes from."""

    episode: int
    step: int


class SampleDataset(Dataset[Sample]):
    """Steps of `episodes`.

    `frames` says where pictures come from ("memory", "clips", "auto": memory when they fit, or the folder of a pack).
    With `features` no picture is read at all. `tables` is a folder that keeps the numbers between runs. `augment`
    switches the training crops and colour jitter on, one draw for all pictures of a sample. `memory` are the steps
    before its own that a sample keeps, as offsets. `deciding` is the share of every batch that comes from steps right
    before a change of intent (`data/loading/deciding.py`). `hand` is whose motion its grounded targets tell. Raises
    DataError for an episode that cannot be read, and for no episodes.
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
        memory: Sequence[int] = (),
        deciding: float = 0.0,
        hand: Hand | None = None,
        tables: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not episodes:
            raise DataError(dataset.root, got="no episodes", want="at least one", hint="Choose episodes of the dataset")
        self.dataset, self.processor = dataset, processor
        self.labels = None if labeler is None else TokenLabels(labeler)
        self.augment, self.seed, self.features, self.memory = augment, seed, features, tuple(memory)
        self.deciding = deciding
        self.hand = hand
        self._targets: dict[int, Float[Tensor, "T G"]] = {}
        self._glimpses: dict[tuple[At, tuple[int, ...]], Sample] = {}
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
        self.places: tuple[At, ...] = tuple(
            At(episode=index, step=step)
            for index in self.episodes
            for step in range(dataset.watched(index), self.length(index), stride)
        )

    def length(self, episode: int) -> int:
        """Steps of an episode."""
        return self.dataset.episode(episode).length

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`; a `Draw` carries its epoch, so that augmentation differs between epochs."""
        return self._aiming(self._whole(index), self.places[index])

    def _whole(self, index: int) -> Sample:
        """Sample `index` but for its targets."""
        at, epoch = self.places[index], getattr(index, "epoch", 0)
        if self.features is not None:
            variant = self.variant(index)
            return self._remembering(self.cached(at, variant), at, lambda past: self._glimpsed(past, variant))
        seed = [self.seed, epoch, int(index)] if self.augment else None
        return self._remembering(self.sample(at, _rng(seed)), at, lambda past: self.glimpse(past, _rng(seed)))

    def variant(self, index: int) -> int:
        """Which copy of the cached states sample `index` reads; a `Draw` carries its epoch."""
        assert self.features is not None
        copies = self.features.key.variants if self.augment else 0
        return 1 + (getattr(index, "epoch", 0) + int(index)) % copies if copies else 0

    def _remembering(self, sample: Sample, at: At, glimpse: Callable[[At], Sample]) -> Sample:
        """The sample with the earlier steps of its episode."""
        if not self.memory:
            return sample
        steps = [at.step + offset for offset in self.memory]
        return replace(sample, earlier=tuple(glimpse(replace(at, step=s)) if s >= 0 else None for s in steps))

    def _aiming(self, sample: Sample, at: At) -> Sample:
        """The sample with the grounded targets of its step; an episode's are computed when it is first met."""
        if self.hand is None:
            return sample
        if at.episode not in self._targets:
            steps, kinds = np.arange(self.length(at.episode)), ("state", "action")
            rows = {f"{kind}.{k}": v for kind in kinds for k, v in self._table.rows(at.episode, steps, kind).items()}
            self._targets[at.episode] = torch.from_numpy(self.hand.targets(rows))
        return replace(sample, targets=self._targets[at.episode][at.step])

    def sample(self, at: At, rng: np.random.Generator | None = None) -> Sample:
        """The sample at a step from its pictures; `rng` switches the training augmentation on."""
        actions, pad = self._chunk(at)
        return self.processor.encode(self.observation(at), actions, pad, rng, self.labels)

    def glimpse(self, at: At, rng: np.random.Generator | None = None) -> Sample:
        """What was seen at a step, without what was done."""
        return self.processor.encode(self.observation(at), rng=rng)

    def cached(self, at: At, variant: int) -> Sample:
        """The sample at a step with copy `variant` of its cached states."""
        actions, pad = self._chunk(at)
        rest: dict[str, Any] = {"actions": actions, "action_pad": pad, "labels": self.labels}
        counts = self._counts(at, variant)
        return self._filled(self.processor.encode(self.observation(at), image_tokens=counts, **rest), at, variant)

    def _glimpsed(self, at: At, variant: int) -> Sample:
        """What was seen at a past step: encoded once, for it is the past of as many samples as there are offsets."""
        key = at, self._counts(at, variant)
        if key not in self._glimpses:
            if len(self._glimpses) >= GLIMPSES:
                self._glimpses.clear()
            self._glimpses[key] = self.processor.encode(self.observation(at), image_tokens=key[1])
        return self._filled(self._glimpses[key], at, variant)

    def _counts(self, at: At, variant: int) -> tuple[int, ...]:
        """Tokens of each picture of a step."""
        assert self.features is not None
        return self.features.image_tokens(variant, at.episode)

    def _filled(self, plain: Sample, at: At, variant: int) -> Sample:
        """A sample with the cached states of its step."""
        assert self.features is not None
        hidden = self.features.read(variant, at.episode, at.step)
        if len(hidden) != len(plain.input_ids):
            got, want = f"{len(hidden)} cached tokens", f"{len(plain.input_ids)}, as many as the prompt has"
            raise DataError(f"{self.features.root}, episode {at.episode}", got=got, want=want, hint="Build it again")
        return replace(plain, hidden=hidden, hidden_layer=self.features.key.layer)

    def aimed(self, hand: Hand) -> "SampleDataset":
        """The same steps with the grounded targets of a hand."""
        changed = copy(self)
        changed.hand, changed._targets = hand, {}
        return changed

    def relabeled(self, labeler: Labeler) -> "SampleDataset":
        """The same steps with the labels of another labeler."""
        changed = copy(self)
        changed.labels = TokenLabels(labeler)
        return changed

    def instruction(self, at: At) -> str:
        """The instruction in force at a step."""
        return self._table.instruction(at.episode, at.step)

    def origin(self, index: int) -> tuple[int, str]:
        """Episode and instruction of sample `index`."""
        at = self.places[index]
        return at.episode, self.instruction(at)

    @property
    def labeler(self) -> Labeler | None:
        """Who labels their instructions."""
        return None if self.labels is None else self.labels.labeler

    def texts(self) -> frozenset[str]:
        """Every instruction of the steps' episodes."""
        return frozenset(self.instruction(At(**at)) for at, _ in self._table.examples())

    def worded(self, sentences: Sequence[str]) -> list[Sample]:
        """Sentences as the prompt of a sample each, without pictures: those follow the words, which cannot see them."""
        blind = self.observation(self.places[0], pictures=False)
        return [
            self.processor.encode(replace(blind, language=(sentence,)), labels=self.labels, image_tokens=())
            for sentence in sentences
        ]

    def observation(self, at: At, *, pictures: bool = True) -> Observation:
        """What the robot saw at a step and at the past ones that its embodiment looks back to, frames resized.

        With a feature cache there are no frames.
        """
        robot, length = self.processor.config.embodiment, self.length(at.episode)
        video: dict[str, np.ndarray] = {}
        if self._frames is not None and pictures:
            seen = clipped_steps(at.step, robot.video.delta_indices, length)
            video = {view: self._frames.frames(at.episode, view, seen)[None] for view in self._views}
        past = clipped_steps(at.step, robot.state.delta_indices, length)
        state = {key: rows[None] for key, rows in self._table.rows(at.episode, np.array(past), "state").items()}
        return Observation(video=video, state=state, language=(self.instruction(at),), step=(at.step,))

    def _chunk(self, at: At) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Actions (H, D) of each key from the step on, and which of them lie beyond the end."""
        offsets, length = self.processor.config.embodiment.action.delta_indices, self.length(at.episode)
        actions = self._table.rows(at.episode, np.array(clipped_steps(at.step, offsets, length)), "action")
        return actions, at.step + np.array(offsets) >= length

    def prepare(self, indices: Sequence[int]) -> None:
        """Make sure that the cached states of these samples are there; only where the model is."""
        if self.features is not None:
            self.features.ensure((self.variant(index), self.places[index].episode) for index in indices)

    def batch(self, indices: Sequence[int], label_weight: Float[Tensor, " S"] | None = None) -> ModelInputs:
        """The samples at `indices`, collated."""
        self.prepare(indices)
        return collate([self[index] for index in indices], label_weight)

    def sampler(self, batch_size: int, seed: int) -> Sampler:
        """Every step once an epoch, shuffled; with `deciding` that share of a batch from deciding steps."""
        if not self.deciding:
            return ResumableSampler(len(self), batch_size, seed)
        return DecidingSampler(len(self), self.deciding_samples(), batch_size, seed, share=self.deciding)

    def deciding_samples(self) -> dict[str, list[int]]:
        """Numbers of the samples right before a change of intent, by instruction."""
        absolute = [key for key, columns in self.dataset.modality.action.items() if columns.absolute]
        ahead = -self.memory[-1] if self.memory else AHEAD
        steps: dict[int, np.ndarray] = {}
        for episode in self.episodes:
            actions = self._table.rows(episode, np.arange(self.length(episode)), "action")
            steps[episode] = deciding_steps(actions, absolute, ahead=ahead)
        found: dict[str, list[int]] = {}
        for number, at in enumerate(self.places):
            if steps[at.episode][at.step]:
                found.setdefault(self.instruction(at), []).append(number)
        return found

    def label_weight(self) -> Float[Tensor, " S"] | None:
        """Negatives over positives of each stream over every sample's instruction tokens; None without a labeler.

        Each instruction counts as often as it has steps. A stream without positives gets 1.
        """
        counts = self.label_counts()
        return None if counts is None else negatives_over_positives(*counts)

    def label_counts(self) -> tuple[Float[Tensor, " S"], float] | None:
        """Positive tokens of each stream and all tokens, summed over the steps; None without a labeler."""
        if self.labels is None:
            return None
        positives, total = torch.zeros(0), 0
        for at, times in self._table.examples():
            blind = self.observation(At(**at), pictures=False)
            sample = self.processor.encode(blind, labels=self.labels, image_tokens=(1,))
            assert sample.labels is not None
            assert sample.label_mask is not None
            chosen = sample.labels[sample.label_mask]
            positives = chosen.sum(0) * times + (positives if len(positives) else 0)
            total += len(chosen) * times
        return positives, float(total)


def negatives_over_positives(positives: Float[Tensor, " S"], total: float) -> Float[Tensor, " S"]:
    """Class weights of the label loss; 1 for a stream without positives."""
    return torch.where(positives > 0, (total - positives) / positives.clamp(min=1e-9), torch.ones_like(positives))


def _rng(seed: Sequence[int] | None) -> np.random.Generator | None:
    return None if seed is None else np.random.default_rng(seed)
