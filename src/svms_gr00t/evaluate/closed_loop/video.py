"""Small moving pictures: GIF for reports (embedded, plays everywhere), MP4 for files.

Axes: n frames, H and W pixels.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

MAX_FRAMES = 60
SIDE = 128


def encode_gif(frames: Sequence[np.ndarray], *, side: int = SIDE, max_frames: int = MAX_FRAMES, ms: int = 100) -> bytes:
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
