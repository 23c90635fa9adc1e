"""Where the router sends a picture's patches and an instruction's words.

Axes: T tokens, S streams, h and w patches of one picture, n tokens of the instruction.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.records import JsonRecord

PATCH = 28
"""Pixels of one image token: SigLIP2 patches of 14, merged two by two."""


@dataclass(frozen=True, kw_only=True)
class WordRoute(JsonRecord):
    """One word of an instruction and the streams that its tokens were sent to."""

    word: str
    routes: tuple[float, ...]
    """Mean router weights over the word's tokens; they sum to 1."""


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Patches of a picture as the backbone sees it. Raises DataError for sizes that are no multiple of 28."""
    if height % PATCH or width % PATCH or not height or not width:
        got, want = f"{height} x {width} pixels", f"multiples of {PATCH}"
        raise DataError("picture", got=got, want=want, hint="Use the processed image, not the camera's")
    return height // PATCH, width // PATCH


def patch_routes(
    weights: Float[ndarray, "T S"], image_mask: Bool[ndarray, " T"], grids: Sequence[tuple[int, int]]
) -> list[Float[ndarray, "h w S"]]:
    """Router weights of one sample's pictures, in order of appearance, on their patch grids."""
    chosen, sizes = weights[image_mask], [h * w for h, w in grids]
    if sum(sizes) != len(chosen):
        got, want = f"{len(chosen)} image tokens", f"{sum(sizes)} for grids {list(grids)}"
        raise DataError("picture", got=got, want=want, hint="Pass the grid of every picture of the sample")
    pieces = np.split(chosen, np.cumsum(sizes)[:-1])
    return [piece.reshape(h, w, -1) for piece, (h, w) in zip(pieces, grids, strict=True)]


def word_routes(text: str, offsets: Sequence[tuple[int, int]], weights: Float[ndarray, "n S"]) -> tuple[WordRoute, ...]:
    """Mean weights of the tokens that touch each word; `offsets` are each token's character range in `text`.

    A token that touches two words counts for both; a word that no token touches is left out.
    """
    found = []
    for match in re.finditer(r"\S+", text):
        touching = [i for i, (start, end) in enumerate(offsets) if start < match.end() and end > match.start()]
        if touching:
            share = weights[touching].astype(float).mean(0)
            found.append(WordRoute(word=match.group(), routes=tuple(share.tolist())))
    return tuple(found)


def paint_routes(
    picture: Float[ndarray, "H W 3"] | ndarray,
    routes: Float[ndarray, "h w S"],
    stream: int,
    colour: tuple[int, int, int],
) -> ndarray:
    """The picture in grey with one stream's weights laid over it: the stronger the colour, the larger the weight."""
    height, width = picture.shape[:2]
    rows = np.minimum(np.arange(height) * routes.shape[0] // height, routes.shape[0] - 1)
    columns = np.minimum(np.arange(width) * routes.shape[1] // width, routes.shape[1] - 1)
    alpha = np.clip(routes[..., stream].astype(float), 0, 1)[rows][:, columns, None] * 0.8
    grey = picture.astype(float) @ np.array([0.299, 0.587, 0.114])
    painted = grey[..., None] * (1 - alpha) + np.array(colour, dtype=float) * alpha
    return painted.round().astype(np.uint8)
