"""A cache that grows holds what a built one holds, whatever order training asks in, and workers may read it."""

import copy
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from toy_dataset import LENGTHS
from toy_samples import build, equal

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.types import Earlier
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.loading import samples
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.data.loading.growing_cache import GrowingCache
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.presets import preset
from svms_gr00t.train.cache_features import build_cache, cache_key, cache_layer, growing_cache
from svms_gr00t.train.phases import COUPLE, END_TO_END, SPECIALISE

OFFSETS = (-4, -2)


@pytest.fixture
def pictures(toy: Path) -> SampleDataset:
    return build(toy, labeler=Labeler(), memory=OFFSETS)[1]


@pytest.fixture
def model(pictures: SampleDataset) -> Gr00tN1d6:
    torch.manual_seed(0)
    size = {"max_state_dim": 6, "max_action_dim": 6, "action_horizon": 4, "max_num_embodiments": 16}
    return Gr00tN1d6(preset("tiny").config(pictures.processor.tokenizer, **size, memory_offsets=OFFSETS)).eval()


def grow(model: Gr00tN1d6, pictures: SampleDataset, root: Path, *, layer: int = 2, variants: int = 2) -> GrowingCache:
    rest = {"dtype": "float32", "variants": variants, "seed": pictures.seed, "layer": layer}
    key = cache_key(model, pictures.dataset, pictures.processor, **rest)
    return growing_cache(model, key, lambda: pictures, root)


def reading(pictures: SampleDataset, cache: GrowingCache, **changes) -> SampleDataset:
    settings = {"episodes": pictures.episodes, "labeler": Labeler(), "features": cache, "memory": OFFSETS} | changes
    return SampleDataset(pictures.dataset, pictures.processor, **settings)


def test_the_cut_is_below_what_the_chosen_phases_train(model: Gr00tN1d6) -> None:
    assert cache_layer(model.config, (SPECIALISE, COUPLE)) == model.config.select_layer == 3
    assert cache_layer(model.config, (COUPLE, END_TO_END)) == cache_layer(model.config) == 2


def test_what_grew_in_any_order_is_what_was_built(model: Gr00tN1d6, pictures: SampleDataset, tmp_path: Path) -> None:
    built = build_cache(model, pictures, tmp_path / "built", dtype="float32", variants=2)
    grown = grow(model.train(), pictures, tmp_path / "grown")
    for variant, episode in ((2, 1), (0, 2), (1, 0), (2, 1)):
        grown.ensure([(variant, episode)])
        for step in range(LENGTHS[episode]):
            assert torch.equal(grown.read(variant, episode, step), built.read(variant, episode, step))
    assert not grown.has(0, 0)
    assert model.training
    assert not torch.equal(built.read(1, 0, 0), built.read(2, 0, 0)), "copies differ"


def test_runs_that_share_a_cache_fill_it_in_turn(
    model: Gr00tN1d6, pictures: SampleDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once wrote one file under one passing name: the later one found it renamed away."""
    filled: list[tuple[int, int]] = []
    fill = GrowingCache._fill_now

    def meet(self: GrowingCache, variant: int, episode: int) -> None:
        filled.append((variant, episode))
        time.sleep(0.05)  # long enough for the other to come
        fill(self, variant, episode)

    monkeypatch.setattr(GrowingCache, "_fill_now", meet)
    wanted = [(variant, episode) for variant in (0, 1) for episode in pictures.episodes]
    runs = [grow(copy.deepcopy(model), pictures, tmp_path / "cache", variants=1) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda run: run.ensure(wanted), runs))
    assert sorted(filled) == sorted(wanted), "each once"
    assert all(run.has(*pair) for run in runs for pair in wanted)


def test_an_episode_is_computed_once_and_found_again(
    model: Gr00tN1d6, pictures: SampleDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    prefix = model.backbone.prefix
    monkeypatch.setattr(model.backbone, "prefix", lambda *a: calls.append(1) or prefix(*a))
    first = reading(pictures, grow(model, pictures, tmp_path / "cache", variants=0))
    once = first.batch([0, 3, 4])
    seen = len(calls)
    assert seen == 1, "one episode of ten steps is one batch"
    again = reading(pictures, grow(model, pictures, tmp_path / "cache", variants=0)).batch([0, 3, 4])
    assert len(calls) == seen
    assert equal(once, again)


def test_reading_what_grew_equals_reading_pictures(model: Gr00tN1d6, pictures: SampleDataset, tmp_path: Path) -> None:
    for parameter in model.svms.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    indices = [0, 3, 5, LENGTHS[0] + 4]
    noise, time = torch.randn(4, 4, 6), torch.full((4,), 0.3)
    expected = model(pictures.batch(indices), noise=noise, time=time).terms
    for layer in (2, 3):
        batch = reading(pictures, grow(model, pictures, tmp_path / str(layer), layer=layer, variants=0)).batch(indices)
        assert not batch.images
        assert isinstance(batch.past, Earlier)
        assert batch.past.steps.hidden_layer == layer
        found = model(batch, noise=noise, time=time).terms
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kept", [samples.GLIMPSES, 1])
def test_a_past_step_is_encoded_once_and_stays_what_it_was(
    model: Gr00tN1d6, pictures: SampleDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """Steps 2 to 9 have between them the pasts 0 to 7: who read them before sees the bits of who reads them first."""
    monkeypatch.setattr(samples, "GLIMPSES", kept)
    cache, calls = grow(model, pictures, tmp_path / "cache", variants=0), []
    used, encode = reading(pictures, cache), pictures.processor.encode
    used.batch(range(2, 10))
    monkeypatch.setattr(pictures.processor, "encode", lambda *a, **k: calls.append(1) or encode(*a, **k))
    again = used.batch([7, 4, 9])
    pasts = len({0, 2, 3, 5, 7})
    assert len(calls) == 3 + (0 if kept > pasts else 6), "the steps themselves, and what was not kept"
    fresh = reading(pictures, cache).batch([7, 4, 9])
    assert equal(again, fresh)
    assert isinstance(again.past, Earlier)
    assert isinstance(fresh.past, Earlier)
    assert equal(again.past.steps, fresh.past.steps)
    assert again.past.steps.action is None


def test_workers_read_what_the_trainer_prepared(model: Gr00tN1d6, pictures: SampleDataset, tmp_path: Path) -> None:
    def stream(folder: str, workers: int) -> list:
        samples = reading(pictures, grow(model, pictures, tmp_path / folder), augment=True)
        batches = Batches(samples, 3, 0, workers=workers)
        found = [batches(number) for number in range(5)]
        batches.close()
        return found

    assert all(equal(a, b) for a, b in zip(stream("here", 0), stream("there", 2), strict=True))


def test_a_cache_of_other_weights_is_refused(model: Gr00tN1d6, pictures: SampleDataset, tmp_path: Path) -> None:
    grow(model, pictures, tmp_path / "cache")
    with torch.no_grad():
        model.backbone.model.mlp1[1].weight[0, 0] += 1
    with pytest.raises(DataError, match="checkpoint"):
        grow(model, pictures, tmp_path / "cache")
