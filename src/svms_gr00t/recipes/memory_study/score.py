"""Open loop where the past decides: error of the chunk's executed part at deciding steps of held-out episodes.

Axes: B samples, H horizon, Da action width.

The whole chunk over all steps hides memory: most steps need none. The chunk that is scored is the mean of several
draws, so that the sampler's own noise does not count; noise and flow time of a sample depend on its number alone.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.loading.samples import At, SampleDataset
from svms_gr00t.model import Gr00tN1d6

DRAWS = 4
"""Chunks whose mean is scored, and flow times whose losses are averaged."""
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class DecidingScore(JsonRecord):
    """Means by held-out episode."""

    error: dict[int, float] = field(default_factory=dict)
    """Normalised squared error over the executed steps, at deciding steps."""
    flow: dict[int, float] = field(default_factory=dict)
    """Flow-matching loss at deciding steps."""
    elsewhere: dict[int, float] = field(default_factory=dict)
    """The error at a like number of other steps."""

    @property
    def mean(self) -> float:
        """Mean error over the episodes."""
        return sum(self.error.values()) / max(1, len(self.error))


@torch.no_grad()
def score(
    model: Gr00tN1d6, samples: SampleDataset, *, executed: int, every: int = 1, stray: bool = False
) -> DecidingScore:
    """Score a model on held-out samples. With `stray` each remembers another episode of the same instruction."""
    model.eval()
    deciding = sorted(number for numbers in samples.deciding_samples().values() for number in numbers)
    chosen = set(deciding)
    others = [number for number in range(len(samples)) if number not in chosen]
    deciding = deciding[::every]
    others = others[:: max(1, len(others) // max(1, len(deciding)))]
    error, flow = _means(model, samples, deciding, executed, stray)
    return DecidingScore(error=error, flow=flow, elsewhere=_means(model, samples, others, executed, stray)[0])


def _means(
    model: Gr00tN1d6, samples: SampleDataset, numbers: Sequence[int], executed: int, stray: bool
) -> tuple[dict[int, float], dict[int, float]]:
    errors, flows = defaultdict(list), defaultdict(list)
    for start in range(0, len(numbers), BATCH):
        part = numbers[start : start + BATCH]
        inputs = strayed(samples, part) if stray else samples.batch(part)
        for number, error, flow in zip(part, *_scored(model, inputs, part, executed), strict=True):
            episode = samples.places[number].episode
            errors[episode].append(error)
            flows[episode].append(flow)
    return tuple({e: sum(v) / len(v) for e, v in found.items()} for found in (errors, flows))  # type: ignore[return-value]


def _scored(
    model: Gr00tN1d6, inputs: ModelInputs, numbers: Sequence[int], executed: int
) -> tuple[list[float], list[float]]:
    device = next(model.action_head.parameters()).device
    inputs = inputs.to(device)
    assert inputs.action is not None
    assert inputs.action_mask is not None
    features, _ = model.encode(inputs, losses=False)
    head = model.action_head
    chunk, flow = torch.zeros_like(inputs.action), torch.zeros_like(inputs.action)
    for draw in range(DRAWS):
        noise = torch.stack([_normal(inputs.action.shape[1:], number, draw) for number in numbers]).to(device)
        time = torch.full((len(numbers),), (draw + 0.5) / DRAWS, device=device)
        chunk += head.sample(features, inputs.state, inputs.embodiment_id, noise=noise) / DRAWS
        flow += head.loss(features, inputs, noise=noise, time=time).per_element / DRAWS
    real = inputs.action_mask
    near = real * (torch.arange(real.shape[1], device=device) < executed)[:, None]
    error = ((chunk - inputs.action).square() * near).sum((1, 2)) / near.sum((1, 2)).clamp(min=1)
    return error.tolist(), (flow.sum((1, 2)) / real.sum((1, 2)).clamp(min=1)).tolist()


def strayed(samples: SampleDataset, numbers: Sequence[int]) -> ModelInputs:
    """The batch in which every sample remembers, at its own step, the next episode with the same instruction."""
    first = {at.episode: i - at.step for i, at in enumerate(samples.places)}
    words = {episode: samples.instruction(At(episode=episode, step=0)) for episode in samples.episodes}
    found = []
    for number in numbers:
        own, place = samples[number], samples.places[number]
        alike = [episode for episode in samples.episodes if words[episode] == words[place.episode]]
        other = alike[(alike.index(place.episode) + 1) % len(alike)]
        seen = samples[first[other] + min(place.step, samples.length(other) - 1)].earlier
        found.append(replace(own, earlier=tuple(a and b for a, b in zip(own.earlier, seen, strict=True))))
    return collate(found)


def _normal(size: Sequence[int], number: int, draw: int) -> Float[Tensor, "H Da"]:
    return torch.randn(*size, generator=torch.Generator().manual_seed(DRAWS * number + draw))
