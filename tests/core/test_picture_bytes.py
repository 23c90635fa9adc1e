"""Pictures travel as bytes and become the very numbers that the host used to send."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.types import Pictures
from svms_gr00t.data.processor.images import Augmentation, ImagePipeline, resize_area


def bytes_of(count: int, height: int, width: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def pictures(frames: np.ndarray, colours: torch.Tensor | None = None) -> Pictures:
    return Pictures(
        pixels=torch.from_numpy(frames).flatten(), sizes=(frames.shape[1:3],) * len(frames), colours=colours
    )


def coloured(frame: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Oracle: one number after the other in float32, rounded after each operation, as numpy does it on the host."""
    planes = frame.transpose(2, 0, 1).astype(np.float32)
    rows = [np.float32(0) + planes[0] * row[0] for row in colour]
    rows = [row + planes[1] * own[1] for row, own in zip(rows, colour, strict=True)]
    rows = [row + planes[2] * own[2] for row, own in zip(rows, colour, strict=True)]
    return np.stack([(row + own[3]).clip(-1, 1) for row, own in zip(rows, colour, strict=True)])


def test_every_byte_becomes_the_number_that_numpy_makes_of_it():
    frame = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    expected = frame[0].transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    found = pictures(frame).numbers()[0]
    assert np.array_equal(found.numpy(), expected)
    reciprocal = frame[0].transpose(2, 0, 1).astype(np.float32) * np.float32(1 / 127.5) - np.float32(1.0)
    assert not np.array_equal(found.numpy(), reciprocal), "what a GPU would make of a divisor on the host is another"


def test_colours_are_the_bits_of_the_sum_one_by_one():
    frames = bytes_of(3, 28, 56)
    maps = np.random.default_rng(1).normal(0, 0.004, (3, 3, 4)).astype(np.float32)
    found = pictures(frames, torch.from_numpy(maps)).numbers()
    for one, frame, colour in zip(found, frames, maps, strict=True):
        assert np.array_equal(one.numpy(), coloured(frame, colour))
    assert found.min() < -0.9
    assert found.max() > 0.9


@pytest.mark.parametrize("jitter", [False, True])
def test_pictures_of_several_sizes_stay_themselves_in_a_batch(jitter):
    pipeline, rng = ImagePipeline.cheap(56), np.random.default_rng(0)
    frames = [bytes_of(1, 64, 64), bytes_of(2, 64, 96, seed=1), bytes_of(1, 64, 64, seed=2)]
    parts = [pipeline(one, pipeline.draw(rng) if jitter else None) for one in frames]
    whole = Pictures.joined(parts)
    assert len(whole) == 4
    alone = [image for part in parts for image in part]
    assert all(torch.equal(a, b) for a, b in zip(whole, alone, strict=True))
    assert torch.equal(whole.numbers([0, 3]), torch.stack([alone[0], alone[3]]))
    assert torch.equal(whole.numbers([3, 0]), torch.stack([alone[3], alone[0]]))
    assert torch.equal(whole.only(2)[0], alone[2])
    assert whole.pixels.nbytes == 56 * (56 + 84 + 84 + 56) * 3
    assert (whole.colours is not None) == jitter


def test_a_batch_of_coloured_and_plain_pictures_is_refused():
    pipeline, frames = ImagePipeline.cheap(28), bytes_of(1, 32, 32)
    plain, drawn = pipeline(frames), pipeline(frames, Augmentation(contrast=0.5))
    with pytest.raises(DataError, match="some with a change of colours, but need all or none"):
        Pictures.joined([plain, drawn])
    assert len(Pictures.joined([plain, Pictures.joined(()), plain])) == 2, "none at all is neither"


def test_contrast_knows_the_mean_of_any_picture_exactly():
    frame = np.full((1, 420, 420, 3), 255, np.uint8)
    frame[0, :, ::2] = 254  # the sum has more bits than float32
    whole = ImagePipeline(short_side=420, crop_fraction=1.0, target=420)
    flat = whole(frame, Augmentation(contrast=0.0)).numbers()
    assert flat.unique().tolist() == pytest.approx([254.5 / 127.5 - 1], abs=1e-7)


def test_threads_resize_without_disturbing_one_another():
    frames = [bytes_of(40, 60 + i, 70, seed=i) for i in range(4)]
    alone = [resize_area(one, (50, 52)) for one in frames]
    found: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: resize_area(frames[i], (50, 52))})) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[i], alone[i]) for i in range(4))


def test_moving_keeps_what_is_no_tensor():
    found = pictures(bytes_of(2, 28, 28)).to("meta")
    assert found.pixels.is_meta
    assert found.sizes == ((28, 28),) * 2
    assert found.numbers().shape == (2, 3, 28, 28)
    assert replace(found, colours=torch.empty(2, 3, 4, device="meta")).numbers().is_meta
