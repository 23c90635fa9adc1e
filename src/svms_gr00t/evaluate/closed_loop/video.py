"""Small moving pictures: GIF for reports (embedded, plays everywhere), MP4 for files.

Axes: n frames, H and W pixels.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageSequence

from svms_gr00t.evaluate.closed_loop.strip import Told, strip

MAX_FRAMES = 60
MS = 100
"""Milliseconds of a frame."""
SIDE = 128
BAR, GAP = 5, 2
"""Pixels below and beside a film that stands beside another."""
AGREED = 0.15
"""Disagreement that a curve's axis reaches at least, the gate of a phase: what is below looks as low as it is."""
RUNNING, WON, LOST = (150, 150, 150), (24, 146, 106), (190, 60, 60)


def encode_gif(frames: Sequence[np.ndarray], *, side: int = SIDE, max_frames: int = MAX_FRAMES, ms: int = MS) -> bytes:
    """Frames (H, W, 3) uint8 as a looping GIF: at most `max_frames`, evenly thinned, of `side` pixels."""
    thinned = [_small(frames[i], side) for i in _thin(len(frames), max_frames)]
    # One palette for all frames: smaller, and colours do not flicker.
    palette = Image.fromarray(np.concatenate([np.asarray(f) for f in thinned[:: max(1, len(thinned) // 8)]])).quantize(
        128
    )
    flat = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in thinned]
    buffer = io.BytesIO()
    flat[0].save(buffer, "GIF", save_all=True, append_images=flat[1:], duration=ms, loop=0, optimize=True)
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A filmed episode."""

    gif: bytes
    """From its first step to its last, evenly thinned."""
    steps: int
    success: bool
    told: Told | None = None
    """What stands under it."""


def side_by_side(clips: Sequence[Clip], *, max_frames: int = MAX_FRAMES, ms: int = MS) -> bytes:
    """Films of one scene as one GIF, all at the speed of the longest; a finished one stands still over a coloured bar.

    The bar is grey while the robot is at work, green after success, red after failure. Frames are those of equal size.
    Where clips tell something, films are twice as large, so that the text under them can be read.
    """
    films = [_frames(clip.gif) for clip in clips]
    longest = max(clip.steps for clip in clips)
    told = [clip.told for clip in clips if clip.told]
    top = max([AGREED, *(value for one in told for _, value in one.rho)])
    frames = []
    for now in np.linspace(0, longest, min(max_frames, max(map(len, films)))):
        halves = [_half(film, clip, float(now)) for film, clip in zip(films, clips, strict=True)]
        if told:
            pairs = zip(halves, clips, strict=True)
            halves = [_over_strip(half, clip, float(now), steps=longest, top=top) for half, clip in pairs]
        frames.append(np.concatenate(halves, axis=1))
    return encode_gif(frames, side=max(frames[0].shape), max_frames=max_frames, ms=ms)


def _frames(gif: bytes) -> list[np.ndarray]:
    """Its frames; the writer keeps one, for longer, where several are equal."""
    found: list[np.ndarray] = []
    for frame in ImageSequence.Iterator(Image.open(io.BytesIO(gif))):
        found += [np.asarray(frame.convert("RGB"))] * max(1, round(frame.info.get("duration", MS) / MS))
    return found


def _half(film: Sequence[np.ndarray], clip: Clip, now: float) -> np.ndarray:
    """What one film shows at a step, over its bar."""
    done = min(now / clip.steps, 1.0)
    picture = film[round(done * (len(film) - 1))]
    bar = np.empty((BAR, picture.shape[1], 3), np.uint8)
    bar[:] = (WON if clip.success else LOST) if done == 1.0 else RUNNING
    return np.pad(np.concatenate([picture, bar]), ((0, 0), (GAP, GAP), (0, 0)), constant_values=255)


def _over_strip(half: np.ndarray, clip: Clip, now: float, *, steps: int, top: float) -> np.ndarray:
    """Twice as large, over what the episode says of itself, on an axis of `steps` by `top`."""
    large = half.repeat(2, axis=0).repeat(2, axis=1)
    told = clip.told or Told(name="")
    below = strip(told, float(min(now, clip.steps)), width=large.shape[1], steps=steps, top=top)
    return np.concatenate([large, below])


def encode_png(picture: np.ndarray) -> bytes:
    """One picture (H, W, 3 or 4) uint8 as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _thin(count: int, most: int) -> list[int]:
    """Indices of at most `most` frames, first and last kept."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def _small(frame: np.ndarray, side: int) -> Image.Image:
    picture = Image.fromarray(frame)
    scale = min(1.0, side / max(picture.size))
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS) if scale < 1 else picture
