"""Cameras that fail inside an episode, that only info.json knows, or that measure depth."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_files import as_v3, change_feature, each_table
from omron_dataset import write_omron
from PIL import Image
from toy_dataset import LENGTHS, write_toy

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.doctor.examine import examine
from svms_gr00t.data.doctor.finding import Finding, Report
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.init_modality import propose_for
from svms_gr00t.data.lerobot.video import VideoReader, encode_video

WRIST = "observation.images.robot0_eye_in_hand"
FRONT = "observation.images.front"


def loud(report: Report) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(f.severity, f.check, f.episodes) for f in report.findings if f.severity != "note"]


def bounds(finding: Finding) -> tuple[int, ...]:
    """The steps that a finding names, up to what compression does around a keyframe."""
    found = re.search(r"from step (\d+) to (\d+)", finding.found)
    assert found
    return tuple(map(int, found.groups()))


def planted(first: int, last: int, *, colour: int | None = None, still: bool = False, episode: int = 1) -> Any:
    """The wrist camera of one episode stands still, or shows one colour, from `first` to `last`."""

    def change(index: int, columns: dict[str, np.ndarray], videos: dict[str, np.ndarray]) -> None:
        if index != episode:
            return
        videos[WRIST][first : last + 1] = videos[WRIST][first] if colour is None else colour
        if still:
            columns["observation.state"][first : last + 1] = columns["observation.state"][first]

    return change


@pytest.mark.parametrize(("first", "last"), [(12, 29), (0, 15), (8, 20)], ids=["to the end", "at first", "for a while"])
def test_one_camera_of_three_freezes_while_the_robot_moves(tmp_path: Path, first: int, last: int) -> None:
    report = examine(write_omron(tmp_path / "set", episodes=3, change=planted(first, last)))
    (finding,) = (f for f in report.findings if f.check == "stuck")
    assert (finding.severity, finding.where, finding.episodes) == ("error", "robot0_eye_in_hand", (1,))
    assert bounds(finding) == pytest.approx((first, last), abs=2)


@pytest.mark.parametrize("colour", [0, 128, 255])
@pytest.mark.parametrize(("first", "last"), [(12, 29), (10, 14)], ids=["to the end", "for a while"])
def test_one_camera_goes_black_or_grey(tmp_path: Path, first: int, last: int, colour: int) -> None:
    report = examine(write_omron(tmp_path / "set", episodes=3, change=planted(first, last, colour=colour)))
    assert loud(report) == [("error", "picture", (1,))]
    assert (
        f"of one colour, such as steps {first} to {last} of episode 1 while the robot moves" in report.findings[0].found
    )


def test_a_still_scene_is_no_frozen_camera(tmp_path: Path) -> None:
    def resting(index: int, columns: dict[str, np.ndarray], videos: dict[str, np.ndarray]) -> None:
        for name in videos:
            videos[name][8:22] = videos[name][8]
        columns["observation.state"][8:22] = columns["observation.state"][8]
        columns["observation.state"][:, :3] += np.random.default_rng(index).normal(size=(30, 3)) * 1e-4  # sensors

    assert loud(examine(write_omron(tmp_path / "set", episodes=3, change=resting))) == []


def test_a_camera_at_a_third_of_the_rate_is_not_frozen(tmp_path: Path) -> None:
    def slow(_index: int, _columns: Any, videos: dict[str, np.ndarray]) -> None:
        videos[WRIST][:] = videos[WRIST][np.arange(30) // 3 * 3]

    assert loud(examine(write_omron(tmp_path / "set", episodes=3, change=slow))) == []


@pytest.mark.whole
def test_a_real_clip_frozen_half_way_is_found(shared: Path, tmp_path: Path) -> None:
    """Real pictures, compressed twice: episode 3 of the reference robot, its second half one picture."""
    root = shutil.copytree(shared / "robot_sim.PickNPlace", tmp_path / "set")
    assert not examine(root).of("stuck")
    dataset = LeRobotDataset.open(root)
    frames = dataset.frames(3, "ego_view", range(412))
    frames[200:] = frames[200]
    path = dataset.metadata.clips[3, dataset.modality.column("video", "ego_view")].path
    path.chmod(0o644)
    encode_video(path, frames, fps=20)
    (finding,) = examine(root).of("stuck")
    assert finding.episodes == (3,)
    assert bounds(finding) == pytest.approx((200, 411), abs=2)


def drop_camera_columns(root: Path) -> None:
    """The list of episodes of a v3.0 set forgets its camera."""
    for path in root.glob("meta/episodes/*/*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.select([n for n in table.column_names if not n.startswith("videos/")]), path)


def test_a_camera_that_only_info_knows(toy: Path) -> None:
    root = as_v3(toy)
    assert examine(root).of("video") == ()
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.ghost"] = info["features"][FRONT]
    (root / "meta/info.json").write_text(json.dumps(info))
    assert examine(root).healthy  # nothing reads it
    assert LeRobotDataset.open(root).frames(0, "front", [0]).shape == (1, 48, 48, 3)
    drop_camera_columns(root)
    report = examine(root)
    (finding,) = report.of("video")
    assert (finding.severity, finding.where, finding.episodes) == ("error", "front", (0, 1, 2))
    assert "only info.json knows" in finding.found
    with pytest.raises(DataError, match="none in the list of episodes, but need a video of"):
        LeRobotDataset.open(root).frames(0, "front", [0])


DEPTH = [
    {"info": {"video.is_depth_map": True}},
    {"video_info": {"is_depth_map": True}},
    {"info": {"is_depth_map": True}},
]


@pytest.mark.parametrize("said", DEPTH)
def test_a_depth_camera_is_refused_by_its_name(toy: Path, said: dict[str, Any]) -> None:
    change_feature(toy, FRONT, **said)
    (finding,) = (f for f in examine(toy).findings if "depth map" in f.found)
    assert finding.severity == "error"
    with pytest.raises(DataError, match=r"camera front from observation\.images\.front, a depth map"):
        LeRobotDataset.open(toy)
    (toy / "meta/modality.json").unlink()
    assert not propose_for(toy).modality.video


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def with_pictures(root: Path, picture: Any) -> Path:
    """The toy with pictures in its tables instead of clips: `picture` makes each from (episode, step)."""

    def put(table: pa.Table) -> pa.Table:
        episode = table["episode_index"][0].as_py()
        values = [{"bytes": picture(episode, step), "path": None} for step in range(len(table))]
        return table.append_column(FRONT, pa.array(values))

    each_table(root, put)
    change_feature(root, FRONT, dtype="image")
    return root


def sixteen(_episode: int, step: int) -> bytes:
    """Depth in millimetres, from half a metre to four."""
    return png(np.linspace(500, 4000, 48 * 48).reshape(48, 48).astype(np.uint16) + np.uint16(40 * step))


def test_pictures_of_sixteen_bits_are_refused_and_never_white(toy: Path) -> None:
    root = with_pictures(toy, sixteen)
    report = examine(root)
    found = [f for f in report.findings if f.severity == "error"]
    assert found
    assert all("more than 8 bits" in f.found and "ecord" not in f.todo for f in found)
    with pytest.raises(DataError, match="more than 8 bits"):
        LeRobotDataset.open(root).frames(0, "front", [0])


def test_pictures_of_eight_bits_in_tables_are_sound(toy: Path) -> None:
    rng = np.random.default_rng(0)
    scene = [rng.integers(0, 256, (48, 48, 3), dtype=np.uint8) for _ in range(sum(LENGTHS))]
    root = with_pictures(toy, lambda episode, step: png(scene[episode * 9 + step]))
    assert not [f for f in examine(root).findings if f.severity == "error"]
    np.testing.assert_array_equal(LeRobotDataset.open(root).frames(1, "front", [2])[0], scene[11])


@pytest.mark.parametrize("pixels", ["gray16le", "gray12le"])
def test_clips_of_sixteen_bits_are_refused(toy: Path, pixels: str) -> None:
    path = toy / "videos/chunk-000" / FRONT / "episode_000001.mp4"
    path.unlink()
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=20)
        stream.width, stream.height, stream.pix_fmt = 48, 48, pixels
        for step in range(LENGTHS[1]):
            depth = np.full((48, 48), 1000 + 100 * step, np.uint16)
            frame = av.VideoFrame.from_ndarray(depth, format="gray16le").reformat(format=pixels)
            frame.pts = step
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=f"more than 8 bits .{pixels}."):
        VideoReader(path)
    (finding,) = (f for f in examine(toy).of("video") if f.episodes == (1,))
    assert "depth map" in finding.todo or "depth map" in finding.found


def test_pictures_of_another_size_than_info_says(tmp_path: Path) -> None:
    root = write_toy(tmp_path / "set")
    assert not examine(root).of("video")
    change_feature(root, FRONT, shape=[480, 640, 3])
    (finding,) = examine(root).of("video")
    assert finding.found == "pictures of 48 x 48, but info.json says 480 x 640 x 3"
    change_feature(root, FRONT, shape=[3, 48, 48])
    assert not examine(root).of("video")
