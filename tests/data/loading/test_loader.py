"""The fast loader: every source and every number of workers gives the same batches, and a resume the very next one."""

from pathlib import Path

import numpy as np
import pytest
from toy_dataset import LENGTHS
from toy_samples import build, equal

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.lerobot import table
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.data.loading.frames import ClipFrames, MemoryFrames, PackedFrames, frame_store, resized_bytes
from svms_gr00t.data.loading.lowdim_table import LowDimTable
from svms_gr00t.data.processor.images import Augmentation, ImagePipeline

PIPELINE = ImagePipeline.cheap(28)


@pytest.mark.parametrize("frames", ["memory", "clips", "pack"])
def test_every_source_of_pictures_gives_the_same_batch(toy: Path, tmp_path: Path, frames: str) -> None:
    _, reference = build(toy, augment=True)
    _, steps = build(toy, augment=True, frames=tmp_path / "pack" if frames == "pack" else frames)
    assert equal(Batches(steps, 6, seed=0)(3), Batches(reference, 6, seed=0)(3))
    assert not equal(Batches(steps, 6, seed=0)(3), Batches(reference, 6, seed=1)(3))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_and_a_resume_gives_the_very_next_batch(toy: Path, workers: int) -> None:
    _, steps = build(toy, augment=True, frames="clips")
    alone, ahead = Batches(steps, 5, seed=1), Batches(steps, 5, seed=1, workers=workers)
    for number in (0, 1, 2, 9, 10):  # 9: a run that was resumed
        assert equal(alone(number), ahead(number)), number
    ahead.close()


def test_an_error_in_a_worker_is_the_same_sentence(toy: Path) -> None:
    _, steps = build(toy, frames="clips")
    (toy / "videos" / "chunk-000" / "observation.images.front" / "episode_000001.mp4").write_bytes(b"not a video")
    with pytest.raises(DataError, match=r"episode_000001\.mp4: found an unreadable video") as alone:
        Batches(steps, sum(LENGTHS), seed=0)(0)
    with pytest.raises(DataError) as ahead:
        Batches(steps, sum(LENGTHS), seed=0, workers=1)(0)
    assert str(ahead.value) == str(alone.value)


def test_no_parquet_is_opened_while_training(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, steps = build(toy)

    def refuse(*_: object) -> None:
        raise AssertionError("a parquet file in the hot loop")

    monkeypatch.setattr(table, "read_parquet", refuse)
    for index in range(len(steps)):
        steps[index]
    with pytest.raises(AssertionError):  # mutant: the refusal works
        steps.dataset.lowdim(0)


def test_an_instruction_is_tokenised_once(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, steps = build(toy)
    encode, texts = steps.processor.tokenizer.encode, []
    monkeypatch.setattr(steps.processor.tokenizer, "encode", lambda text: texts.append(text) or encode(text))
    for index in range(len(steps)):
        steps[index]
    assert len(texts) == len(set(texts)) == 2


def test_the_table_says_what_the_files_say(toy: Path, tmp_path: Path) -> None:
    dataset = LeRobotDataset.open(toy)
    plain, mapped = LowDimTable.build(dataset, [2, 0]), LowDimTable.build(dataset, [2, 0], folder=tmp_path / "t")
    again = LowDimTable.build(dataset, [2, 0], folder=tmp_path / "t")
    assert isinstance(again.values, np.memmap)
    for found in (plain, mapped, again):
        for episode in (2, 0):
            recorded = dataset.lowdim(episode)
            rows = found.rows(episode, np.array([1, 3, 3]), "action")
            for key, values in rows.items():
                np.testing.assert_array_equal(values, recorded[f"action.{key}"][[1, 3, 3]])
            assert found.instruction(episode, 4) == dataset.instruction(episode, 4)
    other = LowDimTable.build(dataset, [0, 1], folder=tmp_path / "t")
    assert set(other.layout.first) == {0, 1}


def test_a_pack_is_written_once_goes_on_and_refuses_other_data(toy: Path, tmp_path: Path) -> None:
    dataset, root = LeRobotDataset.open(toy), tmp_path / "pack"
    PackedFrames(dataset, PIPELINE, [0], ["front"], root)
    first = root / "front" / "episode_000000.npy"
    stamp = first.stat().st_mtime_ns
    pack = PackedFrames(dataset, PIPELINE, [0, 1], ["front"], root)
    assert first.stat().st_mtime_ns == stamp
    memory = MemoryFrames(dataset, PIPELINE, [0, 1], ["front"])
    clips = ClipFrames(dataset, PIPELINE)
    for step in (0, 5, 6, 2):
        for episode in (1, 0):
            for steps in ([step], [step, 0, step]):
                expected = memory.frames(episode, "front", steps)
                assert len(expected) == len(steps)
                np.testing.assert_array_equal(pack.frames(episode, "front", steps), expected)
                np.testing.assert_array_equal(clips.frames(episode, "front", steps), expected)
    with pytest.raises(DataError, match="Delete"):
        PackedFrames(dataset, ImagePipeline.cheap(56), [0], ["front"], root)


def test_small_data_goes_to_memory_and_large_data_stays_in_its_clips(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = LeRobotDataset.open(toy)
    side = PIPELINE.short_side
    assert resized_bytes(dataset, PIPELINE, [0, 1], ["front"]) == (LENGTHS[0] + LENGTHS[1]) * side * side * 3
    assert isinstance(frame_store(dataset, PIPELINE, [0], ["front"]), MemoryFrames)
    monkeypatch.setattr("svms_gr00t.data.loading.frames.MEMORY_LIMIT", 1000)
    assert isinstance(frame_store(dataset, PIPELINE, [0], ["front"]), ClipFrames)


def test_colours_equal_the_matrix_form() -> None:
    """Oracle: the affine map of the module's docstring as one matrix product in float64."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (56, 28, 3), dtype=np.uint8)
    whole = ImagePipeline(short_side=28, crop_fraction=1.0, target=28)
    draw = Augmentation(brightness=1.2, contrast=0.7, saturation=1.4, hue=0.05)
    gray = np.array([0.299, 0.587, 0.114])
    yiq = np.array([gray, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    cos, sin = np.cos(2 * np.pi * draw.hue), np.sin(2 * np.pi * draw.hue)
    turn = np.linalg.inv(yiq) @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ yiq
    fade = draw.saturation * np.eye(3) + (1 - draw.saturation) * np.ones((3, 1)) * gray
    p = frame.reshape(-1, 3).T / 255.0
    b, c = draw.brightness, draw.contrast
    expected = np.clip(c * b * turn @ fade @ p + (1 - c) * b * (gray @ p).mean(), 0, 1) * 2 - 1
    np.testing.assert_allclose(whole(frame[None], draw)[0].reshape(3, -1), expected, atol=2e-6)
