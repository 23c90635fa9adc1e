"""Percentiles may not take rare commands away unseen: they are named, one switch keeps them, every reader agrees."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_robot import observation, processor, robot, statistics

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.data.doctor.percentiles import lost_to_percentiles
from svms_gr00t.data.lerobot.summary import RunningSummary
from svms_gr00t.data.processor.normalize import MeanStd, min_max, still
from svms_gr00t.data.processor.processor import Processor


def of(rows: np.ndarray) -> dict[str, Any]:
    running = RunningSummary()
    running.update(rows.astype(np.float32))
    return running.result()


def rare(steps: int = 300, moving: int = 2) -> np.ndarray:
    """A base that stands still but for a few steps, and a joint that swings."""
    rows = np.stack([np.zeros(steps), np.sin(np.arange(steps))], axis=1)
    rows[10 : 10 + moving, 0] = 0.8
    return rows


def gripper() -> np.ndarray:
    """Closes once, half-way at the hundredth-largest value."""
    rows = np.zeros((1000, 1))
    rows[:11, 0] = np.linspace(0.5, 1.0, 11)
    return rows


def lost(rows: np.ndarray, **options: Any) -> list[str]:
    bounds = np.quantile(rows, (0.01, 0.99), axis=0)
    whole = np.stack([rows.min(axis=0), rows.max(axis=0)])
    share = ((rows < bounds[0]) | (rows > bounds[1])).mean(axis=0)
    found = lost_to_percentiles("action.base", bounds, whole, share, **({"severity": "warning"} | options))
    return [f"{finding.severity}: {finding.found}" for finding in found]


def test_elements_and_share_are_named() -> None:
    (base,) = lost(rare())
    assert base.startswith("warning: motion of element 0 in 0.67% of the steps at most, so that q01 = q99")
    rows = np.concatenate([gripper(), np.sin(np.arange(1000))[:, None]], axis=1)
    (cut,) = lost(rows)
    assert "element 0 goes from [0, 0.5] (q01, q99) to [0, 1]" in cut
    assert "1.00% of its values are cut off" in cut


def test_smooth_numbers_are_no_finding() -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.normal(size=200_000), rng.uniform(size=200_000), np.zeros(200_000)], axis=1)
    assert lost(rows) == []
    assert lost(np.where(rows > 0, 1.0, -1.0)[:, :2]) == []  # two values, both common: a gripper


@pytest.mark.parametrize("moving", [1, 2])
def test_a_rare_command_comes_back_by_range_and_never_by_percentiles(moving: int) -> None:
    rows = rare(moving=moving)
    by = {mode: min_max(of(rows), "x", percentiles=mode, clip=True) for mode in (True, False)}
    assert by[True].decode(np.ones((1, 2)))[0, 0] == 0.0
    np.testing.assert_allclose(by[False].decode(by[False].encode(rows)), rows, atol=1e-6)


def kept(**changes: Any) -> Processor:
    """The small robot with percentiles, its gripper kept by minimum and maximum."""
    return processor(use_percentiles=True, **changes).keeping_range(["action.gripper"])


def n16_decode(folder: Path, key: str, y: np.ndarray) -> np.ndarray:
    """What NVIDIA's reader makes of a saved checkpoint: it knows `use_percentiles` and statistics.json, no more."""
    settings = json.loads((folder / "processor_config.json").read_text())["processor_kwargs"]
    assert "min_max_embedding_keys" not in json.dumps(settings)
    summary = json.loads((folder / "statistics.json").read_text())["new_embodiment"]["action"][key]
    low, high = (np.array(summary[n]) for n in (("q01", "q99") if settings["use_percentiles"] else ("min", "max")))
    return (np.clip(y, -1, 1) + 1) / 2 * (high - low) + low


def test_the_switch_round_trips_and_n16_reads_the_same(tmp_path: Path) -> None:
    saved = kept()
    saved.save(tmp_path)
    again = Processor.load(tmp_path)
    assert again.config.min_max_embedding_keys == {"new_embodiment": ("action.gripper",)}
    vectors = np.random.default_rng(0).uniform(-1, 1, (1, 6, 7))
    ours = again.decode(vectors, observation())
    assert np.abs(ours["gripper"]).max() > np.abs(processor(use_percentiles=True).decode(vectors)["gripper"]).max()
    np.testing.assert_array_equal(ours["gripper"], saved.decode(vectors, observation())["gripper"])
    for key, start, end in (("arm", 0, 3), ("gripper", 3, 4)):
        np.testing.assert_allclose(ours[key][0], n16_decode(tmp_path, key, vectors[0, :4, start:end]), atol=1e-6)
    assert again.codec.action["arm"].high[0] == pytest.approx(1.8)  # type: ignore[attr-defined]


def test_without_percentiles_the_switch_changes_nothing() -> None:
    plain = processor().keeping_range(["action.gripper"])
    assert plain.statistics["new_embodiment"]["action"]["gripper"] == statistics()["action"]["gripper"]


@pytest.mark.parametrize("name", ["gripper", "action.gripper_close", "video.front", "state"])
def test_unknown_keys_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"keys among state.arm, state.gripper, action.arm, action.gripper"):
        processor().keeping_range([name])


def test_a_key_cannot_be_normalised_in_two_ways() -> None:
    spread = robot()
    spread = replace(spread, action=replace(spread.action, mean_std_embedding_keys=("gripper",)))
    with pytest.raises(ConfigError, match="mean and deviation"):
        processor(embodiments={"new_embodiment": spread}).keeping_range(["action.gripper"])


JITTER = {
    "around zero": np.array([0.0, 1e-7, -1e-7]),
    "around one": 1 + np.array([0.0, 1e-7, -1e-7]),
    "around a thousand ticks": 2048 + np.array([0.0, 2.4e-4, -2.4e-4]),
}


@pytest.mark.parametrize("name", JITTER)
def test_a_constant_that_jitters_is_a_constant(name: str) -> None:
    rows = np.stack([JITTER[name], [0.0, 1e-3, -1e-3]], axis=1)
    assert still(rows.min(axis=0), rows.max(axis=0)).tolist() == [True, False]
    ranged = min_max(of(rows), "x", percentiles=False, clip=False)
    spread = MeanStd(mean=rows.mean(axis=0), std=rows.std(axis=0))
    for normalizer in (ranged, spread):
        y = normalizer.encode(rows)
        assert not y[:, 0].any()
        assert np.abs(y[:, 1]).max() > 0.99
        np.testing.assert_allclose(normalizer.decode(y), rows, rtol=1e-6, atol=1e-6)
