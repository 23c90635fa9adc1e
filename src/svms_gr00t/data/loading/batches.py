"""Batch n of a seeded endless stream, made here or by processes that work ahead."""

import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path

from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from svms_gr00t.core.errors import SvmsError
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.loading.protocols import Samples
from svms_gr00t.data.loading.sampler import Draw
from svms_gr00t.data.processor.processor import Sample

TINY = 1000
"""Steps of a set that is read here: other processes would take longer to start than to read it."""
ROOM = 1 << 30
"""Bytes of shared memory that batches on their way may take; containers often have 64 MB."""
MOST = 4
"""One feeds a card at the released size (`benchmarks/loader.md`), the others take up what clips vary in."""


def chosen_workers(steps: int, device: str, *, cores: int | None = None, room: int | None = None) -> int:
    """How many processes should make batches of so many steps, for a model on a device of that type.

    None where the model computes on the processor itself, for tiny sets, for one core, and without shared memory.
    """
    cores = cores_of_this_rank() if cores is None else cores
    room = _shared_memory() if room is None else room
    if device == "cpu" or steps < TINY or room < ROOM:
        return 0
    return min(MOST, cores - 1)


def cores_of_this_rank() -> int:
    """Cores that this process may use, shared with the other ranks of this machine; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, allowed // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _shared_memory() -> int:
    place = Path("/dev/shm")
    return shutil.disk_usage(place).free if place.is_dir() else ROOM


class Batches:
    """Batch n of a seeded endless stream: a function of n alone, so a resumed run sees the very next batch.

    `workers` processes prefetch the batches after the one asked for last; 0 makes each here. The batches are the same.
    `rows` are the parts of every batch that are wanted, each a batch of its own; by default the whole. `pin` leaves
    them where a GPU fetches them by itself.
    """

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        seed: int,
        *,
        workers: int = 0,
        rows: Sequence[Sequence[int]] | None = None,
        pin: bool = False,
    ) -> None:
        self.samples, self.label_weight, self.workers = samples, samples.label_weight(), workers
        self.pin = pin
        self.rows = rows or (range(batch_size),)
        self._sampler = samples.sampler(batch_size, seed)
        self._ahead: Iterator[ModelInputs | SvmsError] | None = None
        self._next = 0

    def __call__(self, number: int) -> ModelInputs:
        """The first part of batch `number`, from 0: the whole of it unless `rows` says otherwise."""
        return self.parts(number)[0]

    def parts(self, number: int) -> tuple[ModelInputs, ...]:
        """The parts of batch `number`."""
        if self.workers == 0:
            made = [self.samples.batch(chosen, self.label_weight) for chosen in self._chosen(number)]
            return tuple(part.pin_memory() if self.pin else part for part in made)
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
                _Caught(self.samples),
                batch_sampler=self._prepared(number),  # type: ignore[arg-type]
                num_workers=self.workers,
                pin_memory=self.pin,
                collate_fn=partial(_collated, label_weight=self.label_weight),
            )
        )

    def _prepared(self, number: int) -> Iterator[list[Draw]]:
        """The parts from batch `number` on, each with its cached states in place before a worker hears of it."""
        for n in count(number):
            for part in self._chosen(n):
                self.samples.prepare(part)
                yield part

    def close(self) -> None:
        """Stop the workers; the next call starts new ones."""
        self._ahead = None


class _Caught(Dataset[Sample | SvmsError]):
    """Hands errors over as values: the way out of a worker would turn them into another type with a long text."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __getitem__(self, index: int) -> Sample | SvmsError:
        try:
            return self._samples[index]
        except SvmsError as error:
            return error


def _collated(items: Sequence[Sample | SvmsError], label_weight: Float[Tensor, " S"] | None) -> ModelInputs | SvmsError:
    samples = [item for item in items if isinstance(item, Sample)]
    bad = [item for item in items if isinstance(item, SvmsError)]
    return bad[0] if bad else collate(samples, label_weight)


def in_order(samples: Samples, batch_size: int) -> Iterator[list[int]]:
    """Every sample once, in order: what validation reads."""
    for start in range(0, len(samples), batch_size):
        yield list(range(start, min(start + batch_size, len(samples))))
