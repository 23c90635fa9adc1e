"""Knock-outs silence what they name, detectors see what was planted, and the study reads a real policy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.evaluate.open_loop.scoring import Recorded
from svms_gr00t.evaluate.report.html import render_html
from svms_gr00t.evaluate.report.pages import streams_page
from svms_gr00t.evaluate.statistics.detection import separation_interval
from svms_gr00t.evaluate.streams.detectors import detect, detectors
from svms_gr00t.evaluate.streams.knockout import OFF, silenced
from svms_gr00t.evaluate.streams.looks import Look, look, look_at_episodes
from svms_gr00t.evaluate.streams.shifts import shifts
from svms_gr00t.evaluate.streams.study import StreamStudy, by_time, cut, monitor_of, study_streams
from svms_gr00t.monitor import Monitor, chunk_rho
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.training.evidence import examples, read_routes, read_streams
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.streams.metrics import auroc


def looks(rng: np.random.Generator, episodes, *, rho=0.3, norm=1.0, variance=0.1, shift=0.0, chunks=12) -> list[Look]:
    """Planted measurements around given levels."""
    return [
        Look(
            episode=e,
            step=8 * k,
            progress=k / chunks,
            instruction="open it" if e % 2 else "close it",
            edges=rho + 0.02 * rng.normal(size=2),
            routes=rng.dirichlet(np.ones(3)),
            feature=shift + rng.normal(size=5),
            norm=norm + 0.02 * rng.normal(),
            variance=variance * np.exp(0.1 * rng.normal()),
        )
        for e in episodes
        for k in range(chunks)
    ]


def test_each_detector_sees_what_was_planted_for_it_and_nothing_else():
    rng, tried = np.random.default_rng(0), [1, 3, 5, 7]
    clean = looks(rng, range(8))
    broken = {
        "more rho": looks(rng, tried, rho=0.5),
        "less rho": looks(rng, tried, rho=0.1),
        "longer": looks(rng, tried, norm=1.5),
        "elsewhere": looks(rng, tried, shift=5.0),
        "unsure": looks(rng, tried, variance=0.3),
        "nothing": looks(rng, tried),
    }
    found = detect(clean, broken, tried, alpha=0.2)
    sees = {"more rho": "rho", "longer": "feature norm", "elsewhere": "mahalanobis", "unsure": "action variance"}
    for shift, detector in sees.items():
        assert found[shift][detector].auroc > 0.99
        assert found[shift][detector].flagged > 0.9
        assert found[shift][detector].interval.low > 0.25, "four episodes told apart without a mistake"
    assert found["less rho"]["rho"].auroc < 0.01, "the monitor asks for too much disagreement, not for too little"
    assert found["less rho"]["|rho - median|"].auroc > 0.99
    for shift, detector in (("longer", "rho"), ("more rho", "mahalanobis"), ("nothing", "rho")):
        assert 0.3 < found[shift][detector].auroc < 0.7
    assert all(d.auroc == pytest.approx(0.5) and d.flagged < 0.5 for d in found["clean"].values())


def at(**levels: object) -> Look:
    """One look with exact measurements."""
    given: dict = {"feature": np.zeros(2), "rho": 0.3, "norm": 1.0, "variance": 0.1} | levels
    edges = np.array([given.pop("rho")])
    return Look(episode=0, step=0, progress=0.0, instruction="open it", edges=edges, routes=np.ones(1), **given)


def test_levels_that_fall_alarm_as_much_as_levels_that_rise():
    """Two-sided detectors measure the way from the median of clean looks, whichever way; ρ itself does not."""
    fit = [at(rho=r, norm=n) for r, n in ((0.1, 0.5), (0.3, 1.0), (0.9, 4.0))]
    found = detectors(fit)
    for name, level, middle in (("|rho - median|", "rho", 0.3), ("feature norm", "norm", 1.0)):
        scores = found[name]([at(**{level: middle + d}) for d in (-0.2, 0.0, 0.2)])
        assert scores.tolist() == pytest.approx([0.2, 0.0, 0.2])
    assert found["rho"]([at(rho=0.1), at(rho=0.5)]).tolist() == pytest.approx([0.1, 0.5])


def test_the_covariance_is_drawn_a_tenth_of_the_way_to_its_mean_variance():
    """Features spread by 2 along x and not at all along y: variances 0.9 * 4 + 0.1 * 2 and 0.1 * 2."""
    fit = [at(feature=np.array([x, 5.0])) for x in (-2.0, 2.0)]
    score = detectors(fit)["mahalanobis"]
    found = score(
        [at(feature=np.array([0.0, 5.0])), at(feature=np.array([1.0, 5.0])), at(feature=np.array([0.0, 6.0]))]
    )
    assert found.tolist() == pytest.approx([0.0, 3.8**-0.5, 0.2**-0.5])
    alone = detectors([at(feature=np.array([1.0, 1.0]))])["mahalanobis"]
    assert np.isfinite(alone([at(feature=np.array([1.0, 2.0]))])).all(), "one look has no spread, and says so"


def test_detectors_are_fitted_on_the_other_episodes_and_tried_on_these():
    """The tried ones disagree more than those before: alarms there, and no difference from others like them."""
    rng, tried = np.random.default_rng(0), [4, 5, 6, 7]
    clean = looks(rng, range(4), rho=0.3) + looks(rng, tried, rho=0.6)
    found = detect(clean, {"alike": looks(rng, tried, rho=0.6)}, tried, alpha=0.2)
    assert found["clean"]["rho"].flagged == 1.0
    assert found["alike"]["rho"].flagged == 1.0
    assert 0.35 < found["alike"]["rho"].auroc < 0.65


def test_broken_looks_are_compared_with_clean_ones_at_the_same_steps():
    """A sensor is stale from step 40 on, and the streams always disagree more before: that is no news."""
    rng, tried = np.random.default_rng(0), [4, 5, 6, 7]

    def fading(episodes):
        return [replace(n, edges=n.edges + (0.5 if n.step < 40 else 0)) for n in looks(rng, episodes)]

    late = [one for one in fading(tried) if one.step >= 40]
    found = detect(fading(range(8)), {"stale": late}, tried, alpha=0.2)
    assert 0.35 < found["stale"]["rho"].auroc < 0.65, "against all clean looks it would be below 0.3"


def test_one_chunk_an_observation_has_no_variance_to_detect_by():
    fit = [at(variance=float("nan")), at()]
    assert "action variance" not in detectors(fit)
    assert "action variance" in detectors([at()])


def scored(rng: np.random.Generator, episodes: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Six clean and six broken scores of each episode; episodes differ in level and in what breaking does to them."""
    level, effect = rng.normal(0, 1, episodes), shift + rng.normal(0, 0.6, episodes)
    noise = rng.normal(size=(2, episodes, 6))
    return noise[0] + level[:, None], noise[1] + (level + effect)[:, None]


@pytest.mark.parametrize("episodes", [2, *(pytest.param(n, marks=pytest.mark.whole) for n in (4, 8))])
def test_the_interval_of_a_detector_covers_what_new_episodes_would_say(episodes):
    """A bootstrap of the same episodes covers 43, 77 and 86 % (the mutant below)."""
    truth = auroc(*_labelled(*scored(np.random.default_rng(0), 800, 1.0)))
    ours, naive = [], []
    for trial in range(250):
        rng = np.random.default_rng(1 + trial)
        calm, loud = scored(rng, episodes, 1.0)
        groups = np.repeat(np.arange(episodes), 6)
        found = separation_interval(calm.ravel(), loud.ravel(), (groups, groups))
        assert 0 <= found.low <= found.estimate <= found.high <= 1
        ours.append(found.low <= truth <= found.high)
        wins = (loud[None, :, None, :] > calm[:, None, :, None]).mean((2, 3))  # by pair of episodes
        drawn = rng.integers(0, episodes, (100, episodes))
        low, high = np.quantile([wins[np.ix_(d, d)].mean() for d in drawn], [0.025, 0.975])
        naive.append(low <= truth <= high)
    assert np.mean(ours) >= 0.93
    assert np.mean(naive) < 0.9


def _labelled(calm: np.ndarray, loud: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([calm.ravel(), loud.ravel()]), np.repeat([False, True], [calm.size, loud.size])


def test_episodes_told_apart_without_a_mistake_are_not_certainty():
    groups = np.repeat(np.arange(4), 3)
    found = separation_interval(np.zeros(12), np.ones(12), (groups, groups))
    assert found.high == 1.0
    assert found.low == pytest.approx(4 / (4 + 3.1824**2), abs=1e-4)
    turned = separation_interval(np.ones(12), np.zeros(12), (groups, groups))
    assert (turned.low, turned.high) == (0.0, pytest.approx(1 - found.low))
    assert separation_interval(np.zeros(3), np.ones(3), (np.zeros(3), np.zeros(3))) is None


def test_thresholds_come_from_episodes_that_the_detector_did_not_see():
    """Few looks in many dimensions: a detector scored on its own training data would flag every clean look."""
    rng, tried, flagged = np.random.default_rng(2), list(range(1, 20, 2)), []
    for _ in range(20):
        found = detect(looks(rng, range(20), chunks=2), {}, tried, alpha=0.2)["clean"]
        flagged.append([found[name].flagged for name in ("mahalanobis", "|rho - median|", "feature norm")])
    assert (np.mean(flagged, axis=0) < 0.27).all()


def test_slices_are_means_of_their_looks():
    rng = np.random.default_rng(1)
    some = looks(rng, [0, 1])
    parts = by_time(some, bins=3)
    assert [len(p) for p in parts] == [8, 8, 8]
    found = cut(parts[0])
    np.testing.assert_allclose(found.rho, np.mean([n.edges for n in parts[0]], 0))
    assert sum(found.routes) == pytest.approx(1)


def some(dataset: LeRobotDataset, episode: int = 0) -> Recorded:
    states = {k.removeprefix("state."): v for k, v in dataset.lowdim(episode).items() if k.startswith("state.")}
    return Recorded(dataset, episode, states, list(dataset.instructions(episode)))


def test_a_look_says_what_the_policy_says(policy, dataset):
    observations = some(dataset).at([4, 9])
    _, evidence = policy.act(observations, seeds=[0, 1])
    found = look(policy, observations, draws=3)
    np.testing.assert_allclose([n["edges"] for n in found], chunk_rho(evidence), rtol=1e-5)
    assert all(n["variance"] > 0 and n["norm"] > 0 for n in found)
    assert np.isnan(look(policy, observations, draws=1)[0]["variance"])
    again = look(policy, observations[1:], draws=3)[0]
    assert again["variance"] == pytest.approx(found[1]["variance"], rel=1e-4), "whatever the batch around it"


def test_shifts_break_what_they_say_and_nothing_else(dataset):
    recorded, steps = some(dataset), [4, 44]
    seen, named = recorded.at(steps), shifts(dataset)
    view = next(iter(dataset.modality.video))
    stale = [f"{what} {k} s stale" for what in ("state", "cameras") for k in ("0.5", "1", "2")]
    assert set(named) == {"cameras black", f"{view} black", "cameras exchanged", "words swapped", *stale}
    for name, shift in named.items():
        broken = shift.spoil(recorded, steps)
        assert broken[0].keys() == seen[0].keys()
        changed = {key for key in seen[1] if not np.array_equal(seen[1][key], broken[1][key])}
        kind = "state" if name.startswith("state") else "annotation" if "words" in name else "video"
        assert {key.split(".")[0] for key in changed} == {kind}
        assert len(changed) == {"cameras exchanged": 2, f"{view} black": 1}.get(name, len(changed))
    assert named["words swapped"].spoil(recorded, steps)[0][INSTRUCTION] in dataset.tasks.values()


def test_a_stale_sensor_says_what_was_true_then_and_still_moves(dataset):
    recorded, shift = some(dataset), shifts(dataset)["state 1 s stale"]
    assert shift.after == 20
    then, broken = recorded.at([0, 10, 24]), shift.spoil(recorded, [8, 30, 44])
    for old, now in zip(then, broken, strict=True):
        for key in [key for key in old if key.startswith("state.")]:
            np.testing.assert_array_equal(now[key], old[key])
    hand = "state.end_effector_position_relative"
    assert not np.array_equal(broken[1][hand], broken[2][hand]), "a frozen one would flatter every detector"


def test_a_stale_state_does_not_reach_the_streams(policy, dataset):
    """What ρ cannot see, said as a fact: the state goes straight to the action head."""
    recorded = some(dataset)
    (seen,), (broken,) = recorded.at([30]), shifts(dataset)["state 1 s stale"].spoil(recorded, [30])
    clean, stale = look(policy, [seen], draws=2)[0], look(policy, [broken], draws=2)[0]
    np.testing.assert_array_equal(clean["edges"], stale["edges"])
    assert clean["variance"] != stale["variance"]
    assert not np.array_equal(clean["state"], stale["state"])


def test_a_silenced_stream_weighs_nothing_and_silence_ends(policy, dataset):
    svms, observations = policy.model.svms, some(dataset).at([3])
    before = look(policy, observations)[0]
    for index, stream in enumerate(svms.graph.streams):
        with silenced(svms, stream):
            routes = look(policy, observations)[0]["routes"]
        assert routes[index] == 0
        assert routes.sum() == pytest.approx(1, abs=1e-5)
    with silenced(svms, OFF):
        plain = look(policy, observations)[0]["feature"]
    assert not np.allclose(plain, before["feature"])
    np.testing.assert_array_equal(look(policy, observations)[0]["feature"], before["feature"])
    weight, bias = svms.merge.weight.clone(), svms.merge.bias.clone()
    svms.merge.reset_parameters()
    np.testing.assert_allclose(look(policy, observations)[0]["feature"], plain, atol=1e-6)
    with torch.no_grad():
        svms.merge.weight.copy_(weight)
        svms.merge.bias.copy_(bias)


@pytest.mark.whole
def test_the_study_reads_a_real_policy(policy, dataset, tmp_path):
    episodes = (0, 1, 2, 3)
    steps = SampleDataset(dataset, policy.processor, episodes=episodes, labeler=Labeler(), stride=45)
    report, _ = read_streams(policy.model, steps)
    statistics = policy.processor.statistics[policy.processor.config.embodiment_tag]
    study = study_streams(policy, dataset, episodes, report, statistics=statistics, stride=45, alpha=0.34, draws=2)
    assert set(study.knockout) == {"visual", "temporal", "state", OFF}
    assert all(one.mse > 0 and one.keys for one in study.knockout.values())
    assert study.detectors["state 1 s stale"]["rho"].auroc == pytest.approx(0.5)
    assert "nearest state" in study.detectors["clean"]
    assert len(study.by_task) == len({dataset.instructions(e)[0] for e in episodes})
    assert all(sum(part.routes) == pytest.approx(1, abs=1e-4) for part in (*study.by_time, *study.by_task.values()))
    page = render_html(streams_page("mine", study, *read_routes(policy.model, steps, examples(steps))))
    assert f"{study.whole:.4f}" in page
    assert f"Without the streams: {study.knockout['all'].mse:.4f}" in page
    assert page.count('<ul class="sentence">') == len(examples(steps)) > 0
    study.save(tmp_path / "study.json")
    assert StreamStudy.load(tmp_path / "study.json") == study
    with pytest.raises(DataError, match="four"):
        study_streams(policy, dataset, (0, 1), report, statistics=statistics)


def test_the_monitor_is_calibrated_on_a_real_policy(policy, dataset):
    monitor = monitor_of(policy, dataset, (0, 1, 2), alpha=0.3, stride=15)
    assert monitor.edges == ("visual-temporal", "temporal-state")
    assert 0 < monitor.threshold < 2
    clean = look_at_episodes(policy, dataset, (0, 1, 2), stride=15)
    assert max(n.rho for n in clean) >= monitor.threshold
    with pytest.raises(ConfigError, match="episodes"):
        monitor_of(policy, dataset, (0, 1), alpha=0.1, stride=15)
    plain = Experiment.prepare(dataset.root, seed=0)
    with pytest.raises(DataError, match="without streams"):
        monitor_of(plain.policy(plain.model(use_sheaf_streams=False)), dataset, (0,), alpha=0.5)


def test_the_command_saves_a_monitor_beside_the_weights(policy, small_kitchen, tmp_path, capsys):
    folder = policy.save_pretrained(tmp_path / "run" / "policy")
    asked = ["--checkpoint", tmp_path / "run", "--dataset-path", small_kitchen, "--stride", 40, "--every-episode"]
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "calibrate", *map(str, asked), "--alpha", "0.1"])
    assert stopped.value.code == 0
    monitor = Monitor.beside(folder)
    assert monitor.episodes == 9, "the smallest number that can promise 10 %"
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "calibrate", *map(str, asked), "--alpha", "0.05"])
    assert stopped.value.code == 2
    assert "at least 19 episodes, not 9" in capsys.readouterr().err
    assert Monitor.beside(folder) == monitor, "a refused calibration leaves the old one"
    assert Policy.from_pretrained(folder).model.svms is not None
