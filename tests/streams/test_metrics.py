"""Metrics against definitions written the slow way, and against lazy classifiers that must not score."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svms_gr00t.core.errors import DataError
from svms_gr00t.streams.metrics import (
    auroc,
    average_precision,
    balanced_accuracy,
    route_information,
    routing_entropy,
    specialisation,
    token_scores,
)

LAWS = settings(max_examples=50, deadline=None, derandomize=True)
SCORED = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30)


def arrays(scored: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    score, truth = zip(*scored, strict=True)
    return np.array(score, dtype=float), np.array(truth)


@LAWS
@given(SCORED)
def test_auroc_is_the_chance_that_a_positive_wins(scored):
    score, truth = arrays(scored)
    pairs = [(p > n) + 0.5 * (p == n) for p in score[truth] for n in score[~truth]]
    if pairs:
        assert auroc(score, truth) == pytest.approx(np.mean(pairs))
    else:
        assert math.isnan(auroc(score, truth))


@LAWS
@given(SCORED)
def test_average_precision_is_the_sum_over_thresholds(scored):
    score, truth = arrays(scored)
    if not truth.any():
        assert math.isnan(average_precision(score, truth))
        return
    area, before = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        chosen = score >= threshold
        recall = truth[chosen].sum() / truth.sum()
        area, before = area + (recall - before) * truth[chosen].mean(), recall
    assert average_precision(score, truth) == pytest.approx(area)


def test_never_saying_state_is_not_an_achievement():
    truth = np.arange(1000) < 50
    lazy = np.zeros(1000)
    assert (lazy.astype(bool) == truth).mean() == 0.95  # what plain accuracy would print
    assert balanced_accuracy(lazy > 0, truth) == 0.5
    assert auroc(lazy, truth) == 0.5
    assert average_precision(lazy, truth) == pytest.approx(0.05)  # the prior


def test_token_scores_count_masked_tokens_and_labelled_streams():
    rng = np.random.default_rng(0)
    labels = (rng.random((2, 50, 3)) < 0.3).astype(np.float32)
    logits = np.concatenate([2 * labels - 1, rng.normal(size=(2, 50, 1))], axis=-1).astype(np.float32)
    mask = rng.random((2, 50)) < 0.5
    logits[~mask] *= -1
    scores = token_scores(logits, labels, mask, ("visual", "temporal", "state", "safety"))
    assert list(scores) == ["visual", "temporal", "state"]
    assert all(s.balanced_accuracy == s.auroc == s.average_precision == 1 for s in scores.values())
    assert scores["visual"].tokens == mask.sum()
    assert scores["visual"].prior == pytest.approx(labels[mask][:, 0].mean())
    assert token_scores(logits, labels, ~mask, ("v", "t", "s", "x"))["v"].auroc == 0
    nothing = token_scores(logits, labels, np.zeros_like(mask), ("v", "t", "s", "x"))["v"]
    assert nothing.tokens == 0
    assert math.isnan(nothing.auroc)
    with pytest.raises(DataError, match="3 columns"):
        token_scores(logits[..., :2], labels, mask, ("v", "t"))


def test_routing_entropy_at_its_ends():
    mask = np.array([[True, True, False]])
    assert routing_entropy(np.full((1, 3, 4), 0.25), mask) == pytest.approx(1)
    assert routing_entropy(np.eye(3)[None], mask) == 0
    half = np.array([[[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]]])
    assert routing_entropy(half, mask) == pytest.approx(0.5)


def test_route_information_at_its_ends_and_its_bias():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 3000)
    told = route_information(np.eye(3)[group], group)
    assert told.share == pytest.approx(1)
    assert told.information == pytest.approx(math.log(3), abs=0.01)
    runs = [route_information(rng.random((300, 3)), rng.integers(0, 3, 300)) for _ in range(200)]
    assert np.mean([r.information for r in runs]) == pytest.approx(runs[0].chance, rel=0.15)
    assert route_information(np.full((300, 3), 1 / 3), rng.integers(0, 3, 300), soft=True).information < 1e-12
    assert route_information(rng.random((30, 3)), np.zeros(30, dtype=int)).share == 0


def test_specialisation_finds_the_diagonal_and_only_it():
    rng = np.random.default_rng(0)
    labels = (rng.random((2000, 3)) < [0.5, 0.2, 0.05]).astype(np.float64)
    streams = rng.normal(size=(2000, 3, 8))
    for s in range(3):
        streams[:, s, 3] += 4 * labels[:, s]
    train = np.arange(2000) < 1200
    found = specialisation(streams, labels, train)
    assert np.diagonal(found.matrix).min() > 0.85
    assert abs(found.matrix[~np.eye(3, dtype=bool)] - 0.5).max() < 0.15
    assert found.dominance > 0.3
    shuffled = specialisation(streams[:, [1, 2, 0]], labels, train)
    assert shuffled.dominance < -0.3
    noise = specialisation(streams, labels[rng.permutation(2000)], train)
    assert abs(noise.matrix - 0.5).max() < 0.15


def test_probes_are_weighted_ridge_regression_with_a_free_constant():
    """Against the normal equations: ±1, both classes weighing the same, the constant unpunished."""
    rng = np.random.default_rng(3)
    labels = (rng.random((300, 1)) < 0.2).astype(float)
    x = rng.normal(size=(300, 6)) + 1.2 * labels
    x[:, 5] = 3.0  # a constant feature
    train = np.arange(300) < 200
    found = specialisation(x[:, None], labels, train, ridge=2.0).matrix[0, 0]
    truth = labels[:, 0] > 0.5
    spread = np.where(x[train].std(0) > 0, x[train].std(0), 1.0)
    z = np.append((x - x[train].mean(0)) / spread, np.ones((300, 1)), axis=1)
    weight = np.where(truth[train], 0.5 / truth[train].sum(), 0.5 / (~truth[train]).sum()) * train.sum()
    normal = z[train].T @ (weight[:, None] * z[train]) + 2.0 * np.diag([1.0] * 6 + [0.0])
    solved = np.linalg.solve(normal, z[train].T @ (weight * np.where(truth[train], 1, -1)))
    assert found == pytest.approx(balanced_accuracy(z[~train] @ solved > 0, truth[~train]))
    assert 0.7 < found < 0.95


def test_one_class_is_not_measured_and_scores_that_are_no_numbers_are_refused():
    every, none = np.ones(4, dtype=bool), np.zeros(4, dtype=bool)
    scores = np.array([0.1, 0.2, 0.3, 0.4])
    for truth in (every, none, np.zeros(0, dtype=bool)):
        assert math.isnan(balanced_accuracy(scores[: len(truth)] > 0.2, truth))
        assert math.isnan(auroc(scores[: len(truth)], truth))
    assert average_precision(scores, every) == 1.0
    assert math.isnan(average_precision(scores, none))
    for measure in (auroc, average_precision):
        with pytest.raises(DataError, match="1 of 4 not finite"):
            measure(np.array([0.1, np.nan, 0.3, 0.4]), np.array([True, False, True, False]))


@pytest.mark.whole
def test_scikit_learn_waits_until_something_is_scored():
    modules = "svms_gr00t, svms_gr00t.streams.metrics, svms_gr00t.recipes.training.run, svms_gr00t.cli.main"
    code = f"import sys, {modules}; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
