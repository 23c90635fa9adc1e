"""What the streams know and where the router looks, on held-out samples, as one JSON record.

Axes: B batch, T tokens, S streams, C labelled streams, D stream width, E edges, N tokens after masking.

Token classes: a word class for each label ("visual", "temporal", "state"; a word may be in several), "other words" for
instruction tokens without a label, "image", and "template" for what the prompt adds around them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from svms_gr00t.core.arrays import as_array
from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.core.types import Features, ModelInputs, StreamStates
from svms_gr00t.evaluate.open_loop.metrics import number
from svms_gr00t.streams.metrics import route_information, routing_entropy, specialisation, token_scores


@dataclass(frozen=True, kw_only=True)
class StreamBatch:
    """One forward pass on held-out samples, as numpy."""

    episodes: Int[ndarray, " B"]
    """Episode of each sample: probes are split by episode, never by token."""
    tasks: Int[ndarray, " B"]
    """A number for each sample's task."""
    mask: Bool[ndarray, "B T"]
    image_mask: Bool[ndarray, "B T"]
    label_mask: Bool[ndarray, "B T"]
    """Instruction tokens."""
    labels: Float[ndarray, "B T C"]
    logits: Float[ndarray, "B T S"]
    weights: Float[ndarray, "B T S"]
    rho: Float[ndarray, "B T E"]
    streams: Float[ndarray, "B T S D"]

    @classmethod
    def of(
        cls,
        states: StreamStates,
        features: Features,
        inputs: ModelInputs,
        *,
        episodes: Iterable[int],
        tasks: Iterable[int],
    ) -> "StreamBatch":
        """From a model's own records. Raises DataError when the inputs carry no labels."""
        if inputs.labels is None or inputs.label_mask is None:
            hint = "Give the step dataset a labeler"
            raise DataError("streams", got="inputs without token labels", want="labelled samples", hint=hint)
        arrays = {"mask": features.mask, "image_mask": features.image_mask, "label_mask": inputs.label_mask}
        arrays |= {"labels": inputs.labels, "logits": states.aux_logits, "weights": states.weights}
        arrays |= {"rho": states.rho, "streams": states.streams}
        numbers = {name: as_array(value) for name, value in arrays.items()}
        return cls(episodes=np.array(list(episodes)), tasks=np.array(list(tasks)), **numbers)


@dataclass(frozen=True, kw_only=True)
class LabelScore(JsonRecord):
    """How well a stream's own head finds its own tokens; None where a class is absent."""

    tokens: int
    prior: float | None
    """Share of positives: the average precision of a coin."""
    balanced_accuracy: float | None
    average_precision: float | None
    auroc: float | None


@dataclass(frozen=True, kw_only=True)
class RouteShare(JsonRecord):
    """Mean router weights over the tokens of one class."""

    tokens: int
    routes: tuple[float, ...]
    """One for each stream; they sum to 1."""


@dataclass(frozen=True, kw_only=True)
class RhoStats(JsonRecord):
    """Disagreement over valid tokens on one edge, in [0, 2]."""

    mean: float
    median: float
    p90: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class StreamReport(JsonRecord):
    """Everything that is said about the streams."""

    streams: tuple[str, ...]
    edges: tuple[str, ...]
    samples: int
    scores: dict[str, LabelScore]
    """By labelled stream."""
    shares: dict[str, RouteShare]
    """By token class; classes without tokens are absent."""
    specialisation: tuple[tuple[float | None, ...], ...] | None
    """Rows: stream read; columns: label probed; balanced accuracy. None with fewer than two episodes."""
    dominance: float | None
    """Mean lead of the right stream over the best other one on the diagonal of `specialisation`."""
    rho: dict[str, RhoStats]
    effective_rank: dict[str, tuple[float, float]] | None
    """Of each edge's (tail, head) projections; low rho counts only while these stay up. None: not measured."""
    entropy: float | None
    """Of the routes over log S: 1 uniform, 0 a hard choice."""
    type_information: float | None
    """Share of an instruction token's class that its route tells, in [0, 1]."""
    task_information: float | None
    """Share of the task that an instruction token's route tells, in [0, 1]."""


def evaluate_streams(
    batches: Iterable[StreamBatch],
    *,
    streams: tuple[str, ...],
    edges: tuple[str, ...],
    effective_rank: Mapping[str, tuple[float, float]] | None = None,
    probe_tokens: int = 20_000,
) -> StreamReport:
    """Pool the batches and score them; at most `probe_tokens` tokens train and test the probes. DataError for none."""
    tokens = _Tokens.pool(batches)
    names = streams[: tokens.labels.shape[1]]
    matrix = _specialisation(tokens, probe_tokens)
    kind = np.where(tokens.labels.max(1) > 0.5, tokens.labels.argmax(1), len(names))
    words = tokens.words
    return StreamReport(
        streams=streams,
        edges=edges,
        samples=tokens.samples,
        scores=_scores(tokens, names),
        shares=_shares(tokens, names),
        specialisation=None if matrix is None else tuple(tuple(number(v) for v in row) for row in matrix.matrix),
        dominance=None if matrix is None else number(matrix.dominance),
        rho={edge: _rho(tokens.rho[:, e]) for e, edge in enumerate(edges)},
        effective_rank=dict(effective_rank) if effective_rank is not None else None,
        entropy=number(routing_entropy(tokens.weights[None], np.ones((1, len(tokens.weights)), bool))),
        type_information=_information(tokens.weights[words], kind[words]),
        task_information=_information(tokens.weights[words], tokens.task[words]),
    )


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """Valid tokens of all batches in one row."""

    samples: int
    episode: ndarray
    task: ndarray
    words: ndarray
    image: ndarray
    labels: ndarray
    logits: ndarray
    weights: ndarray
    rho: ndarray
    streams: ndarray
    """Of words only: the probes need no others, and they are wide."""

    @classmethod
    def pool(cls, batches: Iterable[StreamBatch]) -> "_Tokens":
        rows: dict[str, list[ndarray]] = {}
        samples = 0
        for b in batches:
            samples += len(b.episodes)
            words = b.mask & b.label_mask
            found = {
                "episode": np.broadcast_to(b.episodes[:, None], b.mask.shape)[b.mask],
                "image": b.image_mask[b.mask],
            }
            found |= {"task": np.broadcast_to(b.tasks[:, None], b.mask.shape)[b.mask], "words": words[b.mask]}
            found |= {"labels": b.labels[b.mask], "logits": b.logits[b.mask], "weights": b.weights[b.mask]}
            found |= {"rho": b.rho[b.mask], "streams": b.streams[words]}
            for name, value in found.items():
                rows.setdefault(name, []).append(value)
        if not samples:
            raise DataError("streams", got="no samples", want="at least one batch", hint="Hold out some episodes")
        return cls(samples=samples, **{name: np.concatenate(values) for name, values in rows.items()})


def _scores(tokens: _Tokens, names: tuple[str, ...]) -> dict[str, LabelScore]:
    logits, labels = tokens.logits[None].astype(float), tokens.labels[None].astype(float)
    found = token_scores(logits, labels, tokens.words[None], names)
    measured = ("prior", "balanced_accuracy", "average_precision", "auroc")
    return {
        name: LabelScore(tokens=s.tokens, **{m: number(getattr(s, m)) for m in measured}) for name, s in found.items()
    }


def _shares(tokens: _Tokens, names: tuple[str, ...]) -> dict[str, RouteShare]:
    positive = (tokens.labels > 0.5) & tokens.words[:, None]
    classes = {name: positive[:, c] for c, name in enumerate(names)}
    classes |= {"other words": tokens.words & ~positive.any(1), "image": tokens.image}
    classes["template"] = ~tokens.words & ~tokens.image
    return {
        name: RouteShare(tokens=int(chosen.sum()), routes=tuple(tokens.weights[chosen].astype(float).mean(0).tolist()))
        for name, chosen in classes.items()
        if chosen.any()
    }


def _specialisation(tokens: _Tokens, most: int) -> Any:
    """Probes trained on even-ranked episodes and scored on odd-ranked ones; None when there is only one episode."""
    episode, labels = tokens.episode[tokens.words], tokens.labels[tokens.words]
    numbers = np.unique(episode)
    if len(numbers) < 2:
        return None
    stride = max(1, -(-len(episode) // most))
    train = np.isin(episode, numbers[::2])[::stride]
    if train.all() or not train.any():
        return None
    return specialisation(tokens.streams[::stride].astype(float), labels[::stride].astype(float), train)


def _rho(values: ndarray) -> RhoStats:
    values = values.astype(float)
    median, p90, p99 = np.quantile(values, [0.5, 0.9, 0.99]).tolist()
    return RhoStats(mean=float(values.mean()), median=median, p90=p90, p99=p99)


def _information(weights: ndarray, group: ndarray) -> float | None:
    if len(np.unique(group)) < 2:
        return None
    return number(route_information(weights.astype(float), group, soft=True).share)
