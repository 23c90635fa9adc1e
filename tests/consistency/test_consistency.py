"""The monitor sees stale sensors, keeps its promise about alarms, and changes nothing."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from svms_gr00t.consistency.file import load, save
from svms_gr00t.consistency.frames import Frames
from svms_gr00t.consistency.heads import PictureHead
from svms_gr00t.consistency.monitor import Consistency, Looks, Readings
from svms_gr00t.consistency.reads import what_is_read
from svms_gr00t.consistency.train import calibrated, deal, looks_of
from svms_gr00t.core.errors import CheckpointError, ConfigError
from svms_gr00t.monitor import CleanScores, conformal_threshold
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.streams.metrics import auroc


def at(monitor: Consistency, frames: Frames, *, steps_back: int = 0, cameras_back: int = 0, since: int = 28) -> Looks:
    """Looks from step `since` on; the state, or the pictures, as they were so many steps ago."""
    said = monitor.see(frames.tokens)
    rows = np.flatnonzero(frames.step >= since)
    every = int(np.diff(frames.step[:2])[0])
    felt, seen, ago = steps_back // every, cameras_back // every, monitor.facts.lag // every
    return Looks(
        said=said[rows - seen],
        now=frames.now[rows - felt],
        before=frames.now[rows - ago - felt],
        said_before=said[rows - ago - seen],
        done=frames.done[rows],
    )


def tells(clean: np.ndarray, broken: np.ndarray) -> float:
    return auroc(np.concatenate([clean, broken]), np.repeat([False, True], [len(clean), len(broken)]))


def column(monitor: Consistency, readings: Readings, name: str) -> np.ndarray:
    return readings.z[:, [edge.name for edge in monitor.facts.edges].index(name)]


def test_one_second_of_staleness_is_seen_and_by_the_edge_that_it_concerns(trained):
    monitor, frames = trained.monitor, trained.frames
    clean = monitor.read(at(monitor, frames))
    state = monitor.read(at(monitor, frames, steps_back=20))
    cameras = monitor.read(at(monitor, frames, cameras_back=20))
    assert tells(clean.score, state.score) > 0.9
    assert tells(clean.score, cameras.score) > 0.75
    for name, told in (("visual-state hand", cameras), ("visual-state hand", state), ("temporal-state hand", state)):
        assert tells(column(monitor, clean, name), column(monitor, told, name)) > 0.8
    away = column(monitor, cameras, "temporal-state hand")
    np.testing.assert_array_equal(column(monitor, clean, "temporal-state hand"), away, "expectations use no picture")


def test_an_untrained_head_sees_no_staleness(trained):
    """Mutant: fresh weights, spreads and thresholds of their own. What is seen above is what was learned."""
    old = trained.monitor
    fresh = PictureHead(width=old.facts.tokens[1], places=old.facts.tokens[0], out=old.scales.stalk.shape[1])
    monitor = Consistency(
        old.facts, pictures=fresh, motion=old.motion, scales=old.scales, clean=old.clean, episodes=old.episodes
    )
    clean = column(monitor, monitor.read(at(monitor, trained.frames)), "visual-state hand")
    stale = column(monitor, monitor.read(at(monitor, trained.frames, cameras_back=20)), "visual-state hand")
    assert 0.35 < tells(clean, stale) < 0.65


def test_new_clean_episodes_alarm_at_most_as_often_as_promised(trained):
    frames = trained.frames
    apart = frames.step % trained.monitor.facts.lag == 0
    found = trained.monitor.read(looks_of(trained.monitor, frames))
    shares = [found.alarm[apart & (frames.episode == number)].mean() for number in trained.tried]
    error = np.sqrt(0.1 * 0.9 / len(shares))  # looks of one episode may all alarm together
    assert np.mean(shares) <= 0.1 + 2 * error
    wild = monitor_with(trained.monitor, threshold=float(np.median(trained.monitor.clean[:, -1])))
    assert wild.read(looks_of(wild, frames)).alarm[apart].mean() > 0.1 + 2 * error, "and a lower threshold breaks it"


def monitor_with(old: Consistency, **facts: Any) -> Consistency:
    parts = {"pictures": old.pictures, "motion": old.motion, "scales": old.scales}
    return Consistency(replace(old.facts, **facts), **parts, clean=old.clean, episodes=old.episodes)


def test_p_is_the_threshold_turned_round_and_keeps_the_promise():
    rng, below = np.random.default_rng(0), []
    for _ in range(300):
        groups = [rng.normal(rng.normal(), 0.3, rng.integers(1, 9)) for _ in range(20)]
        values = rng.normal(rng.normal(), 0.3, 7)
        p = CleanScores(groups).p(values)
        for alpha in (0.05, 0.1, 0.3):
            np.testing.assert_array_equal(p <= alpha + 1e-9, values > conformal_threshold(groups, alpha))
        below.append((p <= 0.1).mean())
    assert np.mean(below) <= 0.1 + 2 * np.std(below) / np.sqrt(300)
    assert np.isnan(CleanScores([np.ones(2)]).p(np.array([np.nan]))).all()
    np.testing.assert_allclose(
        CleanScores([np.array([1.0, 3.0]), np.array([2.0])]).p(np.array([0.0, 2.0, 9.0])), [1, 2.5 / 3, 1 / 3]
    )


def test_other_units_change_what_is_printed_and_no_decision(trained):
    """Everything in thousandths: residuals grow by a thousand, z, p and alarms stay."""
    monitor, facts = trained.monitor, trained.monitor.facts

    def finer(quantity):
        return None if quantity is None else replace(quantity, scale=1000 * quantity.scale, unit="finer")

    edges = tuple(replace(edge, quantity=finer(edge.quantity)) for edge in facts.edges)
    old = facts.phases
    sizes = {"slow": 1000 * old.slow, "fast": 1000 * old.fast, "closed": 1000 * old.closed}
    phases = replace(old, moved=finer(old.moved), gripper=finer(old.gripper), **sizes)
    spreads = {name: tuple(1000 * value for value in values) for name, values in facts.spreads.items()}
    other = monitor_with(monitor, edges=edges, phases=phases, spreads=spreads)
    looks = looks_of(monitor, trained.frames)
    one, two = monitor.read(looks), other.read(looks)
    np.testing.assert_allclose(two.residual, 1000 * one.residual)
    np.testing.assert_allclose(two.z, one.z)
    np.testing.assert_array_equal(two.alarm, one.alarm)
    np.testing.assert_array_equal(two.phase, one.phase)


def test_spreads_and_threshold_come_from_their_own_episodes(trained):
    """Episodes of the spreads do not decide the threshold and the other way round; heads see neither."""
    facts = trained.monitor.facts
    groups = [set(facts.train), set(facts.spread), set(facts.calibration)]
    assert not (groups[0] & groups[1])
    assert not (groups[0] & groups[2])
    assert not (groups[1] & groups[2])
    chosen = replace(facts, spread=trained.tried[:4], calibration=trained.tried[4:], alpha=0.2)
    raw = monitor_with(trained.monitor, **vars(chosen))
    frames = trained.frames
    before = calibrated(raw, frames)
    shaken = frames.now + 0.5 * np.isin(frames.episode, trained.tried[4:])[:, None]
    after = calibrated(raw, replace(frames, now=shaken))
    for edge, spreads in before.facts.spreads.items():  # a product over other rows may round its last bit otherwise
        assert after.facts.spreads[edge] == pytest.approx(spreads, rel=1e-12)
    assert after.facts.threshold > 2 * before.facts.threshold


def test_what_should_speak_and_is_no_number_alarms(trained):
    looks = looks_of(trained.monitor, trained.frames)
    broken = looks.said.copy()
    broken[3] = np.nan
    found = trained.monitor.read(replace(looks, said=broken))
    assert found.alarm[3]
    assert found.score[3] == np.inf
    first = trained.monitor.read(replace(looks, before=np.full_like(looks.before, np.nan)))
    temporal = ["temporal" in edge.name for edge in trained.monitor.facts.edges]
    assert np.isnan(first.z[:, temporal]).all()
    assert np.isfinite(first.score).all(), "a first look is judged by what can speak"


def test_a_file_brings_the_same_monitor_back(trained, tmp_path):
    path = save(trained.monitor, tmp_path / "m.safetensors")
    found = load(path, trained.policy)
    assert found.facts == trained.monitor.facts
    for part in ("pictures", "motion"):
        ours, theirs = (getattr(monitor, part).state_dict() for monitor in (trained.monitor, found))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name, value in vars(trained.monitor.scales).items():
        np.testing.assert_array_equal(getattr(found.scales, name), value)
    np.testing.assert_array_equal(found.clean, trained.monitor.clean)
    np.testing.assert_array_equal(found.episodes, trained.monitor.episodes)
    looks = looks_of(trained.monitor, trained.frames)
    for one, two in zip(vars(trained.monitor.read(looks)).values(), vars(found.read(looks)).values(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)  # the last bit depends on where in memory an array begins
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="no safetensors"):
        load(path)
    with pytest.raises(CheckpointError, match="no such file"):
        load(tmp_path / "other")


def test_another_backbone_is_refused_and_what_stands_above_it_does_not_count(trained, tmp_path, small_kitchen):
    path = save(trained.monitor, tmp_path / "m.safetensors")
    changed = deepcopy(trained.policy.model)
    with torch.no_grad():
        changed.backbone.model.mlp1[1].weight.mul_(1.5)
    with pytest.raises(CheckpointError, match="another backbone"):
        load(path, Policy(changed, trained.policy.processor))
    with torch.no_grad():
        changed.backbone.model.mlp1[1].weight.copy_(trained.policy.model.backbone.model.mlp1[1].weight)
        changed.action_head.vlln.weight.mul_(1.5)
    assert load(path, Policy(changed, trained.policy.processor)).facts.reads == what_is_read(trained.policy)
    fresh = Experiment.prepare(small_kitchen, seed=0)
    with pytest.raises(CheckpointError, match="another backbone"):
        load(path, fresh.policy(fresh.model(use_sheaf_streams=True)))


def test_episodes_are_dealt_once_and_too_few_are_refused():
    parts = deal(range(60), (), alpha=0.05)
    assert len(parts.calibration) >= 19
    assert sorted((*parts.train, *parts.spread, *parts.calibration)) == list(range(60))
    parts = deal(range(40), range(40, 65), alpha=0.05)
    assert parts.train == tuple(range(40)), "a run's training episodes stay apart from those it held out"
    assert len(parts.calibration) >= 19
    with pytest.raises(ConfigError, match="21 held-out episodes or more, not 8"):
        deal(range(40), range(40, 48), alpha=0.05)
