import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from toy_dataset import LENGTHS, MODALITY, episode, open_writer, write_toy

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.modality import Modality


def tree(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_numbers_come_back_exactly_and_pictures_closely(toy):
    dataset = LeRobotDataset.open(toy)
    assert [e.length for e in dataset.episodes] == list(LENGTHS)
    for index, length in enumerate(LENGTHS):
        columns, videos = episode(length, seed=index)
        lowdim = dataset.lowdim(index)
        state, action = columns["observation.state"], columns["action"]
        expected = {"state.arm": state[:, :3], "state.gripper": state[:, 3:]}
        expected |= {"action.arm": action[:, 1:], "action.gripper": action[:, :1]}
        assert list(lowdim) == list(expected)
        for name, rows in expected.items():
            np.testing.assert_array_equal(lowdim[name], rows)
            assert lowdim[name].dtype == np.float32
        frames = dataset.frames(index, "front", range(length))
        error = np.mean((frames.astype(float) - videos["observation.images.front"]) ** 2)
        assert 10 * np.log10(255**2 / error) > 32
        assert set(dataset.instructions(index)) == {f"open the {('drawer', 'door')[index % 2]}"}


def test_the_bookkeeping_columns(toy):
    tables = [pq.read_table(toy / f"data/chunk-000/episode_{i:06d}.parquet").to_pydict() for i in range(3)]
    assert [row for t in tables for row in t["index"]] == list(range(sum(LENGTHS)))
    for i, table in enumerate(tables):
        steps = list(range(LENGTHS[i]))
        assert table["frame_index"] == steps
        assert set(table["episode_index"]) == {i}
        assert table["task_index"] == table["annotation.human.action.task_description"] == [i % 2] * len(steps)
        np.testing.assert_allclose(table["timestamp"], np.array(steps) / 20)
        assert table["next.done"] == [False] * (len(steps) - 1) + [True]
        assert table["next.reward"] == [0.0] * (len(steps) - 1) + [1.0]


def test_a_failed_attempt_is_done_without_reward(tmp_path):
    with open_writer(tmp_path / "d") as writer:
        writer.add_episode(*episode(5, seed=0), "open the door", success=False)
    table = pq.read_table(tmp_path / "d/data/chunk-000/episode_000000.parquet").to_pydict()
    assert (table["next.done"][-1], set(table["next.reward"])) == (True, {0.0})


def test_metadata_is_what_other_tools_expect(toy):
    info = json.loads((toy / "meta/info.json").read_text())
    totals = {name: info[f"total_{name}"] for name in ("episodes", "frames", "tasks", "videos", "chunks")}
    assert totals == {"episodes": 3, "frames": sum(LENGTHS), "tasks": 2, "videos": 3, "chunks": 1}
    columns = pq.read_schema(toy / "data/chunk-000/episode_000000.parquet").names
    assert set(info["features"]) == {*columns, "observation.images.front"}
    stats = json.loads((toy / "meta/stats.json").read_text())
    assert set(stats) == set(columns)
    rows = np.concatenate([episode(n, seed=i)[0]["action"] for i, n in enumerate(LENGTHS)]).astype(np.float64)
    np.testing.assert_array_equal(stats["action"]["q99"], np.quantile(rows, 0.99, axis=0))
    np.testing.assert_allclose(stats["action"]["mean"], rows.mean(axis=0), atol=1e-12)
    per_episode = [json.loads(line) for line in (toy / "meta/episodes_stats.jsonl").read_text().splitlines()]
    assert [row["stats"]["action"]["count"] for row in per_episode] == [[n] for n in LENGTHS]
    picture = per_episode[0]["stats"]["observation.images.front"]
    assert np.shape(picture["mean"]) == (3, 1, 1)
    assert 0 <= np.min(picture["min"]) < np.max(picture["max"]) <= 1
    assert json.loads((toy / "extras/episode_000002/scene.json").read_text()) == {"seed": 2}
    assert json.loads((toy / "meta/provenance.json").read_text()) == {"made_by": "the tests"}
    assert Modality.load(toy / "meta/modality.json") == Modality.from_dict(MODALITY)


def test_equal_calls_write_equal_bytes(tmp_path):
    a, b = tree(write_toy(tmp_path / "a")), tree(write_toy(tmp_path / "b"))
    assert a == b
    assert len(a) == 7 + 3 * 3


def test_nothing_is_left_when_recording_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), open_writer(tmp_path / "d") as writer:  # noqa: PT012
        writer.add_episode(*episode(5, seed=0), "open the door")
        assert not (tmp_path / "d").exists()  # nothing appears before the end
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="no episodes"), open_writer(tmp_path / "d"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_used_name_is_refused_and_untouched(toy):
    before = tree(toy)
    with pytest.raises(DataError, match="something there already"):
        open_writer(toy)
    assert tree(toy) == before
    empty = toy.parent / "empty"
    empty.mkdir()
    write_toy(empty)
    assert LeRobotDataset.open(empty).robot_type == "toy"


def test_a_name_taken_while_recording_is_refused_and_untouched(tmp_path):
    with pytest.raises(DataError, match="taken meanwhile"), open_writer(tmp_path / "d") as writer:  # noqa: PT012
        writer.add_episode(*episode(5, seed=0), "open the door")
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "mine.txt").write_text("precious")
    assert [p.name for p in tmp_path.rglob("*")] == ["d", "mine.txt"]


def _without_action(columns, videos):
    del columns["action"]


def _narrow(columns, videos):
    columns["action"] = columns["action"][:, :3]


def _short(columns, videos):
    columns["action"] = columns["action"][:-1]


def _nan(columns, videos):
    columns["observation.state"][2, 1] = np.nan


def _small(columns, videos):
    videos["observation.images.front"] = videos["observation.images.front"][:, :40]


def _extra(columns, videos):
    columns["torque"] = columns["action"]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_without_action, r"action: found nothing, but need \(4,\) a step"),
        (_narrow, r"action: found \(3,\) a step"),
        (_short, r"lengths \[4, 5\]"),
        (_nan, "observation.state: found NaN"),
        (_small, r"found \(40, 48, 3\) a step, but need \(48, 48, 3\)"),
        (_extra, "torque: found .* but need nothing"),
    ],
)
def test_a_bad_episode_is_one_sentence_and_recording_goes_on(tmp_path, spoil, sentence):
    with open_writer(tmp_path / "d") as writer:
        columns, videos = episode(5, seed=0)
        spoil(columns, videos)
        with pytest.raises(DataError, match=sentence):
            writer.add_episode(columns, videos, "open the door")
        writer.add_episode(*episode(6, seed=0), "open the door")
    assert [e.length for e in LeRobotDataset.open(tmp_path / "d").episodes] == [6]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"modality": Modality.from_dict({"state": {"arm": {"start": 0, "end": 9}}})}, "state.arm ending at 9"),
        ({"modality": Modality.from_dict({"video": {"wrist": {}}})}, "naming observation.images.wrist"),
        ({"modality": Modality.from_dict({"annotation": {"human.mood": {}}})}, "naming annotation.human.mood"),
        ({"videos": {"observation.images.front": (47, 48)}}, "47 x 48"),
    ],
)
def test_a_modality_that_does_not_fit_is_refused_at_once(tmp_path, changes, sentence):
    with pytest.raises(DataError, match=sentence):
        open_writer(tmp_path / "d", **changes)
    assert list(tmp_path.iterdir()) == []
