"""Clips and pictures that say how they are to be shown are read that way, by every reader and after conversion."""

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_dataset import LENGTHS, pictures, write_toy
from toy_samples import build

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.convert.remux import cut_clip
from svms_gr00t.data.convert.to_v3 import convert_to_v3
from svms_gr00t.data.convert.to_v21 import convert_to_v21
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.table import _picture
from svms_gr00t.data.lerobot.video import VideoReader, encode_video

Turn = Callable[[np.ndarray], np.ndarray]
TURNS: dict[str, tuple[tuple[int, int, int, int], Turn]] = {
    "as it is": ((1, 0, 0, 1), lambda p: p),
    "clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "half": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "counter-clockwise": ((0, -1, 1, 0), np.rot90),
    "left to right": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "exchanged": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "exchanged, half": ((0, -1, -1, 0), lambda p: np.rot90(p.swapaxes(0, 1), 2)),
}
"""Matrix of an mp4 track (a, b, c, d), and what it does to a picture; checked once against ffmpeg's own rotation."""
EXIF = {1: "as it is", 6: "clockwise", 3: "half", 8: "counter-clockwise", 2: "left to right", 4: "upside down"}
EXIF |= {5: "exchanged", 7: "exchanged, half"}


def say(path: Path, matrix: tuple[float, ...]) -> None:
    """Write the matrix into the track header of an mp4."""
    data = path.read_bytes()
    at = data.index(b"tkhd") + 44
    assert struct.unpack(">9i", data[at : at + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = (round(value * 65536) for value in matrix)
    path.write_bytes(data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :])


@pytest.mark.parametrize("name", TURNS)
def test_a_clip_is_read_as_it_is_to_be_shown(tmp_path: Path, name: str) -> None:
    path, (matrix, turn) = tmp_path / "clip.mp4", TURNS[name]
    encode_video(path, pictures(14)[:, :32], fps=20)
    plain = VideoReader(path).read(range(14))
    say(path, matrix)
    expected = np.stack([turn(picture) for picture in plain])
    np.testing.assert_array_equal(VideoReader(path).read(range(14)), expected)
    reader = VideoReader(path)
    for steps in ([9], [3, 12, 3], [0]):  # any order, from any start
        np.testing.assert_array_equal(reader.read(steps), expected[steps])
    assert VideoReader(path).size == expected.shape[1:3]
    if name != "as it is":
        assert not np.array_equal(expected.reshape(-1), plain.reshape(-1)), "the turn shows"


def test_an_angle_between_quarter_turns_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode_video(path, pictures(3), fps=20)
    say(path, (0.7071, 0.7071, -0.7071, 0.7071))
    with pytest.raises(DataError, match=r"clip.mp4: found a video to be shown turned clockwise by 45 degrees"):
        VideoReader(path).read([0])


@pytest.mark.parametrize(("number", "name"), EXIF.items(), ids=EXIF.values())
@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_exif_orientation_is_applied(number: int, name: str, form: str, tmp_path: Path) -> None:
    plain = pictures(1)[0, :32]
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = number
    Image.fromarray(plain).save(buffer, form, exif=exif, quality=95)
    turned = _picture({"bytes": buffer.getvalue(), "path": None}, "here", tmp_path)
    buffer = io.BytesIO()
    Image.fromarray(plain).save(buffer, form, quality=95)
    stored = _picture({"bytes": buffer.getvalue(), "path": None}, "here", tmp_path)
    np.testing.assert_array_equal(turned, TURNS[name][1](stored))


def test_training_sees_the_turned_picture(tmp_path: Path) -> None:
    root = write_toy(tmp_path / "toy")
    before = build(root)[1][0].images[0]
    for index in range(len(LENGTHS)):
        say(root / f"videos/chunk-000/observation.images.front/episode_{index:06d}.mp4", TURNS["half"][0])
    after = build(root)[1][0].images[0]
    np.testing.assert_allclose(after.numpy(), before.numpy()[:, ::-1, ::-1], atol=0.03)


@pytest.mark.parametrize("chosen", [(0, 1, 2), (1,)], ids=["all turned", "one turned"])
def test_conversion_to_v3_and_back_keeps_what_is_shown(tmp_path: Path, chosen: tuple[int, ...]) -> None:
    root = write_toy(tmp_path / "toy")
    for index in chosen:
        say(root / f"videos/chunk-000/observation.images.front/episode_{index:06d}.mp4", TURNS["half"][0])
    old = LeRobotDataset.open(root)
    convert_to_v3(root, tmp_path / "v3")
    convert_to_v21(tmp_path / "v3", tmp_path / "v21")
    for path in (tmp_path / "v3", tmp_path / "v21"):
        new = LeRobotDataset.open(path)
        for index, length in enumerate(LENGTHS):
            expected = old.frames(index, "front", range(length))
            np.testing.assert_array_equal(new.frames(index, "front", range(length)), expected)


@pytest.mark.parametrize("name", TURNS)
def test_a_cut_in_the_middle_of_a_group_of_pictures_is_upright_and_lossless(tmp_path: Path, name: str) -> None:
    source, target = tmp_path / "clip.mp4", tmp_path / "cut.mp4"
    encode_video(source, pictures(14)[:, :32], fps=20)
    say(source, TURNS[name][0])
    assert not cut_clip(source, 3, 6, target, fps=Fraction(20)), "frame 3 is no keyframe"
    np.testing.assert_array_equal(VideoReader(target).read(range(6)), VideoReader(source).read(range(3, 9)))
