"""What LeRobot needs of a v3.0 set to train, edit, merge and append; `tools/against_lerobot.sh` asks LeRobot itself."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lerobot_files import change_json
from toy_dataset import LENGTHS, episode, open_writer

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.convert.to_v3 import convert_to_v3
from svms_gr00t.data.convert.to_v21 import convert_to_v21
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.summary import LEROBOT_QUANTILES, colour_counts, merged, picture_summary

KINDS = {"min", "max", "mean", "std", "count", *LEROBOT_QUANTILES}
FRONT = "observation.images.front"
DATA = "data/chunk-000/episode_{:06d}.parquet"


def info_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "meta/info.json").read_text())


def table_of(root: Path) -> list[dict[str, Any]]:
    return pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


def rows_of(root: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted(root.glob("data/*/*.parquet")))


def edit_rows(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def take_out(root: Path, gone: int) -> None:
    """An episode deleted by hand: its line and its files; the others keep their numbers, its extras stay."""
    for name in ("episodes.jsonl", "episodes_stats.jsonl"):
        path = root / "meta" / name
        lines = [line for line in path.read_text().split("\n") if line and json.loads(line)["episode_index"] != gone]
        path.write_text("\n".join(lines) + "\n")
    for path in (*root.glob(f"data/*/episode_{gone:06d}.*"), *root.glob(f"videos/*/*/episode_{gone:06d}.*")):
        path.unlink()


def as_lerobot_reads(root: Path) -> tuple[list[str], np.ndarray]:
    """Instructions and actions by place: row k of the tasks, row k of the episodes, row k of all data files."""
    texts = pq.read_table(root / "meta/tasks.parquet")["task"].to_pylist()
    rows = rows_of(root)
    for place, row in enumerate(table_of(root)):
        assert row["episode_index"] == place
        part = rows.slice(row["dataset_from_index"], row["length"])
        assert part["episode_index"].to_pylist() == [place] * row["length"]
        assert part["frame_index"].to_pylist() == list(range(row["length"]))
    assert rows["index"].to_pylist() == list(range(len(rows)))
    return [texts[task] for task in rows["task_index"].to_pylist()], np.array(rows["action"].to_pylist())


def test_every_feature_has_every_statistic_of_the_rows_and_cameras_too(toy: Path) -> None:
    root = convert_to_v3(toy, toy.with_name("v3")).root
    stats, rows, features = json.loads((root / "meta/stats.json").read_text()), rows_of(root), info_of(root)["features"]
    assert stats.keys() == features.keys()
    assert all(kinds.keys() == KINDS for kinds in stats.values())
    action = np.array(rows["action"].to_pylist())
    for kind, wanted in {
        "min": action.min(0),
        "max": action.max(0),
        "mean": action.mean(0),
        "std": action.std(0),
    }.items():
        np.testing.assert_allclose(stats["action"][kind], wanted, rtol=1e-6)
    np.testing.assert_allclose(stats["action"]["q90"], np.quantile(action, 0.9, axis=0), rtol=1e-6)
    assert stats["action"]["count"] == stats["next.done"]["count"] == [sum(LENGTHS)]
    table = table_of(root)
    assert {name for name in table[0] if name.startswith("stats/")} == {
        f"stats/{f}/{k}" for f in features for k in KINDS
    }
    assert stats[FRONT] == merged([{k: row[f"stats/{FRONT}/{k}"] for k in KINDS} for row in table])
    assert np.shape(stats[FRONT]["mean"]) == (3, 1, 1)
    assert stats[FRONT]["count"] == [sum(LENGTHS)]


def test_pictures_are_measured_where_the_source_says_nothing(toy: Path) -> None:
    """v2.0 has no statistics of episodes; what a source does say of pictures is kept."""
    given = convert_to_v3(toy, toy.with_name("with")).root
    (toy / "meta/episodes_stats.jsonl").unlink()
    root = convert_to_v3(toy, toy.with_name("without")).root
    dataset = LeRobotDataset.open(toy)
    for row, other in zip(table_of(root), table_of(given), strict=True):
        frames = dataset.frames(row["episode_index"], "front", range(row["length"])) / 255
        np.testing.assert_allclose(np.ravel(row[f"stats/{FRONT}/mean"]), frames.mean((0, 1, 2)), atol=1e-9)
        assert row[f"stats/{FRONT}/mean"] != other[f"stats/{FRONT}/mean"]  # the writer measured before encoding
        np.testing.assert_allclose(row[f"stats/{FRONT}/mean"], other[f"stats/{FRONT}/mean"], atol=0.02)
    assert not (root / "pictures").exists()


@pytest.mark.parametrize("broken", [[0.5], [[[0.5]]], "x", [[[0.1]], [[0.2]], [[None]]]])
def test_statistics_of_another_form_are_measured_again(toy: Path, broken: Any) -> None:
    path = toy / "meta/episodes_stats.jsonl"
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    for row in rows:
        row["stats"][FRONT]["mean"] = broken
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    row = table_of(convert_to_v3(toy, toy.with_name("v3")).root)[0]
    assert np.shape(row[f"stats/{FRONT}/mean"]) == (3, 1, 1)


def test_a_whole_rate_is_an_integer_everywhere(toy: Path) -> None:
    """20.0 stops LeRobot's encoder when it appends; so does the recorder's own set."""
    rates = ("fps", "features/action/fps", f"features/{FRONT}/info/video.fps")
    change_json(toy / "meta/info.json", fps=20.0)
    root = convert_to_v3(toy, toy.with_name("v3")).root
    for rate in rates:
        value = info_of(root)
        for part in rate.split("/"):
            value = value[part]
        assert type(value) is int, rate
    with open_writer(toy.with_name("own"), fps=10.0) as writer:
        writer.add_episode(*episode(3, seed=0), "open the drawer")
    assert '"fps": 10,' in (toy.with_name("own") / "meta/info.json").read_text()
    with open_writer(toy.with_name("odd"), fps=29.97) as writer:
        writer.add_episode(*episode(3, seed=0), "open the drawer")
    assert info_of(toy.with_name("odd"))["fps"] == 29.97


@pytest.mark.parametrize("gone", [0, 1])
def test_episodes_are_renumbered_without_holes(toy: Path, gone: int) -> None:
    old = LeRobotDataset.open(toy)
    kept = [e.index for e in old.episodes if e.index != gone]
    texts = [text for index in kept for text in old.instructions(index)]
    actions = np.concatenate([old.columns(index, ["action"])["action"] for index in kept])
    pictures = [old.frames(index, "front", range(old.episode(index).length)) for index in kept]
    take_out(toy, gone)
    done = convert_to_v3(toy, toy.with_name("v3"))
    assert any("episodes renumbered without holes: " in note and "2 -> 1" in note for note in done.notes)
    found, numbers = as_lerobot_reads(done.root)
    assert found == texts
    np.testing.assert_array_equal(numbers, actions)
    new = LeRobotDataset.open(done.root)
    for place, wanted in enumerate(pictures):
        np.testing.assert_array_equal(new.frames(place, "front", range(len(wanted))), wanted)
    seeds = [json.loads((done.root / f"extras/episode_{k:06d}/scene.json").read_text())["seed"] for k in (0, 1)]
    assert seeds == kept  # not those of the episode that is gone
    assert not (done.root / "extras/episode_000002").exists()
    info = info_of(done.root)
    frames = sum(LENGTHS) - LENGTHS[gone]
    assert (info["total_episodes"], info["total_frames"], info["splits"]) == (2, frames, {"train": "0:2"})
    back = LeRobotDataset.open(convert_to_v21(done.root, toy.with_name("back")).root)
    assert [back.instruction(e.index, 0) for e in back.episodes] == [old.instruction(index, 0) for index in kept]


def test_tasks_are_found_by_their_place(toy: Path) -> None:
    """Holes, another order and one text twice: the annotation follows, its text never changes."""
    old = LeRobotDataset.open(toy)
    texts = [text for e in old.episodes for text in old.instructions(e.index)]
    numbers = {0: 7, 1: 3}
    rows = [{"task_index": 9, "task": old.tasks[0]}, {"task_index": 7, "task": old.tasks[0]}]
    rows += [{"task_index": 3, "task": old.tasks[1]}, {"task_index": 5, "task": "never used"}]
    (toy / "meta/tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for index in range(3):
        for name in ("task_index", "annotation.human.action.task_description"):

            def move(table: pa.Table, name: str = name) -> pa.Table:
                values = [numbers[v] for v in table[name].to_pylist()]
                return table.set_column(table.column_names.index(name), name, pa.array(values))

            edit_rows(toy / DATA.format(index), move)
    done = convert_to_v3(toy, toy.with_name("v3"))
    assert any("tasks renumbered" in note for note in done.notes)
    assert as_lerobot_reads(done.root)[0] == texts
    new = LeRobotDataset.open(done.root)
    assert [text for e in new.episodes for text in new.instructions(e.index)] == texts
    assert info_of(done.root)["total_tasks"] == 3
    tasks = pq.read_table(done.root / "meta/tasks.parquet")
    assert tasks["task_index"].to_pylist() == [0, 1, 2]
    by_number = [{row["task_index"]: row["task"] for row in rows}[k] for k in sorted((3, 5, 7))]
    assert tasks["task"].to_pylist() == by_number


def test_an_old_set_gets_what_lerobot_needs(toy: Path) -> None:
    """v2.0 as NVIDIA writes it: no frame_index, no names, video_info, lists of one number, totals that are wrong."""
    info = info_of(toy)
    feature = info["features"][FRONT]
    feature["video_info"], feature["names"] = feature.pop("info"), None
    for name in ("frame_index", "next.reward"):
        del info["features"][name]
    info["features"]["gone"] = {"dtype": "float32", "shape": [2]}
    del info["features"]["timestamp"]["names"]
    info |= {"codebase_version": "v2.0", "total_episodes": 9, "total_frames": 1, "total_tasks": 40}
    change_json(toy / "meta/info.json", **info | {"splits": {"train": "0:100"}})
    for index in range(3):

        def older(table: pa.Table) -> pa.Table:
            lists = pa.array([[v] for v in table["next.done"].to_pylist()])
            table = table.set_column(table.column_names.index("next.done"), "next.done", lists)
            return table.drop_columns(["frame_index"])

        edit_rows(toy / DATA.format(index), older)
    done = convert_to_v3(toy, toy.with_name("v3"))
    as_lerobot_reads(done.root)
    new, rows = info_of(done.root), rows_of(done.root)
    assert {name for name, f in new["features"].items() if f["dtype"] != "video"} == set(rows.column_names)
    assert all("names" in f for f in new["features"].values())
    assert new["features"][FRONT]["info"]["video.fps"] == 20
    assert new["features"][FRONT]["names"] == ["height", "width", "channels"]
    assert new["features"]["next.reward"] == {"dtype": "float32", "shape": [1], "names": None, "fps": 20}
    assert str(rows.schema.field("next.done").type) == "bool"
    totals = (new["total_episodes"], new["total_frames"], new["total_tasks"], new["splits"])
    assert totals == (3, sum(LENGTHS), 2, {"train": "0:3"})
    assert [note.split(" ")[0] for note in done.notes] == ["gone", "next.reward", "frame_index"]


def _nan(table: pa.Table) -> pa.Table:
    rows = table["action"].to_pylist()
    rows[2][1] = float("nan")
    return table.set_column(table.column_names.index("action"), "action", pa.array(rows, pa.list_(pa.float32())))


def _wide(table: pa.Table) -> pa.Table:
    rows = [[*row, 0.0] for row in table["action"].to_pylist()]
    return table.set_column(table.column_names.index("action"), "action", pa.array(rows, pa.list_(pa.float32())))


def _other_task(table: pa.Table) -> pa.Table:
    return table.set_column(table.column_names.index("task_index"), "task_index", pa.array([8] * len(table)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_nan, "000001.parquet, action: found NaN or infinity at step 2"),
        (_wide, "000001.parquet: found other rows"),
        (lambda table: table.drop_columns(["action"]), "000001.parquet: found other rows"),
        (lambda table: table.drop_columns(["task_index"]), "000001.parquet: found no column task_index"),
        (_other_task, "000001.parquet, task_index: found task 8"),
    ],
    ids=["nan", "wide", "column", "no task", "unknown task"],
)
def test_rows_that_lerobot_cannot_use_are_one_sentence(toy: Path, change: Any, text: str) -> None:
    edit_rows(toy / DATA.format(1), change)
    with pytest.raises(DataError, match=text) as caught:
        convert_to_v3(toy, toy.with_name("v3"))
    assert "\n" not in str(caught.value)
    assert not toy.with_name("v3").exists()


@settings(max_examples=30, deadline=None)
@given(frames=hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.just(3))))
def test_pictures_are_summarised_exactly(frames: np.ndarray) -> None:
    found = {name: np.ravel(value) for name, value in picture_summary(colour_counts(frames)).items()}
    pixels = frames.reshape(-1, 3) / 255
    wanted = {"min": pixels.min(0), "max": pixels.max(0), "mean": pixels.mean(0), "std": pixels.std(0)}
    wanted |= {name: np.quantile(pixels, q, axis=0) for name, q in LEROBOT_QUANTILES.items()}
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=1e-12, err_msg=name)
    assert found["count"] == [len(frames)]


def test_parts_merge_to_the_whole() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    counts = colour_counts(frames)
    parts, whole = [picture_summary(counts[:2]), picture_summary(counts[2:])], picture_summary(counts)
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(merged(parts)[name], whole[name], rtol=1e-12)
    assert merged([whole]) == whole


def test_a_killed_conversion_measures_no_picture_twice(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from svms_gr00t.data.convert import v3_statistics

    (toy / "meta/episodes_stats.jsonl").unlink()
    seen: list[Path] = []

    class Reader(v3_statistics.VideoReader):
        def __init__(self, path: Path) -> None:
            if len(seen) == 2:
                seen.append(path)
                raise KeyboardInterrupt
            seen.append(path)
            super().__init__(path)

    monkeypatch.setattr(v3_statistics, "VideoReader", Reader)
    with pytest.raises(KeyboardInterrupt):
        convert_to_v3(toy, toy.with_name("v3"))
    convert_to_v3(toy, toy.with_name("v3"))
    assert [path.name[8:14] for path in seen] == ["000000", "000001", "000002", "000002"]
    shutil.rmtree(toy.with_name("v3"))
