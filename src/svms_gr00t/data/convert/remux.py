"""Cut and join clips without decoding them: packets are copied, so every picture stays what it is.

A cut needs its first frame to be a keyframe, which holds where LeRobot joined clips. Anywhere else the part is encoded
again with x264's lossless mode in the source's pixel format, upright: larger, but the pictures shown are equal too.
Clips join in one file when codec, size, orientation, pixel format and codec headers are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.whole import no_room
from svms_gr00t.data.lerobot.video import SAME_BYTES, Orientation, open_clip, orientation

_HINT = "Copy or re-encode that video again"
_OPTIONS = {"fflags": "+bitexact", "movflags": "+faststart"}


@dataclass(frozen=True, kw_only=True)
class ClipHead:
    """What two clips must share to be joined."""

    codec: str
    size: tuple[int, int]
    shown: Orientation
    pixels: str
    headers: bytes
    delay: Fraction
    """Presentation minus decoding time of the first packet, seconds: B frames differ in it."""


def _packets(path: Path) -> tuple[Any, Any, list[Any]]:
    """Open container, stream and all packets in decoding order."""
    try:
        container = open_clip(path)
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.pts is not None and p.dts is not None]
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DataError(path, got=f"an unreadable video ({error})", want="a clip", hint=_HINT) from error
    if not packets or stream.codec_context is None:
        raise DataError(path, got="a video without frames or of an unknown codec", want="a clip", hint=_HINT)
    return container, stream, packets


def clip_head(path: Path) -> tuple[ClipHead, int]:
    """What decides whether a clip can be joined with others, and its number of frames. Raises DataError."""
    container, stream, packets = _packets(path)
    with container:
        context = stream.codec_context
        first = min(packets, key=lambda p: p.pts)
        delay = (first.pts - packets[0].dts) * Fraction(stream.time_base)
        head = ClipHead(
            codec=context.codec.canonical_name,
            size=(context.width, context.height),
            shown=orientation(_first_frame(container, stream, path), path),
            pixels=str(context.pix_fmt),
            headers=bytes(context.extradata or b""),
            delay=delay,
        )
        return head, len(packets)


def _first_frame(container: Any, stream: Any, path: Path) -> Any:
    try:
        container.seek(0, stream=stream)
        return next(container.decode(stream))
    except (av.FFmpegError, StopIteration) as error:
        raise DataError(path, got=f"a broken video ({error})", want="a clip", hint=_HINT) from error


def join_clips(sources: Sequence[Path], starts: Sequence[int], target: Path, *, fps: Fraction) -> None:
    """Copy the packets of `sources` into one file; frame 0 of a clip becomes frame `starts[i]`. Raises DataError."""
    with av.open(str(target), "w", format="mp4", options=_OPTIONS) as out:
        stream: Any = None
        for source, start in zip(sources, starts, strict=True):
            container, original, packets = _packets(source)
            with container:
                if stream is None:
                    stream = out.add_stream_from_template(original, opaque=True)
                    stream.time_base = original.time_base
                base = Fraction(original.time_base)
                shift = round(start / fps / base) - min(p.pts for p in packets)
                _copy(out, stream, packets, shift, source)


def cut_clip(source: Path, first: int, count: int, target: Path, *, fps: Fraction) -> bool:
    """Write frames `first` to `first + count - 1` of `source` as a clip; True when packets could be copied.

    Raises DataError when the source has fewer frames or cannot be read.
    """
    container, stream, packets = _packets(source)
    with container:
        shown = sorted((p for p in packets if not p.is_discard), key=lambda p: p.pts)
        if len(shown) < first + count:
            got, want = f"{len(shown)} frames", f"at least {first + count}"
            raise DataError(source, got=got, want=want, hint=_HINT)
        wanted = shown[first : first + count]
        part = _span(packets, wanted)
        if part is not None:
            with av.open(str(target), "w", format="mp4", options=_OPTIONS) as out:
                fresh = out.add_stream_from_template(stream, opaque=True)
                fresh.time_base = stream.time_base
                _copy(out, fresh, part, -wanted[0].pts, source)
            return True
        times = {p.pts for p in wanted}
    _encode_lossless(source, times, target, fps)
    return False


def _span(packets: list[Any], wanted: list[Any]) -> list[Any] | None:
    """The packets of `wanted` in decoding order when they stand together and start with a keyframe, else None."""
    times = {p.pts for p in wanted}
    places = [i for i, packet in enumerate(packets) if packet.pts in times]
    together = places[-1] - places[0] + 1 == len(places)
    first = packets[places[0]]
    return packets[places[0] : places[-1] + 1] if together and first.is_keyframe and first.pts == min(times) else None


def _copy(out: Any, stream: Any, packets: list[Any], shift: int, source: Path) -> None:
    try:
        for packet in packets:
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = stream
            out.mux(packet)
    except av.FFmpegError as error:
        if no_room(error):
            raise
        raise DataError(source, got=f"packets that cannot be copied ({error})", want="a clip", hint=_HINT) from error


def _encode_lossless(source: Path, times: set[int], target: Path, fps: Fraction) -> None:
    options = SAME_BYTES | {"qp": "0", "preset": "medium", "threads": "1", "g": "10", "bf": "0"}
    with open_clip(source) as container, av.open(str(target), "w", format="mp4", options=_OPTIONS) as out:
        original = container.streams.video[0]
        stream = out.add_stream("libx264", rate=fps, options=options)
        stream.pix_fmt = original.codec_context.pix_fmt
        stream.time_base = 1 / fps
        number, upright = 0, None
        try:
            for frame in container.decode(original):
                if frame.pts in times:
                    upright = upright or _upright(original, orientation(frame, source))
                    upright.push(frame)
                    frame = upright.pull()
                    if number == 0:
                        stream.width, stream.height = frame.width, frame.height
                    frame.pts, frame.time_base, frame.pict_type = number, 1 / fps, 0
                    out.mux(stream.encode(frame))
                    number += 1
            out.mux(stream.encode())
        except av.FFmpegError as error:
            if no_room(error):
                raise
            raise DataError(source, got=f"a broken video ({error})", want="a clip", hint=_HINT) from error


def _upright(stream: Any, shown: Orientation) -> Any:
    """A filter that turns the stored planes themselves: what is encoded says no more how it is to be shown."""
    graph = av.filter.Graph()
    chain: list[Any] = [graph.add_buffer(template=stream)]
    chain += [graph.add("transpose", "cclock_flip")] if shown.exchanged else []
    chain += [graph.add("hflip")] if shown.left_right else []
    chain += [graph.add("vflip")] if shown.up_down else []
    graph.link_nodes(*chain, graph.add("buffersink")).configure()
    return graph
