"""Pictures as others hold them: the same bytes come out, or a sentence that says what they are."""

from typing import Any

import numpy as np
import pytest
import torch

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.pictures import as_uint8_rgb

RGB = np.random.default_rng(0).integers(0, 256, (2, 5, 8, 12, 3), dtype=np.uint8)
RAMP = np.arange(256, dtype=np.uint8).reshape(8, 32, 1).repeat(3, axis=2)
READ = {
    "bytes": RGB,
    "channels first": np.moveaxis(RGB, -1, -3),
    "fractions": RGB / 255,
    "half precision": (RGB / 255).astype(np.float16),
    "fractions, channels first": np.moveaxis(RGB / np.float32(255), -1, -3),
    "big-endian fractions": (RGB / 255).astype(">f4"),
    "a tensor": torch.from_numpy(RGB).permute(0, 1, 4, 2, 3) / 255,
    "lists of fractions": (RGB / 255).tolist(),
}


@pytest.mark.parametrize("form", READ)
def test_what_has_one_meaning_gives_the_same_bytes(form: str) -> None:
    got = as_uint8_rgb("video.front", READ[form])
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, RGB)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_byte_survives_the_way_through_fractions(dtype: type) -> None:
    np.testing.assert_array_equal(as_uint8_rgb("x", (RAMP / 255).astype(dtype)), RAMP)


def test_bytes_are_not_copied() -> None:
    assert as_uint8_rgb("x", RGB) is RGB


ONE = RGB[0, 0]
REFUSED: dict[str, tuple[Any, str]] = {
    "floats of bytes": (ONE.astype(np.float32), r"float32 \(8, 12, 3\) from 0 to 25\d, .*astype\(np\.uint8\)"),
    "minus one to one": (ONE / 127.5 - 1, "from -.* floats are read from 0 to 1"),
    "NaN": (np.where(ONE > 250, np.nan, ONE / 255), "NaN or infinity"),
    "infinity": (np.where(ONE > 250, np.inf, ONE / 255), "NaN or infinity"),
    "16 bits": (ONE.astype(np.uint16) * 257, "uint16 .* no 16 bits"),
    "integers of a list": (ONE.astype(np.int64), r"int64 .*astype\(np\.uint8\)"),
    "negative integers": (ONE.astype(np.int64) - 300, "0 .. 255"),
    "booleans": (ONE > 9, "bool"),
    "text": (np.full((8, 12, 3), "a"), "<U1"),
    "three at both ends": (np.zeros((3, 12, 3), np.uint8), r"channels first, transpose to \(H, W, 3\)"),
    "grey": (ONE[..., :1], "Grey"),
    "grey, channels first": (ONE[..., 0][None], r"hannels first.*transpose to \(H, W, 3\)"),
    "alpha": (np.zeros((8, 12, 4), np.uint8), "alpha"),
    "alpha, channels first": (np.zeros((4, 8, 12), np.uint8), r"hannels first.*transpose to \(H, W, 3\)"),
    "no colours": (ONE[..., 0], r"uint8 \(8, 12\)"),
    "no rows": (ONE[:0], r"\(0, 12, 3\)"),
    "ragged": ([[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]], "one length"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_may_mean_two_things_is_named(form: str) -> None:
    pictures, message = REFUSED[form]
    with pytest.raises(DataError, match=message) as refused:
        as_uint8_rgb("video.front", pictures)
    assert str(refused.value).startswith("video.front: found")
    assert "\n" not in str(refused.value)
