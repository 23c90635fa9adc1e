"""v2.1 <-> v3.0: nothing is lost either way, pictures are copied, interruptions leave nothing half-written."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from full_disk import full_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot_files import as_v3, change_json, tree
from toy_dataset import episode, open_writer

from svms_gr00t.cli.console import ended
from svms_gr00t.core.errors import DataError
from svms_gr00t.data.convert.to_v3 import convert_to_v3
from svms_gr00t.data.convert.to_v21 import convert_to_v21
from svms_gr00t.data.doctor.examine import examine
from svms_gr00t.data.lerobot.dataset import LeRobotDataset

V21 = ("episodes.jsonl", "tasks.jsonl", "episodes_stats.jsonl", "info.json", "modality.json")


def parsed(path: Path) -> Any:
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def packets(path: Path) -> list[tuple[bytes, bool]]:
    with av.open(str(path)) as container:
        return [(bytes(p), p.is_keyframe) for p in container.demux(video=0) if p.size]


def same_numbers_and_pictures(a: Path, b: Path) -> None:
    old, new = LeRobotDataset.open(a), LeRobotDataset.open(b)
    assert (new.episodes, new.tasks, new.fps) == (old.episodes, old.tasks, old.fps)
    for one in old.episodes:
        for name, values in old.lowdim(one.index).items():
            np.testing.assert_array_equal(new.lowdim(one.index)[name], values)
        assert new.instructions(one.index) == old.instructions(one.index)
        for view in old.views:
            shown = [dataset.frames(one.index, view, range(one.length)) for dataset in (old, new)]
            np.testing.assert_array_equal(shown[0], shown[1])


@settings(max_examples=5, deadline=None)
@given(lengths=st.lists(st.integers(1, 23), min_size=1, max_size=4), own_files=st.booleans())
def test_there_and_back_gives_the_same_dataset(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], own_files: bool
) -> None:
    folder = tmp_path_factory.mktemp("versions")
    source = folder / "v21"
    with open_writer(source) as writer:
        for index, length in enumerate(lengths):
            writer.add_episode(*episode(length, seed=index), f"open drawer {index % 2}", {"scene": {"seed": index}})
    limit = {"data_mb": 0, "video_mb": 0} if own_files else {}
    middle = convert_to_v3(source, folder / "v3", **limit).root
    assert len(list(middle.glob("data/*/*.parquet"))) == (len(lengths) if own_files else 1)
    same_numbers_and_pictures(source, middle)
    back = convert_to_v21(middle, folder / "back")
    assert back.encoded == 0
    for name in V21:
        assert parsed(source / "meta" / name) == parsed(back.root / "meta" / name), name
    stats, more = (parsed(root / "meta/stats.json") for root in (source, back.root))
    assert all(more[name][kind] == value for name, kinds in stats.items() for kind, value in kinds.items())
    for path in source.rglob("*.parquet"):
        other = pq.read_table(back.root / path.relative_to(source))
        assert other.equals(pq.read_table(path)), path
        assert other.schema.equals(pq.read_table(path).schema)
    for path in source.rglob("*.mp4"):
        assert packets(back.root / path.relative_to(source)) == packets(path)
    assert tree(source / "extras") == tree(back.root / "extras")
    again = convert_to_v3(back.root, folder / "again", **limit).root
    assert tree(again) == tree(middle)


def test_the_layout_is_that_of_lerobot(toy: Path) -> None:
    root = convert_to_v3(toy, toy.with_name("v3")).root
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    assert str(table.schema.field("action").type).startswith("fixed_size_list<")
    assert table.schema.field("action").type.list_size == 4
    tasks = pq.read_schema(root / "meta/tasks.parquet")
    assert json.loads(tasks.metadata[b"pandas"])["index_columns"] == ["task"]
    rows = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    key = "videos/observation.images.front"
    assert [(row[f"{key}/from_timestamp"], row["dataset_from_index"]) for row in rows] == [
        (0.0, 0),
        (0.6, 12),
        (pytest.approx(0.95), 19),
    ]
    info = json.loads((root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert "total_videos" not in info
    assert info["features"]["action"]["fps"] == 20
    assert [finding for finding in examine(root).findings if finding.severity == "error"] == []


def test_an_episode_between_keyframes_is_encoded_without_loss(toy: Path) -> None:
    v3 = as_v3(toy)  # one clip encoded in one go: episodes begin anywhere
    done = convert_to_v21(v3, toy.with_name("cut"))
    assert done.encoded >= 1
    same_numbers_and_pictures(v3, done.root)


def test_b_frames_and_another_codec_survive(toy: Path) -> None:
    """x264 with B frames in one clip: it cannot be joined with the others, so it gets a file of its own."""
    path = toy / "videos/chunk-000/observation.images.front/episode_000001.mp4"
    frames = LeRobotDataset.open(toy).frames(1, "front", range(7))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20, options={"bf": "3", "g": "250"})
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    middle = convert_to_v3(toy, toy.with_name("v3")).root
    assert len(list(middle.glob("videos/*/*/*.mp4"))) == 3
    same_numbers_and_pictures(toy, middle)
    same_numbers_and_pictures(toy, convert_to_v21(middle, toy.with_name("back")).root)


def test_av1_is_copied_too(toy: Path) -> None:
    """LeRobot's own default codec."""
    dataset = LeRobotDataset.open(toy)
    for one in dataset.episodes:
        frames = dataset.frames(one.index, "front", range(one.length))
        path = toy / f"videos/chunk-000/observation.images.front/episode_{one.index:06d}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libsvtav1", rate=20, options={"crf": "30", "g": "2", "preset": "12"})
            stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
            for image in np.repeat(np.repeat(frames, 2, 1), 2, 2)[:, :48, :48]:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
            container.mux(stream.encode())
    middle = convert_to_v3(toy, toy.with_name("v3")).root
    back = convert_to_v21(middle, toy.with_name("back"))
    assert back.encoded == 0
    same_numbers_and_pictures(toy, middle)
    same_numbers_and_pictures(toy, back.root)
    assert examine(toy).of("codec") == ()


def test_a_real_dataset(shared: Path, tmp_path: Path) -> None:
    """GR1 data of v2.0, no keyframe but the first, a camera without files."""
    source = shared / "robot_sim.PickNPlace"
    middle = convert_to_v3(source, tmp_path / "v3").root
    old, new = LeRobotDataset.open(source), LeRobotDataset.open(middle)
    few = [0, 100, 327]
    for index in (0, 4):
        np.testing.assert_array_equal(old.frames(index, "ego_view", few), new.frames(index, "ego_view", few))
        np.testing.assert_array_equal(
            old.columns(index, ["action"])["action"], new.columns(index, ["action"])["action"]
        )
    back = convert_to_v21(middle, tmp_path / "back")
    assert back.encoded == 0
    name = "videos/chunk-000/observation.images.ego_view/episode_000003.mp4"
    assert packets(back.root / name) == packets(source / name)
    assert parsed(source / "meta/tasks.jsonl") == parsed(back.root / "meta/tasks.jsonl")
    info = parsed(middle / "meta/info.json")
    assert (info["total_episodes"], info["total_frames"], info["splits"]) == (
        5,
        2096,
        {"train": "0:5"},
    )  # it says 0:100


class Stopper:
    def __init__(self, after: int) -> None:
        self.after = after

    @contextmanager
    def task(self, title: str, _total: int) -> Any:
        yield Stopper(10**6) if title == "reading the source" else self

    def advance(self, steps: int = 1) -> None:
        self.after -= steps
        if self.after < 0:
            raise KeyboardInterrupt

    def note(self, text: str) -> None: ...


@pytest.mark.parametrize("after", [0, 1, 2])
def test_interrupted_conversions_go_on(toy: Path, after: int) -> None:
    def run(convert: Callable[..., Any], source: Path, name: str) -> Path:
        target = toy.with_name(name)
        with pytest.raises(KeyboardInterrupt):
            convert(source, target, progress=Stopper(after))
        assert not target.exists()
        partial = toy.with_name(f".{name}.partial")
        (partial / "files/data/chunk-000/.partial.file-009.parquet").write_bytes(b"torn")
        convert(source, target)
        assert not partial.exists()
        whole = toy.with_name(f"{name}_whole")
        convert(source, whole)
        assert tree(target) == tree(whole)
        return target

    middle = run(lambda *a, **k: convert_to_v3(*a, data_mb=0, video_mb=0, **k), toy, "v3")
    run(convert_to_v21, middle, "v21")


def test_what_cannot_be_converted_is_one_sentence(toy: Path) -> None:
    v3 = convert_to_v3(toy, toy.with_name("v3")).root
    with pytest.raises(DataError, match=r"version v3.0, but need v2.0 or v2.1"):
        convert_to_v3(v3, toy.with_name("x"))
    with pytest.raises(DataError, match=r"version v2.1, but need v3.0"):
        convert_to_v21(toy, toy.with_name("x"))
    with pytest.raises(DataError, match="something there already"):
        convert_to_v3(toy, v3)
    clip = toy / "videos/chunk-000/observation.images.front/episode_000002.mp4"
    clip.write_bytes((clip.parent / "episode_000001.mp4").read_bytes())
    with pytest.raises(DataError, match=r"000002.mp4: found 7 frames, but need 9"):
        convert_to_v3(toy, toy.with_name("x"))
    assert not toy.with_name("x").exists()


def test_image_columns_pass_through(toy: Path) -> None:
    """A dataset whose pictures are PNG bytes in the rows, video_path null: both directions, and the reader."""
    import io

    import pyarrow as pa
    from PIL import Image

    dataset = LeRobotDataset.open(toy)
    frames = {e.index: dataset.frames(e.index, "front", range(e.length)) for e in dataset.episodes}
    name = "observation.images.front"
    for index, pictures in frames.items():
        path = toy / f"data/chunk-000/episode_{index:06d}.parquet"
        rows = []
        for picture in pictures:
            out = io.BytesIO()
            Image.fromarray(picture).save(out, "PNG")
            rows.append({"bytes": out.getvalue(), "path": None})
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        pq.write_table(pq.read_table(path).append_column(name, pa.array(rows, kind)), path)
    info = json.loads((toy / "meta/info.json").read_text())
    info["features"][name]["dtype"] = "image"
    change_json(toy / "meta/info.json", features=info["features"], video_path=None, total_videos=0)
    back = convert_to_v21(convert_to_v3(toy, toy.with_name("v3")).root, toy.with_name("back"))
    for root in (toy, toy.with_name("v3"), back.root):
        found = LeRobotDataset.open(root)
        for index, pictures in frames.items():
            np.testing.assert_array_equal(found.frames(index, "front", range(len(pictures))), pictures)
    assert examine(toy).healthy


@pytest.mark.parametrize("room", [1_000, 3_000])
def test_a_full_disk_is_not_the_clips_fault(toy: Path, room: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Joined and cut clips, copied or encoded: what is said is the file that found no room."""
    v3 = convert_to_v3(toy, toy.with_name("v3")).root
    for convert, source, name in ((convert_to_v3, toy, "again"), (convert_to_v21, v3, "back")):

        def write(convert: Any = convert, source: Path = source, name: str = name) -> int:
            with full_disk(room):
                convert(source, toy.with_name(name))
            return 0

        assert ended(write, []) == 2
        said = capsys.readouterr().err.replace("\n", " ")
        assert "Make room there, then run the same command again" in said
        assert name in said
