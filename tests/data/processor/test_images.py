"""Pixels: resizing against independent implementations, sizes, and one draw for all views."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.data.processor.images import Augmentation, ColorJitter, ImagePipeline, resize_area, resize_bicubic

SIZES = [(256, 256), (128, 128), (100, 130), (300, 320), (89, 89)]


def picture(height: int = 256, width: int = 256, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def slow_area(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Oracle: repeat to a common multiple, then average blocks."""
    (h, w), (a, b) = frame.shape[:2], size
    fine = frame.astype(np.float64).repeat(a, axis=0).repeat(b, axis=1)
    return fine.reshape(a, h, b, w, 3).mean(axis=(1, 3))


@pytest.mark.parametrize("size", [(6, 5), (10, 10), (13, 7), (1, 20)])
def test_area_is_the_mean_over_the_covered_source(size):
    frame = picture(9, 10)
    difference = np.abs(resize_area(frame[None], size)[0] - slow_area(frame, size))
    assert difference.max() <= 0.5 + 1e-4  # only the rounding
    shifted = np.abs(resize_area(np.roll(frame, 1, axis=0)[None], size)[0] - slow_area(frame, size))
    assert shifted.max() > 0.5 + 1e-4 or size[0] == 1


@pytest.mark.parametrize("size", SIZES)
def test_area_agrees_with_opencv(size):
    cv2 = pytest.importorskip("cv2")
    for frame in (picture(), picture(243, 250)):
        expected = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(resize_area(frame[None], size)[0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("size", [(252, 252), (252, 420), (84, 84)])
def test_bicubic_agrees_with_pillow(size):
    image = pytest.importorskip("PIL.Image")
    frame = picture() // 2 + 64  # the two clip overshoots at different moments, so keep away from black and white
    expected = np.asarray(image.fromarray(frame).resize(size[::-1], image.BICUBIC)).astype(int)
    assert np.abs(resize_bicubic(frame[None], size)[0] - expected).max() <= 2  # both round after each of two passes
    assert np.abs(resize_area(frame[None], size)[0] - expected).max() > 2


@pytest.mark.parametrize(
    ("pipeline", "before", "after"),
    [
        (ImagePipeline(), (256, 256), (252, 252)),
        (ImagePipeline(), (480, 640), (252, 336)),
        (ImagePipeline(), (800, 1280), (252, 420)),
        (ImagePipeline.cheap(84), (256, 256), (84, 84)),
        (ImagePipeline.cheap(56), (64, 64), (56, 56)),
        (ImagePipeline.cheap(84), (480, 640), (84, 112)),
    ],
)
def test_output_sizes(pipeline, before, after):
    out = pipeline(picture(*before)[None]).numbers()
    assert tuple(out.shape) == (1, 3, *after)
    assert pipeline.output_size(*before) == after
    assert pipeline.tokens(*before) == after[0] * after[1] // 784
    assert out.min() >= -1
    assert out.max() <= 1


@pytest.mark.parametrize("pipeline", [ImagePipeline(), ImagePipeline.cheap(84)], ids=["n16", "cheap"])
def test_frames_resized_before_give_the_same_pixels(pipeline):
    frames = picture(300, 400)[None]
    resized = pipeline.resize(frames)
    assert pipeline.resize(resized) is resized
    draw = pipeline.draw(np.random.default_rng(3))
    assert torch.equal(pipeline(frames, draw).numbers(), pipeline(resized, draw).numbers())


def test_the_cheap_evaluation_is_a_centre_crop():
    pipeline = ImagePipeline.cheap(84)
    frame = picture(89, 89)
    expected = torch.from_numpy(frame[2:86, 2:86].astype(np.float32)).permute(2, 0, 1) / 127.5 - 1
    assert torch.equal(pipeline(frame[None])[0], expected)


@given(st.integers(0, 2**31))
def test_a_draw_treats_equal_views_equally(seed):
    pipeline = ImagePipeline.cheap(56)
    frame = picture(64, 64, seed=seed)
    views = pipeline(np.stack([frame, frame]), pipeline.draw(np.random.default_rng(seed))).numbers()
    assert torch.equal(views[0], views[1])


def test_draws_differ_reach_every_crop_and_repeat_with_the_seed():
    pipeline = ImagePipeline.cheap(56, jitter=ColorJitter(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0))
    assert pipeline.draw(np.random.default_rng(5)) == pipeline.draw(np.random.default_rng(5))
    rows = np.broadcast_to(np.arange(59, dtype=np.uint8)[:, None, None], (59, 59, 3))[None]
    rng = np.random.default_rng(0)
    tops = {round((pipeline(rows, pipeline.draw(rng))[0][0, 0, 0].item() + 1) * 127.5) for _ in range(100)}
    assert tops == {0, 1, 2, 3}


def test_each_colour_change_does_what_it_says():
    pipeline = ImagePipeline.cheap(56)
    frame = (picture(59, 59) // 4 + 96)[None]  # far from black and white, so that nothing is clipped
    plain = (pipeline(frame).numbers() + 1) / 2
    gray = torch.tensor([0.299, 0.587, 0.114])

    def changed(**factors: float) -> torch.Tensor:
        return (pipeline(frame, Augmentation(**factors)).numbers() + 1) / 2

    torch.testing.assert_close(changed(brightness=1.1), plain * 1.1)
    luma = torch.einsum("c,nchw->nhw", gray, plain)[:, None]
    torch.testing.assert_close(changed(saturation=0.0), luma.expand_as(plain), atol=1e-5, rtol=0)
    torch.testing.assert_close(changed(contrast=0.0), luma.mean().expand_as(plain), atol=1e-5, rtol=0)
    turned = changed(hue=0.08)
    torch.testing.assert_close(torch.einsum("c,nchw->nhw", gray, turned)[:, None], luma, atol=1e-4, rtol=0)
    assert (turned - plain).abs().max() > 0.02
    torch.testing.assert_close(changed(hue=1.0), plain, atol=1e-5, rtol=0)


def test_a_right_angle_rotates_counter_clockwise():
    pipeline = ImagePipeline.cheap(56)
    frame = picture(59, 59)
    turned = pipeline(frame[None], Augmentation(angle=90.0))[0]
    straight = pipeline(frame[None])[0]
    torch.testing.assert_close(turned, torch.rot90(straight, 1, (1, 2)), atol=1.01 / 127.5, rtol=0)


@pytest.mark.parametrize(
    "settings", [{"target": 85}, {"crop_fraction": 0.0}, {"short_side": 20}, {"max_angle": -1.0}], ids=str
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=rf"images\.{next(iter(settings))}"):
        ImagePipeline(**settings)
    with pytest.raises(ConfigError, match=r"jitter\.hue"):
        ColorJitter(hue=0.7)


def test_a_cached_small_frame_costs_little():
    """The budget is 0.2 ms on an idle core; ten times that still notices a resize that came back."""
    pipeline = ImagePipeline.cheap(84)
    resized, rng = pipeline.resize(picture()[None]), np.random.default_rng(0)
    best = np.inf
    for _ in range(30):
        start = time.perf_counter()
        pipeline(resized, pipeline.draw(rng))
        best = min(best, time.perf_counter() - start)
    assert best < 2e-3
