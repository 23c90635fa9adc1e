"""What each stream knows and what the router does with it, in numbers that a rare class cannot flatter.

Axes: B batch, T tokens, S streams, C labelled streams, D stream width, N tokens after masking, G groups.

"State" is about 5 % of instruction tokens, so "never" scores 95 % plain accuracy. Here chance is always 0.5 (balanced
accuracy, AUROC) or the class prior (average precision), and the prior is reported beside them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from svms_gr00t.core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class StreamScore:
    """How well one stream finds its own tokens. NaN where a class is absent, never a made-up number."""

    tokens: int
    """Labelled tokens."""
    prior: float
    """Share of positives: what average precision gives a coin."""
    balanced_accuracy: float
    """Mean of the hit rates of positives and negatives at logit 0."""
    average_precision: float
    auroc: float


def token_scores(
    logits: Float[ndarray, "B T S"],
    labels: Float[ndarray, "B T C"],
    mask: Bool[ndarray, "B T"],
    names: tuple[str, ...],
) -> dict[str, StreamScore]:
    """One score for each labelled stream, over masked tokens. Raises DataError when labels outnumber streams."""
    if labels.shape[-1] > logits.shape[-1]:
        raise DataError(
            "labels", got=f"{labels.shape[-1]} columns", want=f"at most {logits.shape[-1]}", hint="One a stream"
        )
    scored = {}
    for c, name in zip(range(labels.shape[-1]), names, strict=False):
        score, truth = logits[..., c][mask], labels[..., c][mask] > 0.5
        scored[name] = StreamScore(
            tokens=truth.size,
            prior=float(truth.mean()) if truth.size else float("nan"),
            balanced_accuracy=balanced_accuracy(score > 0, truth),
            average_precision=average_precision(score, truth),
            auroc=auroc(score, truth),
        )
    return scored


def balanced_accuracy(guess: Bool[ndarray, " N"], truth: Bool[ndarray, " N"]) -> float:
    """Mean of sensitivity and specificity; 0.5 for any constant guess. NaN when `truth` knows one class only."""
    from sklearn.metrics import balanced_accuracy_score

    return float(balanced_accuracy_score(truth, guess)) if _two_classes(truth) else float("nan")


def average_precision(score: Float[ndarray, " N"], truth: Bool[ndarray, " N"]) -> float:
    """Σ (R_i - R_{i-1}) P_i over distinct thresholds, without interpolation; tied scores move together.

    NaN without positives. Raises DataError for scores that are not finite, as `auroc` does.
    """
    from sklearn.metrics import average_precision_score

    _check_finite(score)
    return float(average_precision_score(truth, score)) if truth.any() else float("nan")


def auroc(score: Float[ndarray, " N"], truth: Bool[ndarray, " N"]) -> float:
    """Chance that a positive outscores a negative, ties counted half. NaN when `truth` knows one class only."""
    from sklearn.metrics import roc_auc_score

    _check_finite(score)
    return float(roc_auc_score(truth, score)) if _two_classes(truth) else float("nan")


def _two_classes(truth: Bool[ndarray, " N"]) -> bool:
    return bool(truth.any() and not truth.all())


def _check_finite(score: Float[ndarray, " N"]) -> None:
    if not np.isfinite(score).all():
        got, hint = f"{int((~np.isfinite(score)).sum())} of {score.size} not finite", "Check the checkpoint"
        raise DataError("scores", got=got, want="finite numbers", hint=hint)


def routing_entropy(weights: Float[ndarray, "B T S"], mask: Bool[ndarray, "B T"]) -> float:
    """Mean entropy of a valid token's weights, over log S: 1 is uniform, 0 a hard choice."""
    w = weights[mask].astype(np.float64)
    if not w.size:
        return float("nan")
    terms = np.where(w > 0, w * np.log(np.where(w > 0, w, 1.0)), 0.0)
    return float(-terms.sum(-1).mean() / np.log(w.shape[-1]))


@dataclass(frozen=True, kw_only=True)
class RouteInformation:
    """Does the route depend on the group (token type, task)? In nats."""

    information: float
    """Plug-in mutual information."""
    chance: float
    """What independence shows on average at this sample size, (R - 1)(G - 1) / 2N (Miller 1955); 0 for soft routes."""
    share: float
    """Information over the entropy of the groups: 1 when the route tells the group."""


def route_information(
    weights: Float[ndarray, "N S"], group: Int[ndarray, " N"], *, soft: bool = False
) -> RouteInformation:
    """Mutual information of route and group over N tokens. Route: the largest weight, or (soft) one drawn from them."""
    w = weights.astype(np.float64)
    chosen = w / w.sum(-1, keepdims=True) if soft else np.eye(w.shape[-1])[w.argmax(-1)]
    joint = np.stack([chosen[group == g].sum(0) for g in np.unique(group)]) / len(group)
    groups, routes = joint.sum(1), joint.sum(0)
    inside = joint > 0
    independent = np.outer(groups, routes)
    information = float(np.sum(joint[inside] * np.log(joint[inside] / independent[inside])))
    entropy = float(-np.sum(groups * np.log(groups)))
    return RouteInformation(
        information=information,
        chance=0.0 if soft else (int((routes > 0).sum()) - 1) * (len(groups) - 1) / (2 * len(group)),
        share=information / entropy if entropy > 0 else 0.0,
    )


@dataclass(frozen=True, kw_only=True)
class Specialisation:
    """Rows: the stream that is read. Columns: the label that a linear probe finds in it."""

    matrix: Float[ndarray, "S C"]
    """Balanced accuracy of the probes on held-out tokens; 0.5 is chance."""

    @property
    def dominance(self) -> float:
        """Mean over labels of (own stream - best other stream); above 0 when each stream knows its own label best."""
        own = np.diagonal(self.matrix)
        others = self.matrix[:, : len(own)].copy()
        np.fill_diagonal(others, -np.inf)
        return float((own - others.max(0)).mean())


def specialisation(
    streams: Float[ndarray, "N S D"], labels: Float[ndarray, "N C"], train: Bool[ndarray, " N"], *, ridge: float = 1.0
) -> Specialisation:
    """Probe every stream for every label: fit on `train` tokens, score on the rest. Split by episode, not by token.

    A probe is ridge regression on ±1 of standardised features, both classes weighing the same.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.preprocessing import StandardScaler

    truth = labels > 0.5
    matrix = np.full((streams.shape[1], labels.shape[1]), np.nan)
    for s in range(streams.shape[1]):
        x = StandardScaler().fit(streams[train, s].astype(np.float64)).transform(streams[:, s].astype(np.float64))
        for c in range(labels.shape[1]):
            if _two_classes(truth[train, c]):
                probe = RidgeClassifier(alpha=ridge, class_weight="balanced").fit(x[train], truth[train, c])
                matrix[s, c] = balanced_accuracy(probe.predict(x[~train]), truth[~train, c])
    return Specialisation(matrix=matrix)
