"""Fills and checks a feature cache: the frozen part of the backbone, run once over every step.

    hidden = prefix(images, prompt, layer)        stored;   training runs suffix(hidden) from there

The cut is the highest language layer that no phase trains: 12 of 16 in N1.6, 2 of 3 in the tiny model. One cache then
serves all phases, and any model whose weights below the cut are the same.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from svms_gr00t.core.device import Dtype
from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.lock import only_one
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.loading.feature_cache import (
    CacheKey,
    CacheSize,
    FeatureCache,
    cache_size,
    image_fingerprint,
    prompt_fingerprint,
)
from svms_gr00t.data.loading.growing_cache import GrowingCache
from svms_gr00t.data.loading.samples import At, SampleDataset
from svms_gr00t.data.processor.processor import Processor, Sample
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.train.phases import PHASES, Phase

_LAYERS = "backbone.model.language_model.model.layers."
_NORM = "backbone.model.language_model.model.norm."
TOLERANCE = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 3e-2}
"""Largest relative error (Frobenius) between stored and recomputed states: rounding of the type, other batch shapes."""


@dataclass(frozen=True, kw_only=True)
class CacheReport:
    """What `verify_cache` found."""

    episodes: int
    """Episodes and copies whose checksum was compared."""
    damaged: tuple[str, ...]
    """Those that differ from their checksum."""
    recomputed: int
    """Steps computed again from pictures."""
    worst: float
    """Largest relative error among them."""
    tolerance: float
    """What the stored type allows."""

    @property
    def passed(self) -> bool:
        """Whether the cache says what the model says."""
        return not self.damaged and self.worst <= self.tolerance


def cache_layer(config: Gr00tN1d6Config, phases: Iterable[Phase] = tuple(PHASES.values())) -> int:
    """The highest cut below every language layer that one of the phases trains."""
    kept = config.select_layer
    return kept - max(phase.llm_layers(kept) for phase in phases)


def prefix_fingerprint(model: Gr00tN1d6, layer: int) -> str:
    """A hash of every weight below the cut: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        upper = name.startswith(_LAYERS) and int(name.removeprefix(_LAYERS).split(".")[0]) >= layer
        if not name.startswith("backbone.") or upper or name.startswith(_NORM):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def cache_key(
    model: Gr00tN1d6,
    dataset: LeRobotDataset,
    processor: Processor,
    *,
    dtype: Dtype = "bfloat16",
    variants: int = 0,
    seed: int = 0,
    layer: int | None = None,
) -> CacheKey:
    """What the states of this model over these demonstrations depend on, at the cut of all phases or at `layer`."""
    layer = cache_layer(model.config) if layer is None else layer
    return CacheKey(
        dataset=dataset.fingerprint(),
        checkpoint=prefix_fingerprint(model, layer),
        layer=layer,
        prompt=prompt_fingerprint(processor.tokenizer, processor.config),
        images=image_fingerprint(processor.config),
        dtype=dtype,
        variants=variants,
        seed=seed,
    )


def estimate_cache(
    dataset: SampleDataset, config: Gr00tN1d6Config, *, dtype: Dtype = "bfloat16", variants: int = 0
) -> CacheSize:
    """Disk that a cache of these episodes takes; one prompt of each instruction is tokenised, no model runs."""
    counts: Counter[str] = Counter()
    where: dict[str, At] = {}
    for episode in dataset.episodes:
        for step in range(dataset.length(episode)):
            at = At(episode=episode, step=step)
            counts[dataset.instruction(at)] += 1
            where.setdefault(dataset.instruction(at), at)
    tokens = [len(dataset.sample(where[text]).input_ids) for text in counts]
    return cache_size(
        tokens, list(counts.values()), width=config.backbone_embedding_dim, dtype=dtype, variants=variants
    )


def build_cache(
    model: Gr00tN1d6,
    dataset: SampleDataset,
    root: Path,
    *,
    dtype: Dtype = "bfloat16",
    variants: int = 0,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> FeatureCache:
    """Compute what is missing at `root`, episode by episode; an interrupted build goes on where it stopped.

    Raises DataError when `root` holds a cache of another model, data, prompt, image pipeline or type, or when another
    process builds there.
    """
    key = cache_key(model, dataset.dataset, dataset.processor, dtype=dtype, variants=variants, seed=dataset.seed)
    with only_one(root):
        into = FeatureCache.create(root, key)
        missing = into.missing(dataset.episodes)
        with (progress or Silent()).task("caching features", len(missing)) as task:
            for variant, episode in missing:
                store(model, dataset, into, variant, episode, batch_size=batch_size)
                task.advance()
    return into


def growing_cache(model: Gr00tN1d6, key: CacheKey, pictures: Callable[[], SampleDataset], root: Path) -> GrowingCache:
    """A cache at `root` that `model` fills from `pictures` as their steps are asked for; none are read before.

    Raises DataError when `root` holds a cache of another model, data, prompt, image pipeline or type.
    """
    once = cache(pictures)
    return GrowingCache.at(root, key, lambda into, variant, episode: store(model, once(), into, variant, episode))


def store(
    model: Gr00tN1d6,
    dataset: SampleDataset,
    into: FeatureCache,
    variant: int,
    episode: int,
    *,
    batch_size: int = 16,
) -> None:
    """Compute one episode under one draw of the augmentation, and write it."""
    states: list[Tensor] = []
    image_tokens: tuple[int, ...] = ()
    for first in range(0, dataset.length(episode), batch_size):
        last = min(first + batch_size, dataset.length(episode))
        samples = [_sample(dataset, into.key, variant, episode, step) for step in range(first, last)]
        image_tokens = tuple(height * width // 784 for height, width in samples[0].images.sizes)
        states += _states(model, samples, into.key.layer)
    into.write(variant, episode, states, image_tokens)


def verify_cache(
    model: Gr00tN1d6, dataset: SampleDataset, cache: FeatureCache, *, samples: int = 8, seed: int = 0
) -> CacheReport:
    """Compare every checksum, and `samples` random steps with what the model computes now.

    Raises DataError when the cache is not one of this model, data and pipeline, or is not complete.
    """
    dtype, variants, seeded = cache.key.dtype, cache.key.variants, cache.key.seed
    key = cache_key(model, dataset.dataset, dataset.processor, dtype=dtype, variants=variants, seed=seeded)
    cache = FeatureCache.open(cache.root, key)
    if missing := cache.missing(dataset.episodes):
        got, hint = f"{len(missing)} episodes of a copy missing", "Run data cache build again; it goes on"
        raise DataError(cache.root, got=got, want="all of them", hint=hint)
    pairs = [(variant, episode) for variant in range(key.variants + 1) for episode in dataset.episodes]
    damaged = tuple(f"v{v:02d}/episode {e}" for v, e in pairs if cache.damaged(v, e))
    rng, worst = np.random.default_rng(seed), 0.0
    model.eval()
    for _ in range(samples):
        variant, episode = pairs[int(rng.integers(len(pairs)))]
        step = int(rng.integers(dataset.length(episode)))
        (fresh,) = _states(model, [_sample(dataset, key, variant, episode, step)], key.layer)
        stored = cache.read(variant, episode, step).float()
        fresh = fresh.float().cpu()
        same = stored.shape == fresh.shape
        worst = max(worst, float((stored - fresh).norm() / fresh.norm()) if same else float("inf"))
    tolerance = TOLERANCE[key.dtype]
    return CacheReport(episodes=len(pairs), damaged=damaged, recomputed=samples, worst=worst, tolerance=tolerance)


def _sample(dataset: SampleDataset, key: CacheKey, variant: int, episode: int, step: int) -> Sample:
    """The step under the draw of its copy: a function of (seed, copy, episode) alone."""
    rng = np.random.default_rng([key.seed, variant, episode]) if variant else None
    return dataset.glimpse(At(episode=episode, step=step), rng)


@torch.no_grad()
def _states(model: Gr00tN1d6, samples: Sequence[Sample], layer: int) -> list[Tensor]:
    """Hidden states of each sample, padding cut off, in the weights' own type whatever stands around."""
    first = next(model.backbone.parameters())
    inputs = collate(samples).to(first.device)
    with torch.autocast(first.device.type, enabled=False):
        hidden = model.backbone.prefix(inputs.images, inputs.input_ids, inputs.attention_mask, layer)
    return [row[-len(sample.input_ids) :] for row, sample in zip(hidden, samples, strict=True)]
