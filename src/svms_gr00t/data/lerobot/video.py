"""Camera clips: frame-exact random access, and a deterministic encoder made for it.

Axes: T frames of the clip, n frames asked for, H and W pixels, 3 channels R G B.

Frame k is the k-th packet in presentation order, read from the container's own index, so neither a constant frame rate
nor a time base that divides it is assumed. Reading seeks to the last keyframe before the frame, unless decoding on from
where the decoder stands is shorter. The encoder writes h264 with a keyframe every 10 frames, no B frames and a cheap
bitstream: random access costs a fraction of what it does with x264's defaults.

A clip that says it is to be shown turned or mirrored (an upright phone, a camera hung upside down) is read that way.
"""

import os
import platform
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Shaped, UInt8

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.sizes import limit, within
from svms_gr00t.data.lerobot.table import DEEP_HINT
from svms_gr00t.data.mp4 import check_declared_frames
from svms_gr00t.data.pictures import Each, Frames, as_they_are, check_pixels, room_for

_WANT = "an h264 or AV1 clip"
_HINT = "Copy or re-encode that video again"
# x264's AVX-512 code gave other bytes for the same frames in 3 of 100 clips; up to SSE4.2 it is as fast, and none did.
SAME_BYTES = {"x264-params": "asm=SSE4.2"} if platform.machine() in ("x86_64", "AMD64") else {}
_X264 = SAME_BYTES | {"crf": "23", "g": "10", "bf": "0", "tune": "fastdecode", "preset": "medium", "threads": "1"}
# Clips carry words that are no UTF-8; nobody reads them here. PyAV 19 keeps them by itself and knows no such option.
_WORDS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
# A pool of threads costs more than it saves on a camera frame, and cannot be freed after a fork. Old PyAV had none.
_ONE_THREAD: dict[str, Any] = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is to be shown: rows and columns exchanged, then mirrored."""

    exchanged: bool = False
    left_right: bool = False
    up_down: bool = False

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The picture as it is to be shown."""
        picture = picture.transpose(1, 0, 2) if self.exchanged else picture
        return picture[:: -1 if self.up_down else 1, :: -1 if self.left_right else 1]


_KINDS: dict[str, tuple[int, tuple[bytes, ...]]] = {
    "mp4": (4, (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")),
    "matroska": (0, (b"\x1aE\xdf\xa3",)),
    "avi": (8, (b"AVI ",)),
}
"""FFmpeg's name of each kind of file, and where it has which mark."""


def orientation(frame: Any, path: Path) -> Orientation:
    """Of a decoded frame. Raises DataError for an angle that is no multiple of 90 degrees.

    The container's matrix sends a stored point (x, y) to (a x + c y, b x + d y), in units of 2^-16.
    """
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5] / 65536
    if np.allclose((b, c), 0) and np.allclose(np.abs((a, d)), 1):
        return Orientation(left_right=bool(a < 0), up_down=bool(d < 0))
    if np.allclose((a, d), 0) and np.allclose(np.abs((b, c)), 1):
        return Orientation(exchanged=True, left_right=bool(c < 0), up_down=bool(b < 0))
    angle = round(float(np.degrees(np.arctan2(b, a))))
    got, hint = f"a video to be shown turned clockwise by {angle} degrees, or stretched", "Encode it upright"
    raise DataError(path, got=got, want="quarter turns and mirrors", hint=hint)


def open_clip(path: Path) -> Any:
    """An open container of the kind that its first bytes say. Raises DataError for another, av.FFmpegError or OSError.

    Left to itself FFmpeg believes names and contents, and opens play lists that name other files or addresses. It also
    makes room for whatever number of frames, and of pixels, is declared: DataError for too many of them.
    """
    with path.open("rb") as file:
        head = file.read(12)
    kind = next((kind for kind, (at, marks) in _KINDS.items() if head[at:].startswith(marks)), None)
    if kind is None:
        raise DataError(path, got="an unreadable video (it begins like none)", want="mp4, Matroska or AVI", hint=_HINT)
    if kind == "mp4":
        check_declared_frames(path)
    pixels = {"max_pixels": str(limit("picture_pixels"))}
    container = av.open(str(path), format=kind, options=pixels, **_WORDS)
    for stream in container.streams.video:
        if stream.codec_context is not None:
            check_pixels(stream.height, stream.width, path)
            stream.codec_context.options = pixels  # a clip may change its size half-way
    return container


class _Packet(NamedTuple):
    pts: int
    dts: int
    key: bool
    hidden: bool


class VideoReader:
    """One open clip. `read` gives any frames in any order; not safe to share between threads or processes."""

    def __init__(self, path: Path) -> None:
        """Open the clip and index its packets without decoding. Raises DataError when that fails."""
        if not path.is_file():
            raise DataError(path, got="no such file", want=_WANT, hint="Fetch the videos folder of the dataset")
        self.path = path
        try:
            self._container = open_clip(path)
            self._stream = self._container.streams.video[0]
            stored = list(self._index())
        except (av.FFmpegError, IndexError) as error:
            raise DataError(path, got=f"an unreadable video ({error})", want=_WANT, hint=_HINT) from error
        if self._stream.codec_context is None:
            raise DataError(path, got="an unknown codec", want=_WANT, hint=_HINT)
        if len(stored) < self._stream.frames:  # the header promises more than the file holds
            got = f"{len(stored)} of {self._stream.frames} frames, a truncated video"
            raise DataError(path, got=got, want="a complete video", hint=_HINT)
        if self.pixels.startswith("gray") and self.pixels[4:].rstrip("lbe") not in ("", "8"):
            raise DataError(path, got=f"one channel of more than 8 bits ({self.pixels})", want=_WANT, hint=DEEP_HINT)
        self._stream.codec_context.thread_count = 1
        packets = [packet for packet in stored if not packet.hidden]
        self._times: list[int] = sorted(packet.pts for packet in packets)
        keys = sorted((packet.pts, packet.dts) for packet in packets if packet.key)
        if not keys:
            raise DataError(path, got="a video without frames", want=_WANT, hint=_HINT)
        self._keys, self._key_dts = [pts for pts, _ in keys], [dts for _, dts in keys]
        self._reformatter = VideoReformatter()  # kept: setting up the colour conversion costs more than a small frame
        self._shown: Orientation | None = None
        self._frames: Iterator[Any] | None = None
        self._at = -1  # presentation time of the frame decoded last

    def _index(self) -> Iterator["_Packet"]:
        """What each packet says; its bytes are let go, which for a long clip are many."""
        for number, p in enumerate(self._container.demux(self._stream)):
            within("clip_frames", number, self.path, f"a clip of {number:,} frames or more")
            if p.pts is not None:
                yield _Packet(p.pts, p.dts if p.dts is not None else p.pts, p.is_keyframe, p.is_discard)

    def __len__(self) -> int:
        """Number of frames in the container's index."""
        return len(self._times)

    @property
    def codec(self) -> str:
        """Name of the codec that the file says it holds."""
        return str(self._stream.codec_context.codec.canonical_name)

    @property
    def pixels(self) -> str:
        """Name of the pixel format, such as yuv420p."""
        return str(self._stream.codec_context.pix_fmt or "")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture as it is to be shown. Raises DataError when none can be decoded."""
        height, width = int(self._stream.height), int(self._stream.width)
        return (width, height) if self.orientation.exchanged else (height, width)

    @property
    def orientation(self) -> Orientation:
        """How every picture of the clip is to be shown; a decoded one says it, for PyAV does not read it otherwise."""
        if self._shown is None:
            self._shown = orientation(self._frame(self._times[0]), self.path)
        return self._shown

    @property
    def keyframes(self) -> int:
        """Frames that decode on their own."""
        return len(self._keys)

    def close(self) -> None:
        """Free the decoder."""
        self._frames = None
        self._container.close()

    def read(self, indices: Sequence[int], each: Each = as_they_are) -> Shaped[np.ndarray, "n *picture"]:
        """Frames `indices`, in that order, repeats allowed; what `each` makes of every one, as soon as it is decoded.

        Raises IndexError for an index outside the clip and DataError when the clip cannot be decoded.
        """
        if bad := [i for i in indices if not 0 <= i < len(self)]:
            raise IndexError(f"{self.path}: frame {bad[0]} of a clip of {len(self)} frames")
        images: np.ndarray | None = None
        rows: dict[int, int] = {}  # where a frame already decoded is, for repeats
        for row in sorted(range(len(indices)), key=lambda row: indices[row]):
            index = indices[row]
            picture = None if index in rows else each(self._decode(self._times[index])[None])[0]
            if images is None:
                assert picture is not None
                images = room_for(len(indices), picture, self.path)
            elif picture is not None and picture.shape != images.shape[1:]:
                raise DataError(self.path, got="frames of several sizes", want="one size", hint=_HINT)
            images[row] = images[rows[index]] if picture is None else picture
            rows[index] = row
        return np.empty((0, self._stream.height, self._stream.width, 3), np.uint8) if images is None else images

    def _decode(self, time: int) -> np.ndarray:
        frame = self._frame(time)
        self._shown = self._shown or orientation(frame, self.path)
        return self._shown(self._reformatter.reformat(frame, format="rgb24", **_ONE_THREAD).to_ndarray())

    def _frame(self, time: int) -> Any:
        key = max(bisect_right(self._keys, time) - 1, 0)
        try:
            if self._frames is None or time <= self._at or self._keys[key] > self._at:
                self._seek(key)
            frame = self._advance(time)
            while frame is None and key > 0:  # the container sought too far: start from an earlier keyframe
                key -= 1
                self._seek(key)
                frame = self._advance(time)
        except av.FFmpegError as error:
            self._frames = None
            raise DataError(self.path, got=f"a broken video ({error})", want=_WANT, hint=_HINT) from error
        if frame is None:
            self._frames = None
            got = f"no picture for frame {self._times.index(time)} of {len(self)}"
            raise DataError(self.path, got=got, want="a complete video", hint=_HINT)
        return frame

    def _seek(self, key: int) -> None:
        self._container.seek(self._key_dts[key], stream=self._stream, backward=True)
        self._frames, self._at = self._container.decode(self._stream), -1

    def _advance(self, time: int) -> Any | None:
        """Decode on to the frame at `time`; None when the decoder is past it or the clip ends before it."""
        assert self._frames is not None
        for frame in self._frames:
            if frame.pts is None:
                continue
            self._at = frame.pts
            if frame.is_corrupt:  # the decoder would go on and make a picture up
                self._frames = None
                raise DataError(self.path, got="a broken picture", want=_WANT, hint=_HINT)
            if frame.pts >= time:
                return frame if frame.pts == time else None
        self._frames = None
        return None


_inherited: "list[OrderedDict[Path, VideoReader]]" = []


class VideoCache:
    """The most recently used readers, kept open. Copies sent to other processes start empty."""

    def __init__(self, capacity: int = 32) -> None:
        self._capacity = capacity
        self._readers: OrderedDict[Path, VideoReader] = OrderedDict()
        self._owner = os.getpid()

    def __getstate__(self) -> int:
        return self._capacity

    def __setstate__(self, capacity: int) -> None:
        self.__init__(capacity)  # type: ignore[misc]

    def open(self, path: Path) -> VideoReader:
        """The reader of `path`, opened at first use. Raises DataError."""
        if self._owner != os.getpid():
            # After a fork the file offsets are shared with the parent, and freeing a decoder waits for threads that are
            # only there: never touch these readers, not even to free them.
            _inherited.append(self._readers)
            self._readers, self._owner = OrderedDict(), os.getpid()
        if path in self._readers:
            self._readers.move_to_end(path)
            return self._readers[path]
        reader = self._readers[path] = VideoReader(path)
        if len(self._readers) > self._capacity:
            self._readers.popitem(last=False)[1].close()
        return reader


def encode_video(path: Path, frames: Frames, *, fps: float | int) -> None:
    """Write `frames` as h264 yuv420p mp4 (crf 23, keyframe every 10, no B frames); the same frames give the same bytes.

    Raises DataError for an empty clip or odd sizes, which 4:2:0 chroma cannot hold.
    """
    count, height, width, _ = frames.shape
    if count == 0 or height % 2 or width % 2:
        hint = "Resize the camera pictures to even sizes and record at least one step"
        raise DataError(
            path, got=f"{count} frames of {height} x {width}", want="frames of even height and width", hint=hint
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=_X264)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.time_base = 1 / rate
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
