import pickle
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from toy_dataset import pictures

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot.video import VideoCache, VideoReader, encode_video


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / error))


def encode_as(path: Path, frames: np.ndarray, codec: str, options: dict[str, str], times: list[int]) -> None:
    """A clip as others write it: any codec, B frames, any presentation times in units of 1/90 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90)
        for image, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 90)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


EVEN = [3 * k for k in range(40)]
UNEVEN = [3 * k + (k % 3 == 1) for k in range(40)]
CLIPS = {
    "h264-b-frames": ("libx264", {"crf": "16", "g": "12", "bf": "3"}, EVEN),
    "h264-one-keyframe": ("libx264", {"crf": "16", "g": "250", "bf": "2"}, EVEN),
    "h264-uneven-times": ("libx264", {"crf": "16", "g": "7", "bf": "2"}, UNEVEN),
    "av1": ("libsvtav1", {"crf": "20", "g": "8", "preset": "12"}, EVEN),
}


@pytest.fixture(scope="module", params=CLIPS, ids=list(CLIPS))
def foreign(request, tmp_path_factory) -> tuple[Path, np.ndarray]:
    codec, options, times = CLIPS[request.param]
    path, frames = tmp_path_factory.mktemp("clip") / "clip.mp4", pictures(40, size=64)
    encode_as(path, frames, codec, options, times)
    return path, frames


def test_random_access_gives_exactly_the_frames_of_sequential_decoding(foreign):
    path, frames = foreign
    with av.open(str(path)) as container:
        expected = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert len(VideoReader(path)) == len(expected) == len(frames)
    np.testing.assert_array_equal(VideoReader(path).read(range(40)), expected)
    reader, order = VideoReader(path), np.random.default_rng(0).permutation(40).tolist()
    for index in [*order, 39, 39, 0]:
        np.testing.assert_array_equal(reader.read([index])[0], expected[index])
    np.testing.assert_array_equal(reader.read([7, 3, 7, 39]), expected[[7, 3, 7, 39]])
    assert (expected[7] != expected[8]).any()  # a reader that is one frame off would be noticed
    assert psnr(expected, frames) > 30


def test_what_we_encode_comes_back_close_and_in_order(tmp_path):
    frames = pictures(25, size=64)
    encode_video(tmp_path / "clip.mp4", frames, fps=20)
    decoded = VideoReader(tmp_path / "clip.mp4").read(range(25))
    assert psnr(decoded, frames) > 32
    assert psnr(decoded[1:], frames[:-1]) < 32  # mutant: one frame late
    nearest = [int(np.argmin([np.abs(f.astype(int) - g).mean() for g in frames])) for f in decoded]
    assert nearest == list(range(25))


def test_the_encoder_is_deterministic_and_made_for_random_access(tmp_path):
    frames = pictures(25)
    for name in ("a", "b"):
        encode_video(tmp_path / f"{name}.mp4", frames, fps=20)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 20)
        packets = [p for p in container.demux(stream) if p.pts is not None]
    keys = [k for k, p in enumerate(packets) if p.is_keyframe]
    assert max(np.diff([*keys, 25])) <= 10
    assert all(p.pts == p.dts for p in packets)  # no B frames


def test_an_empty_request_is_an_empty_array(tmp_path):
    encode_video(tmp_path / "clip.mp4", pictures(3), fps=20)
    assert VideoReader(tmp_path / "clip.mp4").read([]).shape == (0, 48, 48, 3)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9], ids=["empty", "head", "most"])
@pytest.mark.parametrize("faststart", [True, False])
def test_a_truncated_file_is_one_sentence(tmp_path, kept, faststart):
    path = tmp_path / "clip.mp4"
    if faststart:
        encode_video(path, pictures(40, size=64), fps=20)
    else:
        encode_as(path, pictures(40, size=64), *CLIPS["h264-b-frames"])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DataError, match=r"clip\.mp4: found"):
        VideoReader(path).read(range(40))


def test_missing_and_foreign_files_are_one_sentence(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        VideoReader(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("not a video at all")
    with pytest.raises(DataError, match="unreadable video"):
        VideoReader(tmp_path / "text.mp4")


def test_frames_outside_the_clip_and_odd_sizes_are_refused(tmp_path):
    encode_video(tmp_path / "clip.mp4", pictures(3), fps=20)
    reader = VideoReader(tmp_path / "clip.mp4")
    for index in (3, -1):
        with pytest.raises(IndexError, match="clip of 3 frames"):
            reader.read([index])
    with pytest.raises(DataError, match="even height"):
        encode_video(tmp_path / "odd.mp4", np.zeros((2, 5, 6, 3), np.uint8), fps=20)
    with pytest.raises(DataError, match="0 frames"):
        encode_video(tmp_path / "empty.mp4", np.zeros((0, 6, 6, 3), np.uint8), fps=20)


def test_the_cache_keeps_a_few_readers_and_travels_empty(tmp_path):
    paths = [tmp_path / f"{k}.mp4" for k in range(3)]
    for k, path in enumerate(paths):
        encode_video(path, pictures(2, seed=k), fps=20)
    cache = VideoCache(capacity=2)
    first = cache.open(paths[0])
    assert cache.open(paths[0]) is first
    cache.open(paths[1])
    cache.open(paths[2])  # puts the oldest out
    assert cache.open(paths[0]) is not first
    copy = pickle.loads(pickle.dumps(cache))
    assert copy.open(paths[2]) is not cache.open(paths[2])
