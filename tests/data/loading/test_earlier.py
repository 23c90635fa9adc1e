"""Samples that remember: which earlier steps they hold, one augmentation for all of them, how batches carry them."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from toy_dataset import LENGTHS
from toy_samples import build

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.history import EARLIER, History
from svms_gr00t.core.types import Earlier, ModelInputs, Moments, Past
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.loading.samples import At, SampleDataset
from svms_gr00t.data.processor.processor import Sample
from svms_gr00t.data.processor.statistics import compute_statistics
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, action_specs, read_scene
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.presets import preset

OFFSETS = (-4, -2)


@pytest.fixture
def steps(toy: Path) -> SampleDataset:
    return build(toy, memory=OFFSETS)[1]


@pytest.fixture
def model(steps: SampleDataset) -> Gr00tN1d6:
    torch.manual_seed(0)
    size = {"max_state_dim": 6, "max_action_dim": 6, "action_horizon": 4, "max_num_embodiments": 16}
    model = Gr00tN1d6(preset("tiny").config(steps.processor.tokenizer, **size, memory_offsets=OFFSETS))
    for parameter in model.svms.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def same(a: Sample, b: Sample) -> bool:
    pictures = all(torch.equal(x, y) for x, y in zip(a.images, b.images, strict=True))
    return pictures and torch.equal(a.state, b.state) and torch.equal(a.input_ids, b.input_ids)


def test_a_sample_holds_what_was_seen_at_the_offsets_and_nothing_before_the_start(steps: SampleDataset) -> None:
    for index in (0, 1, 2, 3, 4, LENGTHS[0] - 1, LENGTHS[0], LENGTHS[0] + 3):
        at = steps.places[index]
        for offset, seen in zip(OFFSETS, steps[index].earlier, strict=True):
            if at.step + offset < 0:
                assert seen is None
            else:
                assert same(seen, steps.sample(replace(at, step=at.step + offset)))
                assert seen.action is None
    assert steps[LENGTHS[0] + 3].earlier[1] is not None, "the second episode has a past of its own"


def test_one_draw_of_the_augmentation_serves_every_picture_of_a_sample(toy: Path) -> None:
    steps = build(toy, memory=(-1,), augment=True)[1]
    steps._frames.frames = lambda episode, view, seen: torch.full((len(seen), 28, 28, 3), 90).byte().numpy()
    sample = steps[3]
    assert torch.equal(sample.images[0], sample.earlier[0].images[0])
    assert not torch.equal(sample.images[0], steps[4].images[0]), "another sample has another draw"


def test_a_batch_carries_each_earlier_step_and_its_place(steps: SampleDataset) -> None:
    batch = steps.batch([0, 3, 4])
    assert isinstance(batch.past, Earlier)
    assert batch.past.valid.tolist() == [[False, False], [False, True], [True, True]]
    wanted = [At(episode=0, step=1), At(episode=0, step=0), At(episode=0, step=2)]
    for row, at in zip(batch.past.place[batch.past.valid].tolist(), wanted, strict=True):
        assert torch.equal(batch.past.steps.state[row], steps.sample(at).state)


def test_a_batch_of_first_steps_hides_everything(steps: SampleDataset, model: Gr00tN1d6) -> None:
    batch = steps.batch([0, LENGTHS[0]])
    assert not batch.past.valid.any()
    noise = torch.zeros(2, 4, 6)
    assert torch.equal(
        model.sample(batch, noise=noise).action, model.sample(replace(batch, past=None), noise=noise).action
    )


def test_samples_of_different_memories_make_no_batch(steps: SampleDataset) -> None:
    with pytest.raises(DataError, match=r"samples with \[0, 2\] earlier steps"):
        collate([steps[0], replace(steps[1], earlier=())])


def whole_past(model: Gr00tN1d6, steps: SampleDataset, at: At) -> Past:
    """Oracle: one earlier step at a time, its features by `glance`, put in order."""
    looks, states = [], []
    for offset in OFFSETS:
        inputs: ModelInputs = collate([steps.glimpse(replace(at, step=at.step + offset))])
        looks.append(model.glance(inputs))
        states.append(inputs.state)
    return Past(
        tokens=torch.stack([tokens for tokens, _ in looks], 1),
        mask=torch.stack([mask for _, mask in looks], 1),
        state=torch.stack(states, 1),
        valid=torch.ones(1, len(OFFSETS), dtype=torch.bool),
    )


def test_earlier_steps_give_the_moments_of_the_whole_past(steps: SampleDataset, model: Gr00tN1d6) -> None:
    batch = steps.batch([1, 5])
    found = model.moments(batch.past)
    assert isinstance(found, Moments)
    expected = model.svms.moments(whole_past(model, steps, steps.places[5]))
    torch.testing.assert_close(found.values[1], expected[0])
    assert (found.values[1] - expected[0].flip(0)).abs().max() > 1e-3, "order must count"


def test_gradients_reach_the_moments_of_earlier_steps_and_not_the_backbone(
    steps: SampleDataset, model: Gr00tN1d6
) -> None:
    model.moments(steps.batch([5]).past).values.sum().backward()
    heard = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"svms.memory.values.weight", "svms.memory.state.0.weight", "svms.heads.up"} <= heard
    assert not [name for name in heard if name.startswith("backbone.")]


def shown(root: Path, *columns: list[bool]) -> Path:
    """The toy set whose modality.json says which steps of its first episodes were watched; the others' were not."""
    file = root / "meta" / "modality.json"
    modality = json.loads(file.read_text())
    modality["annotation"]["watched"] = {"original_key": "is_demo"}
    file.write_text(json.dumps(modality))
    for number, length in enumerate(LENGTHS):
        data = root / "data" / "chunk-000" / f"episode_{number:06d}.parquet"
        values = columns[number] if number < len(columns) else [False] * length
        pq.write_table(pq.read_table(data).append_column("is_demo", pa.array(values)), data)
    return root


def test_watched_steps_are_a_past_and_no_samples(toy: Path) -> None:
    watched = 5
    steps = build(shown(toy, [True] * watched + [False] * 7), memory=OFFSETS)[1]
    first = [at.step for at in steps.places if at.episode == 0]
    assert first == list(range(watched, LENGTHS[0])), "nothing is learned of what was done there"
    assert [at.step for at in steps.places if at.episode == 1] == list(range(LENGTHS[1]))
    for offset, seen in zip(OFFSETS, steps[0].earlier, strict=True):
        assert same(seen, steps.glimpse(At(episode=0, step=watched + offset))), "but it is remembered"
    counts = steps.dataset.watched(0), steps.dataset.watched(1)
    assert counts == (watched, 0)


@pytest.mark.parametrize(
    ("column", "got"),
    [([False, True] + [False] * 10, "1 watched steps of 12, the last at step 1"), ([True] * 12, "12 watched steps")],
)
def test_watched_steps_come_first_and_others_follow(toy: Path, column: list[bool], got: str) -> None:
    with pytest.raises(DataError, match=rf"is_demo, episode 0: found {got}"):
        build(shown(toy, column))


def test_nobody_is_judged_on_watched_steps(toy: Path) -> None:
    dataset = LeRobotDataset.open(shown(toy, [True] * 5 + [False] * 7))
    config = OpenLoopConfig(horizon=4, executed=2, stride=2)
    specs = action_specs(dataset, compute_statistics(dataset), config)
    scene = read_scene(dataset, 0, config, specs, History(memory=OFFSETS))
    assert scene.steps == (5, 7, 9, 11)
    assert None not in scene.observations.at([5])[0][EARLIER], "and yet they are its past"
