"""Rows out of order or of another width, actions that are states, joints in degrees: found; sound data is let alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from lerobot_files import as_v3, change_feature, each_table
from omron_dataset import write_omron
from toy_dataset import open_writer, pictures

from svms_gr00t.data.doctor.examine import examine
from svms_gr00t.data.doctor.finding import Report
from svms_gr00t.data.lerobot.modality import Modality

STEPS = 40


def smooth(seed: int, width: int = 6, steps: int = STEPS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, steps)[:, None]
    return (np.sin(3 * t * rng.uniform(0.5, 1, width) + rng.uniform(0, 3, width)) * 1.2).astype(np.float32)


def write(root: Path, change: Any = None, *, episodes: int = 4, number: int = 6) -> Path:
    """Joint demonstrations whose commands run a little ahead of the states; `change` edits (index, columns)."""
    modality = {
        "state": {"arm": {"start": 0, "end": number}},
        "action": {"joints": {"start": 0, "end": number}},
        "video": {"front": {}},
        "annotation": {"human.action.task_description": {}},
    }
    names = [f"j{i}" for i in range(number)]
    writer = open_writer(
        root, modality=Modality.from_dict(modality), lowdim={"observation.state": names, "action": list(names)}
    )
    with writer:
        for index in range(episodes):
            state = smooth(index, number)
            ahead = np.concatenate([state[3:], state[-1:].repeat(3, axis=0)])
            columns = {"observation.state": state, "action": ahead + np.float32(0.01)}
            if change is not None:
                change(index, columns)
            steps = len(columns["action"])
            writer.add_episode(columns, {"observation.images.front": pictures(steps, seed=index)}, "open the drawer")
    return root


def loud(report: Report) -> list[tuple[str, str]]:
    return [(finding.severity, finding.check) for finding in report.findings if finding.severity != "note"]


def test_sound_joints_are_left_alone(tmp_path: Path) -> None:
    assert loud(examine(write(tmp_path / "set"))) == []


@pytest.mark.parametrize(
    ("shift", "severity", "text"),
    [
        (0, "error", "equals state.arm at the same step"),
        (1, "warning", "equals state.arm at the next step"),
        (-1, "error", "equals state.arm one step before"),
    ],
)
def test_actions_that_are_states(tmp_path: Path, shift: int, severity: str, text: str) -> None:
    def copied(_index: int, columns: dict[str, np.ndarray]) -> None:
        state = columns["observation.state"]
        steps = np.clip(np.arange(len(state)) + shift, 0, len(state) - 1)
        columns["action"] = state[steps]

    (finding,) = examine(write(tmp_path / "set", copied)).of("echo")
    assert (finding.severity, finding.where) == (severity, "action.joints")
    assert text in finding.found


def test_a_rest_between_motions_and_a_late_robot_are_no_echo(tmp_path: Path) -> None:
    """Where nothing moves, actions may equal states; and commands that are reached some steps later are commands."""

    def resting(_index: int, columns: dict[str, np.ndarray]) -> None:
        state = columns["observation.state"]
        state[10:30] = state[10]
        columns["action"][10:27] = state[10:27]

    assert not examine(write(tmp_path / "set", resting)).of("echo")


def renumbered(table: pa.Table, order: np.ndarray, keep: tuple[str, ...]) -> pa.Table:
    """The rows in another order, but for the columns to keep."""
    moved = table.take(pa.array(order))
    for name in keep:
        moved = moved.set_column(moved.column_names.index(name), name, table[name])
    return moved


NUMBERS = ("frame_index", "timestamp", "index")


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("keep", [(), NUMBERS], ids=["their numbers go along", "numbered afterwards"])
def test_shuffled_rows(tmp_path: Path, version: str, keep: tuple[str, ...]) -> None:
    root = write(tmp_path / "set", episodes=3)
    if version == "v3.0":
        root = as_v3(root)
    rng = np.random.default_rng(0)

    def shuffle(table: pa.Table) -> pa.Table:
        episodes = np.asarray(table["episode_index"])
        order = np.concatenate([rng.permutation(np.flatnonzero(episodes == e)) for e in np.unique(episodes)])
        return renumbered(table, order, keep)

    each_table(root, shuffle)
    report = examine(root)
    assert [f.episodes for f in report.of("shuffled")] == [(0, 1, 2)]
    assert [f.found for f in report.of("times") if f.severity == "error"] == (
        [] if keep else ["rows in another order than their frame_index: step k is not picture k"]
    )


def test_rows_backwards_are_seen_by_their_numbers(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    each_table(root, lambda table: table.take(pa.array(np.arange(len(table))[::-1])))
    assert "rows in another order" in examine(root).of("times")[1].found + examine(root).of("times")[0].found
    assert not examine(root).healthy


def test_files_that_changed_places(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    first, last = (root / f"data/chunk-000/episode_{i:06d}.parquet" for i in (0, 3))
    one, other = first.read_bytes(), last.read_bytes()
    first.write_bytes(other)
    last.write_bytes(one)
    (finding,) = examine(root).of("times")
    assert finding.found == "rows that say they are of another episode"
    assert finding.episodes == (0, 3)


@pytest.mark.parametrize(("said", "severity"), [([5], "error"), ([7], "error"), ([6], None)])
def test_rows_of_another_width_than_info_says(tmp_path: Path, said: list[int], severity: str | None) -> None:
    root = write(tmp_path / "set")
    change_feature(root, "action", shape=said, names=[f"j{i}" for i in range(said[0])])
    found = [f for f in examine(root).findings if f.severity == "error" and "info.json says" in f.found]
    assert [f.severity for f in found] == ([severity] if severity and said == [7] else [])
    assert examine(root).healthy == (severity is None)


def degrees(*keys: str, only: tuple[int, ...] = (0, 1, 2, 3), largest: float = 100.0) -> Any:
    def turned(index: int, columns: dict[str, np.ndarray]) -> None:
        for key in keys if index in only else ():
            columns[key] = (columns[key] * largest).astype(np.float32)

    return turned


def test_joints_in_degrees_are_not_called_radians(tmp_path: Path) -> None:
    def wrapped(index: int, columns: dict[str, np.ndarray]) -> None:
        degrees("observation.state", "action")(index, columns)
        if index == 1:
            columns["observation.state"][20:, 0] -= 170

    report = examine(write(tmp_path / "set", wrapped))
    (note,) = report.of("units")
    assert "degrees, or the recorder's own scale, no radians" in note.found
    (jump,) = report.of("jump")
    assert "degrees after step 19 of episode 1 (at most 90.00 degrees is credible)" in jump.found
    assert not any(" rad " in f.found for f in report.findings)


def test_moving_many_degrees_in_a_step_is_no_jump(tmp_path: Path) -> None:
    report = examine(write(tmp_path / "set", degrees("observation.state", "action", largest=170.0)))
    assert loud(report) == []


def test_radians_among_degrees(tmp_path: Path) -> None:
    some = examine(write(tmp_path / "some", degrees("observation.state", only=(0, 1, 2), largest=57.3)))
    (finding,) = (f for f in some.of("units") if f.severity == "error")
    assert finding.episodes == (3,)
    half = examine(write(tmp_path / "half", degrees("observation.state", largest=57.3)))
    assert not [f for f in half.of("units") if f.severity == "error"]


def test_ticks_and_millimetres_are_no_radians_and_no_metres(tmp_path: Path) -> None:
    ticks = examine(write(tmp_path / "ticks", degrees("observation.state", "action", largest=1500.0)))
    assert loud(ticks) == []

    def rename(text: str) -> str:
        return text.replace('"arm"', '"eef_position"')

    root = write(tmp_path / "mm", degrees("observation.state", "action", largest=400.0), number=3)
    path = root / "meta/modality.json"
    path.write_text(rename(path.read_text()))
    report = examine(root)
    assert loud(report) == []
    assert "millimetres" in report.of("units")[0].found


def test_constants_that_jitter_are_idle(tmp_path: Path) -> None:
    def jitter(_index: int, columns: dict[str, np.ndarray]) -> None:
        rng = np.random.default_rng(0)
        columns["action"][:, 2] = 1 + rng.normal(size=STEPS) * 1e-7

    report = examine(write(tmp_path / "set", jitter))
    assert report.of("idle")[0].found == "joints[2] never change"


def test_commands_too_rare_for_percentiles_are_named(tmp_path: Path) -> None:
    def rarely(_index: int, columns: dict[str, np.ndarray], _videos: Any) -> None:
        columns["action"][:, 0:4] = 0

    def once(index: int, columns: dict[str, np.ndarray], videos: Any) -> None:
        rarely(index, columns, videos)
        columns["action"][5, 1] = 0.5 if index == 0 else 0

    assert not examine(write_omron(tmp_path / "never", episodes=8, change=rarely)).of("percentiles")
    (finding,) = examine(write_omron(tmp_path / "once", episodes=8, change=once)).of("percentiles")
    assert (finding.severity, finding.where) == ("warning", "action.base_motion")
    assert "motion of element 1 in 0.42% of the steps" in finding.found


def test_a_set_of_nothing_but_nan_is_examined_to_the_end(tmp_path: Path) -> None:
    root = write(tmp_path / "set", episodes=2)

    def spoil(table: pa.Table) -> pa.Table:
        for name in ("observation.state", "action"):
            rows = np.full((len(table), 6), np.nan)
            table = table.set_column(table.column_names.index(name), name, pa.array(list(rows)))
        return table

    each_table(root, spoil)
    report = examine(root)
    assert {(f.check, f.where) for f in report.findings if f.severity == "error"} == {
        ("finite", "state.arm"),
        ("finite", "action.joints"),
    }
