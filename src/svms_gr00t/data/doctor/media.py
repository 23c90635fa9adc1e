"""Checks of clips: every one is there, as long as its rows, decodable and quick to seek.

Codecs and pixel formats come from the file, not from info.json. Nothing is decoded; `watching` looks at pictures.
"""

from collections import defaultdict
from collections.abc import Iterator

import av
import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.doctor.finding import Finding, from_error
from svms_gr00t.data.doctor.subject import Subject
from svms_gr00t.data.lerobot.video import VideoReader

_GOOD = ("h264", "av1", "hevc", "vp9")
_SLOW_KEYFRAMES = 60


def check_videos(subject: Subject, progress: Progress | None = None) -> Iterator[Finding]:
    """Missing, truncated or too short clips; codecs; distance of keyframes."""
    dataset = subject.dataset
    codecs: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    gaps: dict[str, list[float]] = defaultdict(list)
    sizes: dict[tuple[str, tuple[int, int]], list[int]] = defaultdict(list)
    unknown: dict[str, list[int]] = defaultdict(list)
    with (progress or Silent()).task("opening videos", len(subject.chosen)) as task:
        for index in subject.chosen:
            for view in dataset.modality.video:
                column = dataset.modality.column("video", view)
                clip = dataset.metadata.clips.get((index, column))
                if clip is None:
                    unknown[view] += [index] if dataset.info.features[column].dtype == "video" else []
                    continue
                try:
                    codec, keys, frames, size = _look(clip.path)
                except DataError as error:
                    yield from_error("video", error, (index,))
                    continue
                codecs[view][codec].append(index)
                gaps[view].append(frames / max(keys, 1))
                sizes[view, size].append(index)
                length = dataset.episode(index).length
                wrong = frames != clip.frames if clip.frames is not None else frames < clip.first + length
                if wrong:
                    need = clip.frames if clip.frames is not None else f"at least {clip.first + length}"
                    found, todo = f"{frames} frames for {need} rows", "Record or encode that clip again"
                    yield Finding(
                        severity="error",
                        check="video",
                        where=f"{view}, {clip.path}",
                        found=found,
                        todo=f"{todo}, or leave the episode out",
                        episodes=(index,),
                    )
            task.advance()
    yield from _codec_findings(codecs)
    yield from _seek_findings(gaps)
    yield from _size_findings(subject, sizes)
    for view, episodes in ((view, found) for view, found in unknown.items() if found):
        found = "a camera that only info.json knows: the list of episodes says nothing of its videos"
        todo = "Take it out of modality.json (and of info.json), or fetch the dataset again"
        yield Finding(severity="error", check="video", where=view, found=found, todo=todo, episodes=tuple(episodes))


def _size_findings(subject: Subject, sizes: dict[tuple[str, tuple[int, int]], list[int]]) -> Iterator[Finding]:
    """Pictures of another size than info.json says; other readers trust it."""
    for (view, size), episodes in sizes.items():
        shape = subject.dataset.info.features[subject.dataset.modality.column("video", view)].shape
        if len(shape) == 3 and size not in ((shape[0], shape[1]), (shape[1], shape[2])):
            found = f"pictures of {size[0]} x {size[1]}, but info.json says {' x '.join(map(str, shape))}"
            todo = "Correct the shape in info.json; nothing here trusts it, other readers do"
            yield Finding(
                severity="warning", check="video", where=view, found=found, todo=todo, episodes=tuple(episodes)
            )


def _look(path: object) -> tuple[str, int, int, tuple[int, int]]:
    """Codec, keyframes, frames and size of a clip, without decoding."""
    from pathlib import Path

    reader = VideoReader(Path(str(path)))
    try:
        return reader.codec, reader.keyframes, len(reader), reader.size
    finally:
        reader.close()


def _codec_findings(codecs: dict[str, dict[str, list[int]]]) -> Iterator[Finding]:
    for view, found in codecs.items():
        for codec, episodes in found.items():
            if codec not in _GOOD:
                known = codec in av.codecs_available
                yield Finding(
                    severity="warning" if known else "error",
                    check="codec",
                    where=view,
                    found=f"codec {codec}{'' if known else ', which this installation cannot decode'}",
                    todo="Encode the clips as h264 (yuv420p, a keyframe every 10 frames, no B frames)",
                    episodes=tuple(episodes),
                )
        if len(found) > 1:
            few = min(found.values(), key=len)
            todo = "Nothing breaks; if the cameras' settings changed too, encode all clips the same way"
            text = f"several codecs: {', '.join(found)}"
            yield Finding(severity="note", check="codec", where=view, found=text, todo=todo, episodes=tuple(few))


def _seek_findings(gaps: dict[str, list[float]]) -> Iterator[Finding]:
    for view, distances in gaps.items():
        middle = float(np.median(distances))
        if middle > _SLOW_KEYFRAMES:
            found = f"a keyframe every {middle:.0f} frames: random access decodes half of that many each time"
            todo = "Keep the frames in memory or in a pack while training, or encode with a keyframe every 10 frames"
            yield Finding(severity="warning", check="seek", where=view, found=found, todo=todo)
