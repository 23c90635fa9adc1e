"""Several datasets of one robot, mixed by weight; RoboCasa's soups by name.

A part is written PATH, PATH*WEIGHT, PATH@N_demos or PATH@N_demos*WEIGHT; a soup is NAME, looked up under a folder laid
out as RoboCasa365 publishes it. Without weights a part counts as (number of its steps) ** alpha; 0.4 is what RoboCasa's
own runs use, 1 draws every step equally often, 0 every dataset.

Axes: M draws of a block, S datasets.

Draws come in blocks of M: evenly spaced quantiles of the weights, shuffled with (seed, block), so that every block
holds each dataset's share to within one draw. Within a dataset each step comes once an epoch. Draw n is a function of
(sizes, weights, seed, n) alone: a resume needs only n.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.robocasa import filter_episodes, soup_folders
from svms_gr00t.data.lerobot.sound import Skipped, open_sound
from svms_gr00t.data.loading.sampler import Draw
from svms_gr00t.data.processor.embodiment import EmbodimentConfig
from svms_gr00t.data.processor.statistics import RunningStatistics, Statistics

ALPHA = 0.4
_BLOCK = 1024
_PART = re.compile(r"(?P<path>.+?)(@(?P<key>[^@*]+))?(\*(?P<weight>[0-9.eE+-]+))?$")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One dataset of a mixture."""

    path: Path
    """Its folder."""
    weight: float | None = None
    """Share of the draws, relative to the other weights; None takes it from the size."""
    filter_key: str | None = None
    """RoboCasa's subset "N_demos"."""

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 < self.weight < float("inf"):
            hint = "Leave a dataset out instead of giving it no weight"
            raise ConfigError(f"weight of {self.path}", got=self.weight, want="a number above 0", hint=hint)

    @classmethod
    def parse(cls, text: str) -> "Part":
        """PATH, PATH*WEIGHT, PATH@N_demos or PATH@N_demos*WEIGHT; a folder's own name wins. Raises ConfigError."""
        if Path(text).is_dir():
            return cls(path=Path(text))
        found = _PART.fullmatch(text.strip())
        if found is None:
            raise ConfigError("mixture", got=text, want="PATH[@N_demos][*WEIGHT]", hint="Such as data/open_drawer*2")
        try:
            weight = float(found["weight"]) if found["weight"] else None
        except ValueError as error:
            raise ConfigError("mixture", got=text, want="a number after *", hint="Such as *0.5") from error
        return cls(path=Path(found["path"]), weight=weight, filter_key=found["key"])


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Opened datasets with the share of the draws that each gets."""

    datasets: tuple[LeRobotDataset, ...]
    """Restricted to their filter keys, without broken episodes."""
    weights: tuple[float, ...]
    """Shares, which sum to 1."""
    skipped: tuple[tuple[Skipped, ...], ...]
    """Broken episodes that were left out, by dataset."""

    def statistics(
        self,
        episodes: Sequence[Sequence[int]] | None = None,
        *,
        embodiment: EmbodimentConfig | None = None,
        progress: Progress | None = None,
    ) -> Statistics:
        """Statistics over all datasets, every step once: ranges must cover all data however often it is drawn."""
        running = RunningStatistics(embodiment)
        chosen = episodes or [[e.index for e in dataset.episodes] for dataset in self.datasets]
        with (progress or Silent()).task("statistics", sum(map(len, chosen))) as task:
            for dataset, indices in zip(self.datasets, chosen, strict=True):
                for index in indices:
                    running.update(dataset.lowdim(index))
                    task.advance()
        return running.result()


def open_mixture(
    parts: Sequence[Part], *, alpha: float = ALPHA, seed: int = 0, progress: Progress | None = None
) -> Mixture:
    """Open every part and weigh it. Weights are given for all parts or for none.

    `seed` draws the subsets of filter keys. Raises DataError for datasets that do not go together, ConfigError for
    half-given weights.
    """
    given = [part.weight for part in parts if part.weight is not None]
    if not parts or len(given) not in (0, len(parts)):
        got, hint = f"{len(given)} weights for {len(parts)} datasets", "Give one to each, or to none"
        raise ConfigError("mixture", got=got, want="all or none, for at least one dataset", hint=hint)
    roots = [(part.path.resolve(), part.filter_key) for part in parts]
    if twice := [path for path, _ in roots if roots.count((path, None)) > 1]:
        hint = "Give it once, with a larger weight"
        raise ConfigError("mixture", got=f"{twice[0]} twice", want="each dataset once", hint=hint)
    datasets, skipped = [], []
    for part in parts:
        dataset, left_out = open_sound(part.path, progress=progress)
        if part.filter_key is not None:
            sound, broken = {e.index for e in dataset.episodes}, {one.episode for one in left_out}
            chosen = set(filter_episodes(sorted(sound | broken), part.filter_key, seed=seed))
            dataset = dataset.only(sound & chosen)
            left_out = tuple(one for one in left_out if one.episode in chosen)
        datasets.append(dataset)
        skipped.append(left_out)
    _check_alike(datasets)
    sizes = np.array([sum(e.length for e in dataset.episodes) for dataset in datasets], dtype=np.float64)
    raw = np.array(given) if given else sizes**alpha
    weights = tuple(float(w) for w in raw / raw.sum())
    return Mixture(datasets=tuple(datasets), weights=weights, skipped=tuple(skipped))


def soup(root: Path, name: str) -> tuple[Part, ...]:
    """The parts of RoboCasa's soup `name` that are under `root`. Raises ConfigError or DataError."""
    folders, filter_key = soup_folders(root, name)
    return tuple(Part(path=folder, filter_key=filter_key) for folder in folders)


def _check_alike(datasets: Sequence[LeRobotDataset]) -> None:
    """One robot: the same keys, widths and frame rate everywhere."""
    first = datasets[0]
    for dataset in datasets[1:]:
        for kind in ("state", "action"):
            mine, other = ({k: e.width for k, e in getattr(d.modality, kind).items()} for d in (first, dataset))
            if mine != other:
                got, want = f"{kind} keys {other}", f"{mine} as in {first.root}"
                raise DataError(dataset.root, got=got, want=want, hint="Mix datasets of one robot; name keys alike")
        if dataset.fps != first.fps:
            got, want = f"{dataset.fps:g} steps a second", f"{first.fps:g} as in {first.root}"
            raise DataError(dataset.root, got=got, want=want, hint="Resample one of them")
        if missing := [view for view in first.views if view not in dataset.views]:
            hint = "Name the cameras alike in modality.json"
            raise DataError(dataset.root, got=f"no camera {missing[0]}", want="the cameras of the first", hint=hint)


class MixedSampler:
    """Batches of indices into datasets put one after the other; fits where `ResumableSampler` does."""

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], batch_size: int, seed: int = 0) -> None:
        """`sizes` are steps of each dataset. Raises ConfigError unless all numbers are positive."""
        if len(sizes) != len(weights) or min([*sizes, batch_size, *weights], default=0) <= 0:
            hint = "Give every dataset steps and a weight"
            raise ConfigError("mixture", got=(tuple(sizes), tuple(weights)), want="positive numbers", hint=hint)
        self.sizes, self.batch_size, self.seed = tuple(sizes), batch_size, seed
        self._edges = np.cumsum(weights) / np.sum(weights)
        self._starts = np.cumsum([0, *sizes])
        self._before = [np.zeros(len(sizes), dtype=np.int64)]  # draws of each dataset before each block
        self._kinds: dict[int, np.ndarray] = {}
        self._orders: dict[int, tuple[int, np.ndarray]] = {}
        self.batch = 0
        """Batches handed out."""

    def __iter__(self) -> Iterator[list[int]]:
        while True:
            yield next(self)

    def __next__(self) -> list[int]:
        start = self.batch * self.batch_size
        self.batch += 1
        return [self._draw(number) for number in range(start, start + self.batch_size)]

    def _block(self, block: int) -> Int[np.ndarray, " M"]:
        """Which dataset each draw of a block takes."""
        if block not in self._kinds:
            rng = np.random.default_rng([self.seed, 1, block])
            places = (np.arange(_BLOCK) + rng.random()) / _BLOCK
            kinds = np.minimum(np.searchsorted(self._edges, places, side="right"), len(self.sizes) - 1)
            self._kinds = {block: rng.permutation(kinds)}
        return self._kinds[block]

    def _draw(self, number: int) -> Draw:
        block, place = divmod(number, _BLOCK)
        while len(self._before) <= block:
            counts = np.bincount(self._block(len(self._before) - 1), minlength=len(self.sizes))
            self._before.append(self._before[-1] + counts)
        kinds = self._block(block)
        kind = int(kinds[place])
        nth = int(self._before[block][kind] + (kinds[:place] == kind).sum())
        epoch, at = divmod(nth, self.sizes[kind])
        if self._orders.get(kind, (-1,))[0] != epoch:
            order = np.random.default_rng([self.seed, 2, kind, epoch]).permutation(self.sizes[kind])
            self._orders[kind] = (epoch, order)
        return Draw(int(self._starts[kind] + self._orders[kind][1][at]), epoch)
