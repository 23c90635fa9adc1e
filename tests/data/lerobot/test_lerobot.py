import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_files import as_v3, change_json

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot import dataset as dataset_module
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.fingerprint import _numbers
from svms_gr00t.data.loading.lowdim_table import LowDimTable

FIRST = "data/chunk-000/episode_000000.parquet"
CLIP = "videos/chunk-000/observation.images.front/episode_000000.mp4"


def change_column(path: Path, name: str, values: pa.Array) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(name), name, values), path)


def read_everything(root: Path) -> None:
    dataset = LeRobotDataset.open(root)
    for episode in dataset.episodes:
        dataset.lowdim(episode.index)
        dataset.instructions(episode.index)
        dataset.frames(episode.index, "front", range(episode.length))


def test_a_real_dataset(shared):
    root = shared / "robot_sim.PickNPlace"
    dataset = LeRobotDataset.open(root)
    assert (dataset.fps, dataset.robot_type, dataset.views) == (20.0, "GR1ArmsOnly", ("ego_view",))
    assert [e.length for e in dataset.episodes] == [416, 470, 470, 412, 328]
    raw = pq.read_table(root / "data/chunk-000/episode_000003.parquet").to_pydict()
    lowdim = dataset.lowdim(3)
    np.testing.assert_array_equal(lowdim["state.right_arm"], np.float32(raw["observation.state"])[:, 22:29])
    np.testing.assert_array_equal(lowdim["action.waist"], np.float32(raw["action"])[:, 41:44])
    assert dataset.instruction(3, 0) == "pick the salt from the counter and place it in the plate"
    assert "valid" not in {text for e in dataset.episodes for text in dataset.instructions(e.index)}
    few = dataset.frames(3, "ego_view", [411, 0, 200])
    np.testing.assert_array_equal(few, dataset.frames(3, "ego_view", range(412))[[411, 0, 200]])
    assert few.shape == (3, 256, 256, 3)


def test_number_columns_may_be_stored_in_any_way(toy):
    dataset = LeRobotDataset.open(toy)
    expected = dataset.lowdim(0)
    rows = pq.read_table(toy / FIRST)["action"].to_pylist()
    for kind in (pa.list_(pa.float64()), pa.list_(pa.float32(), 4), pa.large_list(pa.float64())):
        change_column(toy / FIRST, "action", pa.array(rows, kind))
        for name, values in LeRobotDataset.open(toy).lowdim(0).items():
            np.testing.assert_array_equal(values, expected[name])


def test_what_the_wild_does_is_accepted(toy):
    with (toy / "meta/tasks.jsonl").open("a") as file:
        file.write('\n{"task_index": 7, "task": "OpenDrawer"}\n')  # a class name, not counted in total_tasks
    info = json.loads((toy / "meta/info.json").read_text())
    feature = info["features"]["observation.images.front"]
    feature["video_info"] = feature.pop("info")
    info["features"]["observation.images.unused"] = feature  # a camera without files
    change_json(toy / "meta/info.json", codebase_version="v2.0", features=info["features"], video_files_size_in_mb=1)
    for name in ("stats.json", "episodes_stats.jsonl", "provenance.json"):
        (toy / "meta" / name).unlink()
    read_everything(toy)
    assert LeRobotDataset.open(toy).tasks[7] == "OpenDrawer"
    assert LeRobotDataset.open(toy).fingerprint()


def test_the_instruction_may_change_within_an_episode_or_come_from_task_index(toy):
    values = np.repeat([0, 1], [5, 7])
    change_column(toy / FIRST, "annotation.human.action.task_description", pa.array(values))
    assert LeRobotDataset.open(toy).instructions(0) == ["open the drawer"] * 5 + ["open the door"] * 7
    modality = json.loads((toy / "meta/modality.json").read_text())
    change_json(toy / "meta/modality.json", **modality | {"annotation": {}})
    assert set(LeRobotDataset.open(toy).instructions(0)) == {"open the drawer"}


def test_v3_says_the_same_as_v2(toy):
    old, new = LeRobotDataset.open(toy), LeRobotDataset.open(as_v3(toy))
    assert (new.episodes, new.tasks) == (old.episodes, old.tasks)
    for episode in old.episodes:
        for name, values in old.lowdim(episode.index).items():
            np.testing.assert_array_equal(new.lowdim(episode.index)[name], values)
        assert new.instructions(episode.index) == old.instructions(episode.index)
        frames = [d.frames(episode.index, "front", range(episode.length)).astype(float) for d in (old, new)]
        assert np.mean((frames[0] - frames[1]) ** 2) < 30  # encoded twice
        assert np.mean((frames[0][1:] - frames[1][:-1]) ** 2) > 60  # one frame off is seen
    assert new.fingerprint() != old.fingerprint()


def test_v3_faults_are_one_sentence(toy):
    root = as_v3(toy)
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["data/file_index"]), path)
    with pytest.raises(DataError, match="data/file_index"):
        LeRobotDataset.open(root)
    path.unlink()
    with pytest.raises(DataError, match="no parquet file"):
        LeRobotDataset.open(root)


def test_the_fingerprint_names_the_bytes(toy):
    first = LeRobotDataset.open(toy).fingerprint()
    assert first == LeRobotDataset.open(shutil.copytree(toy, toy.with_name("copy"))).fingerprint()
    for name in (FIRST, CLIP, "meta/stats.json"):
        path = toy / name
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        assert LeRobotDataset.open(toy).fingerprint() != first, name
        path.write_bytes(whole)
    (toy / "notes.txt").write_text("not data")
    assert LeRobotDataset.open(toy).fingerprint() == first


def test_pictures_in_parquet_are_no_numbers_whatever_dots_are_in_their_names(tmp_path):
    """Of a large dataset every byte of the numbers is read, and of pictures a sample."""
    shared = {"observation.state": [[0.1], [0.2]], "observation.images.front.depth": [1.0, 2.0]}

    def numbers(picture: bytes, **other: list) -> bytes:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        pictures = {"observation.images.front": [{"bytes": picture, "path": None}] * 2}
        pq.write_table(pa.table({**pictures, **shared, **other}), path)
        return _numbers(path, ["observation.images.front"])

    first = numbers(b"a picture")
    assert numbers(b"another one") == first
    assert numbers(b"a picture", **{"observation.images.front.depth": [1.0, 3.0]}) != first
    assert numbers(b"a picture", **{"observation.state": [[0.1], [0.3]]}) != first


def test_a_table_opens_the_file_of_each_episode_once(toy, monkeypatch):
    dataset, opened = LeRobotDataset.open(toy), []
    read = dataset_module.read_columns

    def counted(path, *given, **named):
        opened.append(path)
        return read(path, *given, **named)

    monkeypatch.setattr(dataset_module, "read_columns", counted)
    chosen = [one.index for one in dataset.episodes]
    table = LowDimTable.build(dataset, chosen)
    assert opened == [dataset.metadata.data[index] for index in chosen]
    monkeypatch.undo()
    for index in chosen:
        length = dataset.episode(index).length
        assert [table.instruction(index, step) for step in range(length)] == dataset.instructions(index)
        rows = table.rows(index, np.arange(length), "state")
        for key, values in rows.items():
            np.testing.assert_array_equal(values, dataset.lowdim(index)[f"state.{key}"])


def test_an_open_dataset_travels_to_another_process(toy):
    dataset = LeRobotDataset.open(toy)
    here = dataset.frames(0, "front", [3])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset)).frames(0, "front", [3]), here)


def _edit(name: str, **fields: Any):
    return lambda root: change_json(root / name, **fields)


def _write(name: str, text: str):
    return lambda root: (root / name).write_text(text)


def _drop(name: str):
    return lambda root: (root / name).unlink()


def _column(name: str, values: list[Any]):
    return lambda root: change_column(root / FIRST, name, pa.array(values))


ROW = [0.0, 1.0, 2.0, 3.0]
FAULTS = {
    "not a folder": (shutil.rmtree, "no such folder"),
    "no info": (_drop("meta/info.json"), "no such file, but need a LeRobot dataset"),
    "no modality": (_drop("meta/modality.json"), "need the GR00T description of the columns, meta/modality.json"),
    "no episodes": (_drop("meta/episodes.jsonl"), "need the list of episodes"),
    "empty episodes": (_write("meta/episodes.jsonl", "\n"), "no rows"),
    "no tasks": (_drop("meta/tasks.jsonl"), "need the list of task texts"),
    "bad json": (_write("meta/info.json", '{"fps": 20,'), "broken JSON .* line 1"),
    "bad line": (_write("meta/tasks.jsonl", '{"task_index": 0, "task": "a"}\n{"task'), "line 2: found broken JSON"),
    "not text": (lambda root: (root / "meta/info.json").write_bytes(b"\xff\xfe\xff"), "no UTF-8"),
    "zero fps": (_edit("meta/info.json", fps=0), "0 at fps, but need greater than 0"),
    "version 1": (_edit("meta/info.json", codebase_version="v1.6"), "need v2.0, v2.1 or v3.0"),
    "no camera": (_edit("meta/modality.json", video={"wrist": {}}), "camera wrist .* no feature"),
    "twice": (_write("meta/episodes.jsonl", 2 * '{"episode_index": 1, "length": 7}\n'), "episode_index 1 twice"),
    "no parquet": (_drop(FIRST), "episode_000000.parquet: found no such file"),
    "bad parquet": (_write(FIRST, "PAR1 this is not"), "unreadable file"),
    "long": (_write("meta/episodes.jsonl", '{"episode_index": 0, "length": 13}'), "12 rows, but need the 13"),
    "no column": (_edit("meta/modality.json", state={"a": {"start": 0, "end": 1, "original_key": "b"}}), "no column b"),
    "narrow": (_column("action", [ROW[:2]] * 12), "2 numbers, but need the 4 that action.arm"),
    "ragged": (_column("action", [ROW] * 11 + [ROW[:3]]), "one width"),
    "null": (_column("action", [ROW] * 11 + [[0.0, None, 0.0, 0.0]]), "1 empty values"),
    "null row": (_column("action", [ROW] * 11 + [None]), "one width"),
    "text": (_column("action", ["left"] * 12), "values of type string"),
    "nan": (_column("action", [ROW] * 4 + [[0.0, np.nan, 0.0, 0.0]] + [ROW] * 7), "NaN or infinity at step 4"),
    "overflow": (_column("action", [ROW] * 11 + [[0.0, 1e300, 0.0, 0.0]]), "NaN or infinity at step 11"),
    "no such task": (
        _column("annotation.human.action.task_description", [0] * 3 + [9] + [0] * 8),
        "step 3: found task index 9",
    ),
    "no video": (_drop(CLIP), "episode_000000.mp4: found no such file"),
    "another video": (
        lambda root: shutil.copy(root / CLIP.replace("000000", "000001"), root / CLIP),
        "7 frames, but need 12",
    ),
    "climbing data path": (_edit("meta/info.json", data_path="../{episode_index}.parquet"), "inside the dataset"),
    "absolute video path": (_edit("meta/info.json", video_path="/etc/{video_key}.mp4"), "inside the dataset"),
    "drive path": (_edit("meta/info.json", data_path="C:\\{episode_index}.parquet"), "inside the dataset"),
    "clever template": (_edit("meta/info.json", data_path="{episode_index.__class__}"), "the path template"),
    "huge template": (_edit("meta/info.json", data_path="{episode_index:999999999d}"), "the path template"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_one_sentence(toy, fault):
    read_everything(toy)  # fine before
    spoil, sentence = FAULTS[fault]
    spoil(toy)
    with pytest.raises(DataError, match=sentence) as caught:
        read_everything(toy)
    assert "\n" not in str(caught.value)
    assert str(toy) in str(caught.value)


def test_a_video_key_cannot_climb_either(toy):
    info = json.loads((toy / "meta/info.json").read_text())
    info["features"]["../../../secret"] = info["features"]["observation.images.front"]
    change_json(toy / "meta/info.json", features=info["features"])
    with pytest.raises(DataError, match="the name"):
        LeRobotDataset.open(toy)


def test_questions_out_of_range_are_one_sentence(toy):
    dataset = LeRobotDataset.open(toy)
    with pytest.raises(DataError, match="episode 9, but need one of the 3 episodes"):
        dataset.lowdim(9)
    with pytest.raises(DataError, match="camera 'wrist', but need one of front"):
        dataset.frames(0, "wrist", [0])
    for step in (-1, 12):
        with pytest.raises(DataError, match=f"step {step}, but need steps 0 to 11"):
            dataset.frames(0, "front", [step])
