"""Stream evidence on planted facts: what was put in must come out, and nothing else."""

import numpy as np
import pytest
import torch

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.svms_config import SvmsConfig
from svms_gr00t.core.types import Features, ModelInputs
from svms_gr00t.evaluate.streams.report import StreamBatch, StreamReport, evaluate_streams
from svms_gr00t.evaluate.streams.routing import grid_of, paint_routes, patch_routes, word_routes
from svms_gr00t.svms import SheafStreams

NAMES, EDGES = ("visual", "temporal", "state"), ("visual-temporal", "temporal-state")


def planted(*, episodes: int = 6, specialised: bool = True, seed: int = 0) -> StreamBatch:
    """8 tokens: padding, template, 2 image, 4 words. Stream s holds label s (or nothing), and words route to it."""
    rng = np.random.default_rng(seed)
    b, t = episodes * 8, 8
    mask = np.ones((b, t), bool)
    mask[:, 0] = False
    image, words = np.zeros((b, t), bool), np.zeros((b, t), bool)
    image[:, 2:4], words[:, 4:] = True, True
    label = rng.integers(0, 4, (b, t))
    labels = np.eye(4)[label][..., :3] * words[..., None]
    streams = rng.normal(size=(b, t, 3, 5))
    streams[..., 0] += 6 * specialised * labels
    weights = np.full((b, t, 3), 1 / 3)
    weights[words] = (0.1 + 0.7 * np.eye(4)[label][..., :3] + 0.7 / 3 * (label == 3)[..., None])[words]
    weights[image] = (0.8, 0.1, 0.1)
    weights[~mask] = 0
    rho = np.where(mask[..., None], rng.uniform(0, 0.2, (b, t, 2)) + np.array([0, 0.5]), 0)
    streams[~mask] = np.nan  # padding must not be read
    return StreamBatch(
        episodes=np.repeat(np.arange(episodes), 8),
        tasks=np.repeat(np.arange(episodes) % 2, 8),
        mask=mask,
        image_mask=image,
        label_mask=words,
        labels=labels,
        logits=(labels - 0.5) * 4,
        weights=weights,
        rho=rho,
        streams=streams,
    )


def test_planted_facts_come_out():
    found = evaluate_streams([planted(), planted(seed=1)], streams=NAMES, edges=EDGES)
    assert found.samples == 96
    assert all(score.balanced_accuracy == 1 for score in found.scores.values())
    assert found.scores["state"].prior == pytest.approx(0.25, abs=0.06)
    assert found.shares["image"].routes == pytest.approx((0.8, 0.1, 0.1))
    assert found.shares["temporal"].routes == pytest.approx((0.1, 0.8, 0.1))
    assert found.shares["other words"].routes == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert all(sum(share.routes) == pytest.approx(1) for share in found.shares.values()), "padding would pull it down"
    assert found.rho["visual-temporal"].mean == pytest.approx(0.1, abs=0.02)
    assert found.rho["temporal-state"].p99 == pytest.approx(0.7, abs=0.02)
    assert found.dominance > 0.3
    assert found.type_information > 0.1
    assert found.task_information < 0.05, "the planted routes do not depend on the task"
    assert StreamReport.from_json(found.to_json()) == found


def test_streams_that_know_nothing_show_no_specialisation():
    found = evaluate_streams([planted(specialised=False, episodes=12)], streams=NAMES, edges=EDGES)
    assert abs(found.dominance) < 0.15
    assert np.array(found.specialisation).mean() == pytest.approx(0.5, abs=0.1)


def test_what_cannot_be_measured_is_none():
    found = evaluate_streams([planted(episodes=1)], streams=NAMES, edges=EDGES)
    assert found.specialisation is None, "one episode cannot be split"
    assert found.task_information is None
    assert found.effective_rank is None
    with pytest.raises(DataError, match="no samples"):
        evaluate_streams([], streams=NAMES, edges=EDGES)


def test_a_real_svms_fits():
    svms = SheafStreams.from_config(SvmsConfig(d_stream=8, d_overlap=4, adapter_rank=4), 16).eval()
    mask, words = torch.ones(3, 6, dtype=torch.bool), torch.zeros(3, 6, dtype=torch.bool)
    mask[0, :2], words[:, 3:] = False, True
    features = Features(tokens=torch.randn(3, 6, 16), mask=mask, image_mask=mask & ~words)
    inputs = ModelInputs(
        images=(),
        input_ids=torch.zeros(3, 6, dtype=torch.long),
        attention_mask=mask,
        state=torch.zeros(3, 1, 4),
        embodiment_id=torch.zeros(3, dtype=torch.long),
        labels=torch.randint(0, 2, (3, 6, 3)).float(),
        label_mask=words,
    )
    with torch.no_grad():
        states = svms(features)
    batch = StreamBatch.of(states, features, inputs, episodes=[0, 1, 2], tasks=[0, 1, 0])
    found = evaluate_streams([batch], streams=NAMES, edges=svms.graph.edge_names)
    assert found.scores.keys() == set(NAMES)
    assert len(found.rho) == 2
    unlabelled = ModelInputs(**{**vars(inputs), "labels": None, "label_mask": None})
    with pytest.raises(DataError, match="labeler"):
        StreamBatch.of(states, features, unlabelled, episodes=[0, 1, 2], tasks=[0, 1, 0])


def test_patches_land_on_their_own_picture():
    """Two pictures of 2x3 and 1x2 patches; token i carries the weight i in stream 0."""
    mask = np.array([False] + [True] * 6 + [False] + [True] * 2)
    weights = np.stack([np.arange(10.0), np.zeros(10)], axis=1)
    first, second = patch_routes(weights, mask, [(2, 3), (1, 2)])
    assert first[..., 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert second[..., 0].tolist() == [[8, 9]]
    with pytest.raises(DataError, match="8 image tokens"):
        patch_routes(weights, mask, [(2, 3)])
    assert grid_of(252, 280) == (9, 10)
    with pytest.raises(DataError, match="28"):
        grid_of(256, 256)


def test_painting_marks_the_patch_and_leaves_the_rest_grey():
    routes = np.zeros((2, 2, 3))
    routes[0, 1, 2] = 1.0
    painted = paint_routes(np.full((6, 4, 3), 100, np.uint8), routes, 2, (250, 0, 0))
    assert painted[0, 3].tolist() == [220, 20, 20]
    assert painted[5, 3].tolist() == [100, 100, 100]
    assert np.ptp(painted[:3, 2:], axis=(0, 1)).max() == 0


def test_words_gather_their_tokens():
    text, offsets = "open the drawers", [(0, 4), (4, 8), (8, 13), (13, 16)]
    weights = np.array([[1.0, 0], [0.5, 0.5], [0, 1.0], [1.0, 0]])
    found = word_routes(text, offsets, weights)
    assert [(w.word, w.routes) for w in found] == [("open", (1, 0)), ("the", (0.5, 0.5)), ("drawers", (0.5, 0.5))]
