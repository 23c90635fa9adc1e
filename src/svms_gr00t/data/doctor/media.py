"""Checks of pictures: every clip is there, as long as its rows, decodable, quick to seek, and shows motion.

Codecs come from the file, not from info.json. Only a handful of frames is decoded, from a handful of episodes.
"""

from collections import defaultdict
from collections.abc import Iterator

import av
import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.data.doctor.finding import Finding, from_error
from svms_gr00t.data.doctor.subject import Subject
from svms_gr00t.data.lerobot.dataset import spread
from svms_gr00t.data.lerobot.video import VideoReader

_GOOD = ("h264", "av1", "hevc", "vp9")
_SLOW_KEYFRAMES = 60
_DECODED_EPISODES = 6
_DECODED_FRAMES = 5
_SAME = 16.0  # compression changes hardly a pixel in a thousand by more (of 255), a moving arm changes many


def check_videos(subject: Subject, progress: Progress | None = None) -> Iterator[Finding]:
    """Missing, truncated or too short clips; codecs; distance of keyframes."""
    dataset = subject.dataset
    codecs: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    gaps: dict[str, list[float]] = defaultdict(list)
    with (progress or Silent()).task("opening videos", len(subject.chosen)) as task:
        for index in subject.chosen:
            for view in dataset.modality.video:
                clip = dataset.metadata.clips.get((index, dataset.modality.column("video", view)))
                if clip is None:
                    continue
                try:
                    codec, keys, frames = _look(clip.path)
                except DataError as error:
                    yield from_error("video", error, (index,))
                    continue
                codecs[view][codec].append(index)
                gaps[view].append(frames / max(keys, 1))
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


def _look(path: object) -> tuple[str, int, int]:
    """Codec, keyframes and frames of a clip, without decoding."""
    from pathlib import Path

    reader = VideoReader(Path(str(path)))
    try:
        return reader.codec, reader.keyframes, len(reader)
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


def check_pictures(subject: Subject) -> Iterator[Finding]:
    """Clips that show one still picture while the robot moves, or nothing but one colour."""
    stuck: dict[str, list[int]] = defaultdict(list)
    blank: dict[str, list[int]] = defaultdict(list)
    for index in spread(tuple(subject.rows), _DECODED_EPISODES):
        length = subject.dataset.episode(index).length
        steps = sorted({int(s) for s in np.linspace(0, length - 1, _DECODED_FRAMES).round()})
        moving = any(np.ptp(rows, axis=0).max(initial=0) > 0 for rows in subject.rows[index].values())
        for view in subject.dataset.modality.video:
            try:
                frames = subject.dataset.frames(index, view, steps).astype(np.float32)
            except DataError as error:
                if "frames, but need" not in str(error):  # the length is reported by another check
                    yield from_error("picture", error, (index,))
                continue
            if moving and len(steps) > 1 and np.quantile(np.abs(frames[1:] - frames[0]), 0.999) < _SAME:
                stuck[view].append(index)
            if frames[0].std() < 1.0:
                blank[view].append(index)
    for view, episodes in stuck.items():
        found, todo = "every picture equals the first while the numbers change", "Record those episodes again"
        yield Finding(severity="error", check="stuck", where=view, found=found, todo=todo, episodes=tuple(episodes))
    for view, episodes in blank.items():
        found, todo = "the first picture is of one colour", "Check the camera; cut the start or leave the episode out"
        yield Finding(severity="warning", check="picture", where=view, found=found, todo=todo, episodes=tuple(episodes))
