"""Robots that look back: which past steps a sample holds, and that training, cache and statistics agree on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_dataset import LENGTHS
from toy_samples import HORIZON, build, equal

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.history import clipped_steps
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.loading.feature_cache import image_fingerprint
from svms_gr00t.data.loading.samples import At, SampleDataset
from svms_gr00t.data.processor.embodiment import ActionConfig
from svms_gr00t.data.processor.processor import Sample
from svms_gr00t.data.processor.relative import relative_chunks
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.presets import preset
from svms_gr00t.train.cache_features import build_cache, verify_cache

OFFSETS = {"video": (-5, 0), "state": (-3, -1, 0)}


def test_steps_before_the_first_are_the_first_and_never_the_last() -> None:
    assert clipped_steps(2, (-15, 0), 9) == [0, 2]
    assert clipped_steps(0, (-15, -1, 0), 9) == [0, 0, 0]
    assert clipped_steps(7, (0, 1, 2, 3), 9) == [7, 8, 8, 8]
    assert clipped_steps(40, (-15, 0)) == [25, 40]


def expected(steps: SampleDataset, at: At) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Oracle: one frame and one state at a time, straight from the files, by the definition."""
    dataset, codec, images = steps.dataset, steps.processor.codec, steps.processor.config.images
    pictures = [images(dataset.frames(at.episode, "front", [max(at.step + d, 0)]))[0] for d in OFFSETS["video"]]
    rows = {k.removeprefix("state."): v for k, v in dataset.lowdim(at.episode).items() if k.startswith("state.")}
    past = [max(at.step + d, 0) for d in OFFSETS["state"]]
    state = [codec.encode_state({key: values[step][None] for key, values in rows.items()})[0] for step in past]
    return pictures, torch.from_numpy(np.stack(state)).float()


@pytest.mark.parametrize("frames", ["memory", "clips", "pack"])
def test_a_sample_holds_the_past_frames_and_states_in_order(toy: Path, tmp_path: Path, frames: str) -> None:
    _, steps = build(toy, offsets=OFFSETS, frames=tmp_path / "pack" if frames == "pack" else frames)
    for index in (0, 2, 5, LENGTHS[0] - 1, LENGTHS[0], LENGTHS[0] + 1):
        pictures, state = expected(steps, steps.places[index])
        sample = steps[index]
        assert sample.state.shape == (3, 6)
        torch.testing.assert_close(sample.state, state)
        assert len(sample.images) == 2
        assert all(torch.equal(a, b) for a, b in zip(sample.images, pictures, strict=True))
    first, last = steps[0], steps.dataset.frames(0, "front", [LENGTHS[0] - 5])
    assert torch.equal(first.images[0], first.images[1])
    wrong = steps.processor.config.images(last)[0]  # mutant: what frames[-5] would have been
    assert not torch.equal(first.images[0], wrong)


def test_the_present_alone_is_what_it_was(toy: Path) -> None:
    plain, spelt = build(toy)[1], build(toy, offsets={"video": (0,), "state": (0,)})[1]
    chosen = list(range(sum(LENGTHS)))
    assert equal(plain.batch(chosen), spelt.batch(chosen))


def test_all_frames_of_a_sample_share_one_augmentation(toy: Path) -> None:
    _, steps = build(toy, offsets=OFFSETS, augment=True)
    first = steps[0]
    assert torch.equal(first.images[0], first.images[1])  # the same frame under the same draw
    assert not torch.equal(first.images[0], build(toy, offsets=OFFSETS)[1][0].images[0])


def test_a_feature_cache_holds_the_past_frames_and_knows_them_by_its_key(toy: Path, tmp_path: Path) -> None:
    _, steps = build(toy, offsets=OFFSETS, labeler=Labeler())
    sizes = {"max_state_dim": 6, "max_action_dim": 6, "action_horizon": HORIZON, "max_num_embodiments": 16}
    torch.manual_seed(0)
    model = Gr00tN1d6(preset("tiny").config(steps.processor.tokenizer, **sizes)).eval()
    cache = build_cache(model, steps, tmp_path / "cache", dtype="float32", batch_size=5)
    assert len(cache.image_tokens(0, 0)) == 2
    assert verify_cache(model, steps, cache, samples=8).passed
    cached = SampleDataset(steps.dataset, steps.processor, episodes=steps.episodes, labeler=Labeler(), features=cache)
    noise = torch.ones(3, HORIZON, 6)

    def flow(source: SampleDataset, indices: list[int]) -> float:
        batch = source.batch(indices)
        return float(model(batch, noise=noise, time=torch.full((3,), 0.4)).terms["flow"].detach())

    assert flow(cached, [0, 7, 13]) == pytest.approx(flow(steps, [0, 7, 13]), rel=1e-4)
    assert flow(cached, [1, 7, 13]) != pytest.approx(flow(steps, [0, 7, 13]), rel=1e-4)
    config = steps.processor.config
    keys = {image_fingerprint(build(toy, offsets={"video": o})[1].processor.config) for o in ((0,), (-5, 0), (0, -5))}
    assert len({*keys, image_fingerprint(config)}) == 3


def test_ranges_of_relative_actions_are_relative_to_the_state_that_the_sample_holds(toy: Path) -> None:
    dataset, steps = build(toy, offsets={"state": (-4, -2)})
    robot = steps.processor.config.embodiment
    action = replace(robot.action, action_configs=(ActionConfig(rep="relative"), ActionConfig()))
    robot = replace(robot, action=action)
    rows = dataset.lowdim(0)
    found = relative_chunks(rows, robot, "arm")
    for h, chunk in enumerate(found):
        by_hand = [rows["action.arm"][t + h] - rows["state.arm"][max(t - 2, 0)] for t in range(LENGTHS[0] - h)]
        np.testing.assert_allclose(chunk, by_hand, rtol=1e-6)


def test_an_observation_of_the_future_is_refused(toy: Path) -> None:
    with pytest.raises(ConfigError, match=r"state delta_indices.*at most 0"):
        build(toy, offsets={"state": (0, 1)})


def test_a_sample_without_its_past_is_not_encoded(toy: Path) -> None:
    _, steps = build(toy, offsets=OFFSETS)
    seen = steps.observation(At(episode=0, step=3))
    short = replace(seen, video={key: frames[:, -1:] for key, frames in seen.video.items()})
    assert isinstance(steps.processor.encode(seen), Sample)
    with pytest.raises(ValueError, match=r"video.front: found 1 steps, but need 2 \(delta \(-5, 0\)\)"):
        steps.processor.encode(short)
