"""Camera frames to model inputs: one deterministic uint8 resize that may be cached, then crop and jitter.

Axes: n frames, H and W pixels in, h and w pixels out (multiples of 28, the side of one image token).
What comes out are bytes and the colour map of each picture; they become numbers where the model is (`Pictures`).

N1.6 (target None):  short side 256 by area -> crop 0.95 of each side -> 256 by area -> nearest multiple of 28
                     (252) bicubic -> [-1, 1]
Cheap (target 84):   short side 89 by area -> crop 0.95 of each side, which is 84 already -> [-1, 1]

Evaluation crops the centre; training crops at random and jitters colours, with the same draw for all views of a sample.
Colour jitter is one affine map: with gray weights g, brightness b, contrast c, saturation s, hue rotation R about gray,
    p' = c b R (s I + (1 - s) 1 g^T) p + (1 - c) b (g . mean p),  then clipped.
Source: processor of GR00T N1.6 (sizes and order); hue here turns in YIQ instead of HSV, which is linear.
"""

import threading
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.types import Pictures
from svms_gr00t.data.pictures import check_pixels

CELL = 28
"""Pixels a side that become one image token."""

_GRAY = np.array([0.299, 0.587, 0.114])
_YIQ = np.array([_GRAY, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_YIQ)


@dataclass(frozen=True, kw_only=True)
class ColorJitter:
    """Half-widths of the training draw; 0 leaves that property alone."""

    brightness: float = 0.3
    """Factor in [1 - x, 1 + x]."""
    contrast: float = 0.4
    """Factor in [1 - x, 1 + x]."""
    saturation: float = 0.5
    """Factor in [1 - x, 1 + x]."""
    hue: float = 0.08
    """Turn of the colour circle in [-x, x]."""

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "hue"):
            limit = 0.5 if name == "hue" else 1.0
            if not 0 <= getattr(self, name) <= limit:
                hint = "0 switches it off"
                raise ConfigError(f"jitter.{name}", got=getattr(self, name), want=f"0 <= x <= {limit}", hint=hint)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """One draw, applied alike to every view of a sample. The default is the evaluation transform."""

    top: float = 0.5
    """Crop position from the top (0) to the bottom (1)."""
    left: float = 0.5
    """Crop position from the left (0) to the right (1)."""
    angle: float = 0.0
    """Rotation in degrees, counter-clockwise."""
    brightness: float = 1.0
    """Factor."""
    contrast: float = 1.0
    """Factor."""
    saturation: float = 1.0
    """Factor."""
    hue: float = 0.0
    """Turns of the colour circle."""


@dataclass(frozen=True, kw_only=True)
class ImagePipeline:
    """Sizes and augmentation. The same value serves training, evaluation and serving."""

    short_side: int = 256
    """Short side after the first resize."""
    crop_fraction: float = 0.95
    """Fraction of each side that a crop keeps."""
    target: int | None = None
    """Final short side, a multiple of 28; None resizes back to `short_side` and rounds, as N1.6 does."""
    jitter: ColorJitter = field(default_factory=ColorJitter)
    """Colour jitter in training."""
    max_angle: float = 0.0
    """Largest rotation in training, degrees."""

    def __post_init__(self) -> None:
        rules = (
            ("short_side", self.short_side >= CELL, f"at least {CELL} px", "256 is what N1.6 uses"),
            ("crop_fraction", 0 < self.crop_fraction <= 1, "0 < fraction <= 1", "0.95 is what N1.6 uses"),
            (
                "target",
                self.target is None or (self.target >= CELL and self.target % CELL == 0),
                f"None or a multiple of {CELL}",
                "84 px are 9 tokens, 56 px are 4",
            ),
            ("max_angle", 0 <= self.max_angle <= 180, "0 to 180 degrees", "0 switches rotation off"),
        )
        for name, fine, want, hint in rules:
            if not fine:
                raise ConfigError(f"images.{name}", got=getattr(self, name), want=want, hint=hint)
        side = max(self.short_side, self.target or 0)
        check_pixels(side, side, "images.short_side, images.target")

    @classmethod
    def cheap(cls, target: int, *, crop_fraction: float = 0.95, jitter: ColorJitter | None = None) -> "ImagePipeline":
        """The pipeline whose crop is the target already, so that a step resizes nothing."""
        short = int(np.ceil(target / crop_fraction))
        return cls(short_side=short, crop_fraction=crop_fraction, target=target, jitter=jitter or ColorJitter())

    def resize(self, frames: UInt8[np.ndarray, "n H W 3"]) -> UInt8[np.ndarray, "n h w 3"]:
        """The deterministic first resize; doing it twice changes nothing, so its result may be cached."""
        size = _with_short_side(frames.shape[1:3], self.short_side)
        check_pixels(*size, "frames, resized")
        return resize_area(frames, size)

    def draw(self, rng: np.random.Generator) -> Augmentation:
        """One training augmentation."""
        j = self.jitter
        top, left, angle, b, c, s, h = rng.uniform(-1, 1, size=7)
        return Augmentation(
            top=(top + 1) / 2,
            left=(left + 1) / 2,
            angle=angle * self.max_angle,
            brightness=1 + b * j.brightness,
            contrast=1 + c * j.contrast,
            saturation=1 + s * j.saturation,
            hue=h * j.hue,
        )

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Size in pixels that a frame of height x width ends at."""
        resized = _with_short_side((height, width), self.short_side)
        if self.target is None:
            height, width = _with_short_side(self._crop_size(resized), self.short_side)
        else:
            height, width = _with_short_side(self._crop_size(resized), self.target)
        return _to_cells(height), _to_cells(width)

    def tokens(self, height: int, width: int) -> int:
        """Image tokens of a frame of height x width."""
        out_height, out_width = self.output_size(height, width)
        return out_height * out_width // CELL**2

    def __call__(self, frames: UInt8[np.ndarray, "n H W 3"], augmentation: Augmentation | None = None) -> Pictures:
        """Frames, resized before or not, as pictures of one size; no augmentation means evaluation."""
        draw = augmentation or Augmentation()
        resized = self.resize(frames)
        size = self.output_size(*resized.shape[1:3])
        cropped = self._crop(resized, draw)
        if draw.angle:
            cropped = _rotate(cropped, draw.angle)
        if self.target is None:
            cropped = resize_bicubic(resize_area(cropped, _with_short_side(cropped.shape[1:3], self.short_side)), size)
        else:
            cropped = resize_area(cropped, size)
        pixels = torch.from_numpy(np.require(cropped, requirements=["C", "W"]))
        return Pictures(pixels=pixels.flatten(), sizes=(size,) * len(cropped), colours=_colours(cropped, draw))

    def _crop_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return int(size[0] * self.crop_fraction), int(size[1] * self.crop_fraction)

    def _crop(self, frames: np.ndarray, draw: Augmentation) -> np.ndarray:
        height, width = self._crop_size((frames.shape[1], frames.shape[2]))
        # floor(fraction * (free + 1)) gives each position the same chance, and the centre rounds down as in N1.6.
        free_rows, free_columns = frames.shape[1] - height, frames.shape[2] - width
        top = free_rows // 2 if draw.top == 0.5 else min(int(draw.top * (free_rows + 1)), free_rows)
        left = free_columns // 2 if draw.left == 0.5 else min(int(draw.left * (free_columns + 1)), free_columns)
        return frames[:, top : top + height, left : left + width]


def _with_short_side(size: tuple[int, ...], short: int) -> tuple[int, int]:
    height, width = size
    scale = short / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _to_cells(side: int) -> int:
    return max(CELL, round(side / CELL) * CELL)


@lru_cache(maxsize=64)
def _area_taps(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """Source rows (taps, after) and their shares (taps, after): the overlap of each output cell with each input."""
    scale = before / after
    low = np.arange(after) * scale
    first = np.floor(low + 1e-9).astype(np.int64)
    rows = first + np.arange(int(np.ceil(scale)) + 1)[:, None]
    share = (np.minimum(rows + 1, low + scale) - np.maximum(rows, low)).clip(min=0)
    used = share.max(axis=1) > 1e-9
    share = share[used] / share[used].sum(axis=0)
    return rows[used].clip(max=before - 1), share.astype(np.float32)


@lru_cache(maxsize=64)
def _taps(before: int, after: int, axis: int) -> tuple[Int[Tensor, "taps k"], Float[Tensor, "taps _ _"]]:
    """The same for rows of numbers (axis 0), or for the numbers in them (axis 1), of which a pixel has three."""
    places, share = map(torch.from_numpy, _area_taps(before, after))
    if axis == 0:
        return places, share[:, :, None]
    return (3 * places[..., None] + torch.arange(3)).flatten(1), share.repeat_interleave(3, dim=1)[:, None]


def resize_area(frames: UInt8[np.ndarray, "n H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "n h w 3"]:
    """Exact area average (each output pixel is the mean over the source area that it covers), rounded."""
    if frames.shape[1:3] == size:
        return frames
    if 0 in frames.shape:
        raise DataError("frames", got=f"shape {frames.shape}", want="at least one pixel", hint="Check the video")
    out = np.empty((len(frames), *size, 3), np.uint8)
    for frame, target in zip(frames, out, strict=True):
        _area(frame, target)
    return out


class _Scratch(threading.local):
    """Memory of each thread that stays: the system hands fresh arrays of this size out page by page, and sets each page
    to zero, which took five times as long as the arithmetic."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def __call__(self, name: str, height: int, width: int) -> Float[Tensor, "height width"]:
        """A matrix with anything in it; the last one of that name is no longer valid."""
        if name not in self._kept or len(self._kept[name]) < height * width:
            self._kept[name] = torch.empty(height * width)
        return self._kept[name][: height * width].view(height, width)


_scratch = _Scratch()


def _area(frame: UInt8[np.ndarray, "H W 3"], out: UInt8[np.ndarray, "h w 3"]) -> None:
    """Rows, then columns, one frame at a time, so that what is worked on stays in the cache."""
    (height, width, _), (h, w, _) = frame.shape, out.shape
    whole = _scratch("whole", height, 3 * width)
    np.copyto(whole.numpy().reshape(frame.shape), frame)
    tall = _mix(whole, 0, *_taps(height, h, 0), _scratch("tall", h, 3 * width))
    mixed = _mix(tall, 1, *_taps(width, w, 1), _scratch("mixed", h, 3 * w)).round_()
    np.copyto(out.reshape(h, 3 * w), mixed.numpy(), casting="unsafe")  # a mean of bytes is never above 255


def _mix(
    x: Float[Tensor, "_ _"],
    axis: int,
    places: Int[Tensor, "taps k"],
    share: Float[Tensor, "taps _ _"],
    out: Float[Tensor, "_ _"],
) -> Float[Tensor, "_ _"]:
    """Each new row (axis 0) or column (axis 1) is a weighted sum of a few old ones."""
    part = _scratch("part", *out.shape)
    for tap, (place, weight) in enumerate(zip(places, share, strict=True)):
        target = torch.index_select(x, axis, place, out=part if tap else out).mul_(weight)
        if tap:
            out.add_(target)
    return out


def resize_bicubic(frames: UInt8[np.ndarray, "n H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "n h w 3"]:
    """Antialiased cubic convolution (a = -0.5), within two levels of Pillow's unless it overshoots 0..255."""
    if frames.shape[1:3] == size:
        return frames
    channels_first = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    resized = F.interpolate(channels_first, size=size, mode="bicubic", antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous().numpy()


def _rotate(frames: np.ndarray, angle: float) -> np.ndarray:
    """About the centre, bilinear, black outside."""
    turn = np.deg2rad(angle)
    height, width = frames.shape[1:3]
    cos, sin, aspect = np.cos(turn), np.sin(turn), height / width
    matrix = torch.tensor([[cos, -sin * aspect, 0.0], [sin / aspect, cos, 0.0]], dtype=torch.float32)
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    grid = F.affine_grid(matrix.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    turned = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def _colours(frames: UInt8[np.ndarray, "n h w 3"], draw: Augmentation) -> Float[Tensor, "n 3 4"] | None:
    """The colour map of each frame, from 0..255 to -1..1; None where nothing changes."""
    if (draw.brightness, draw.contrast, draw.saturation, draw.hue) == (1.0, 1.0, 1.0, 0.0):
        return None
    return torch.from_numpy(np.stack([np.column_stack([_linear(draw), _shifts(frame, draw)]) for frame in frames]))


def _shifts(frame: UInt8[np.ndarray, "h w 3"], draw: Augmentation) -> Float[np.ndarray, " 3"]:
    """What contrast takes from or gives to every pixel: a share of the frame's mean brightness."""
    height, width, _ = frame.shape
    sums = frame.reshape(height, -1).sum(axis=0, dtype=np.uint32).reshape(-1, 3).sum(axis=0)  # exact in any order
    mean = float((_GRAY * sums).sum()) / (255 * height * width) * draw.brightness
    return np.full(3, 2 * (1 - draw.contrast) * mean - 1, np.float32)


@lru_cache(maxsize=8)
def _linear(draw: Augmentation) -> Float[np.ndarray, "3 3"]:
    """The linear part, from 0..255 to -1..1; all views of a sample share it."""
    matrix = draw.brightness * draw.contrast / 127.5 * _hue(draw.hue) @ _saturation(draw.saturation)
    return matrix.astype(np.float32)


def _saturation(factor: float) -> np.ndarray:
    return factor * np.eye(3) + (1 - factor) * np.ones((3, 1)) * _GRAY


def _hue(turns: float) -> np.ndarray:
    cos, sin = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return _FROM_YIQ @ rotation @ _YIQ
