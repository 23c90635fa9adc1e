"""The disagreement monitor keeps its promise about false alarms, and a naive threshold does not."""

import numpy as np
import pytest

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.protocols import ActionPolicy
from svms_gr00t.monitor import FILE, Monitor, Watched, calibrate, chunk_rho, conformal_threshold

EDGES = ("visual-temporal", "temporal-state")


def clean(rng: np.random.Generator, episodes: int, chunks: int = 12) -> dict[int, np.ndarray]:
    """Chunks of one episode resemble one another much more than those of two."""
    level = rng.normal(0.3, 0.1, episodes)
    lengths = rng.integers(2, 2 * chunks, episodes)
    return {k: level[k] + rng.normal(0, 0.02, lengths[k]) for k in range(episodes)}


@pytest.mark.parametrize(("alpha", "per"), [(0.1, "chunk"), (0.2, "chunk"), (0.1, "episode")])
def test_clean_chunks_are_flagged_at_most_as_often_as_promised(alpha, per):
    """1,000 calibrations with 19 episodes, each tried on one new episode."""
    rng, alarms = np.random.default_rng(0), []
    for _ in range(1000):
        monitor = calibrate(clean(rng, 19), alpha=alpha, edges=EDGES, per=per)
        new = clean(rng, 1)[0] > monitor.threshold
        alarms.append(new.any() if per == "episode" else new.mean())
    error = np.std(alarms) / np.sqrt(len(alarms))
    assert np.mean(alarms) <= alpha + 2 * error
    assert np.mean(alarms) >= alpha / 2, "and it does not buy this by never speaking"


def test_the_largest_of_few_episodes_breaks_the_promise():
    """Mutant: the plain 1 - alpha quantile of all chunks, as if they were independent."""
    rng, alarms = np.random.default_rng(1), []
    for _ in range(1000):
        pooled = np.concatenate(list(clean(rng, 9).values()))
        alarms.append((clean(rng, 1)[0] > np.quantile(pooled, 0.9)).mean())
    assert np.mean(alarms) > 0.115, "and this is what calibrating by episode is for"


def test_one_chunk_an_episode_is_ordinary_split_conformal():
    """ceil((n + 1)(1 - alpha))-th smallest of n scores."""
    values = np.random.default_rng(2).permutation(np.arange(1, 20)).astype(float)
    assert conformal_threshold([values[i : i + 1] for i in range(19)], 0.1) == 18
    assert conformal_threshold([values[i : i + 1] for i in range(19)], 0.05) == 19
    assert conformal_threshold([values[i : i + 1] for i in range(19)], 0.04) == float("inf")


def test_a_rate_of_episodes_looks_at_the_largest_chunk_of_each():
    """Nine episodes of one calm and one louder chunk, alpha 0.5: five episodes may alarm, or half of the chunks."""
    scores = {k: np.array([0.0, 1.0 + k]) for k in range(9)}
    assert calibrate(scores, alpha=0.5, edges=EDGES, per="episode").threshold == 5.0
    assert calibrate(scores, alpha=0.5, edges=EDGES, per="chunk").threshold == 1.0
    assert calibrate(scores, alpha=0.5, edges=EDGES).per == "chunk"


def test_a_score_at_the_threshold_is_not_above_it_and_the_clean_scores_are_summed_up():
    monitor = calibrate({k: [k / 100] for k in range(101)}, alpha=0.5, edges=EDGES)
    assert (monitor.threshold, monitor.episodes, monitor.chunks) == (0.5, 101, 101)
    assert monitor.quantiles == pytest.approx((0.05, 0.5, 0.95))
    rho = np.array([[[0.5, 0.5]], [[0.5, 0.75]]])
    assert [one.flag for one in monitor.read({"rho": rho, "mask": np.ones((2, 1))})] == [False, True]
    assert conformal_threshold((np.array([float(k)]) for k in range(9)), 0.5) == 4.0
    assert conformal_threshold([], 0.5) == float("inf")


def test_one_real_token_is_the_whole_reading():
    rho = np.array([[[9.0, 9.0], [0.4, 0.8]]])
    np.testing.assert_allclose(chunk_rho({"rho": rho, "mask": np.array([[0.0, 1.0]])}), [[0.4, 0.8]])
    np.testing.assert_allclose(chunk_rho({"rho": rho, "mask": np.zeros((1, 2))}), [[0.0, 0.0]])
    np.testing.assert_allclose(chunk_rho({"rho": rho}), [[4.7, 4.9]])


def test_a_rate_that_the_data_cannot_promise_is_refused():
    scores = clean(np.random.default_rng(3), 8)
    with pytest.raises(ConfigError, match="at least 19 episodes, not 8"):
        calibrate(scores, alpha=0.05, edges=EDGES)
    with pytest.raises(ConfigError, match="alpha"):
        calibrate(scores, alpha=1.0, edges=EDGES)
    with pytest.raises(DataError, match="finite"):
        calibrate({0: [float("nan")]}, alpha=0.5, edges=EDGES)
    with pytest.raises(DataError, match="finite"):
        calibrate(scores | {3: np.array([0.3, float("nan"), 0.3])}, alpha=0.12, edges=EDGES)
    with pytest.raises(DataError, match="finite"):
        calibrate(scores | {3: np.array([float("inf")])}, alpha=0.12, edges=EDGES)
    assert calibrate(scores, alpha=0.12, edges=EDGES).episodes == 8


def evidence(rho: np.ndarray, valid: int) -> dict[str, np.ndarray]:
    """`valid` real tokens, the rest left-padding that must not count."""
    mask = np.zeros(rho.shape[:2])
    mask[:, -valid:] = 1
    return {"rho": np.where(mask[..., None] > 0, rho, 77.0), "mask": mask}


def test_readings_are_means_over_real_tokens_and_edges():
    rho = np.random.default_rng(4).uniform(0, 2, (3, 9, 2))
    monitor = calibrate({k: [0.5 + k / 100] for k in range(9)}, alpha=0.1, edges=EDGES)
    found = monitor.read(evidence(rho, 5))
    for reading, row in zip(found, rho[:, -5:], strict=True):
        assert reading.rho == pytest.approx(row.mean())
        assert list(reading.edges) == list(EDGES)
        assert reading.edges["temporal-state"] == pytest.approx(row[:, 1].mean())
        assert reading.flag == (row.mean() > monitor.threshold)
    without = {"rho": np.where(evidence(rho, 5)["mask"][..., None] > 0, rho, 0.0), "weights": rho * 0}
    without["weights"][:, -5:] = 0.5
    np.testing.assert_allclose(chunk_rho(without), rho[:, -5:].mean(1))
    with pytest.raises(DataError, match="without streams"):
        monitor.read({})
    with pytest.raises(DataError, match="3 edges"):
        monitor.read({"rho": np.zeros((1, 4, 3)), "mask": np.ones((1, 4))})


def test_it_lives_beside_a_checkpoint_as_json(tmp_path):
    assert Monitor.beside(tmp_path) is None
    monitor = calibrate(clean(np.random.default_rng(5), 20), alpha=0.1, edges=EDGES)
    monitor.save(tmp_path / FILE)
    assert Monitor.beside(tmp_path) == monitor
    (tmp_path / FILE).write_text('{"threshold": "high"}')
    with pytest.raises(DataError, match="Monitor"):
        Monitor.beside(tmp_path)


class Talker:
    """Says ρ = what the observation tells it to."""

    def __init__(self) -> None:
        self.resets: list[int] = []

    def reset(self, seed: int) -> None:
        self.resets.append(seed)

    def act(self, observations, *, seeds):
        rho = np.stack([np.full((4, 2), o["level"]) for o in observations])
        return [{"arm": np.zeros((16, 3))} for _ in observations], {"rho": rho, "mask": np.ones((len(rho), 4))}


def test_a_watched_policy_acts_alike_and_flags():
    monitor = calibrate({k: [0.5] for k in range(9)}, alpha=0.1, edges=EDGES)
    talker = Talker()
    watched = Watched(talker, monitor)
    assert isinstance(watched, ActionPolicy)
    watched.reset(7)
    assert talker.resets == [7], "a policy with a memory must hear that a new episode begins"
    chunks, said = watched.act([{"level": 0.4}, {"level": 0.6}], seeds=[0, 1])
    assert len(chunks) == 2
    assert said["flag"].tolist() == [False, True]
    np.testing.assert_allclose(said["score"], [0.4, 0.6])
    assert said["edge_rho"].shape == (2, 2)


def test_disagreement_that_is_no_number_is_flagged_not_passed():
    monitor = calibrate({k: [0.5] for k in range(9)}, alpha=0.1, edges=EDGES)
    rho = np.full((2, 4, 2), 0.4)
    rho[1, 2, 0] = np.nan
    assert [one.flag for one in monitor.read({"rho": rho, "mask": np.ones((2, 4))})] == [False, True]
