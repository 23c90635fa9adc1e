"""The feature cache: training from it equals training from pictures, and nothing of another run is ever read."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_dataset import LENGTHS
from toy_samples import build

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.lock import only_one
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.data.loading.feature_cache import (
    CacheKey,
    FeatureCache,
    cache_size,
    image_fingerprint,
    prompt_fingerprint,
)
from svms_gr00t.data.loading.samples import At, SampleDataset
from svms_gr00t.data.processor.images import ImagePipeline
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.presets import preset
from svms_gr00t.train.cache_features import (
    build_cache,
    cache_layer,
    estimate_cache,
    prefix_fingerprint,
    verify_cache,
)


@pytest.fixture
def steps(toy: Path) -> SampleDataset:
    tasks = toy / "meta" / "tasks.jsonl"  # prompts of different lengths, so that batches hold padding
    tasks.write_text(tasks.read_text(encoding="utf-8").replace("open the door", "open the door, then wait a little"))
    return build(toy, labeler=Labeler())[1]


@pytest.fixture
def model(steps: SampleDataset) -> Gr00tN1d6:
    torch.manual_seed(0)
    config = preset("tiny").config(
        steps.processor.tokenizer, max_state_dim=6, max_action_dim=6, action_horizon=4, max_num_embodiments=16
    )
    return Gr00tN1d6(config).eval()


def from_cache(steps: SampleDataset, cache: FeatureCache, **changes) -> SampleDataset:
    settings = {"episodes": steps.episodes, "labeler": steps.labels.labeler, "features": cache} | changes
    return SampleDataset(steps.dataset, steps.processor, **settings)


def losses(model: Gr00tN1d6, batch: ModelInputs) -> dict[str, float]:
    size = (len(batch.input_ids), model.config.action_horizon, model.config.max_action_dim)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(3))
    terms = model(batch, noise=noise, time=torch.full((size[0],), 0.4)).terms
    return {name: float(value.detach()) for name, value in terms.items()}


@pytest.mark.parametrize(("kept", "cut"), [(16, 12), (8, 6), (3, 2)])
def test_the_cut_follows_the_configuration(kept: int, cut: int) -> None:
    assert cache_layer(Gr00tN1d6Config(select_layer=kept)) == cut


def test_cached_and_uncached_training_are_the_same(steps: SampleDataset, model: Gr00tN1d6, tmp_path: Path) -> None:
    cache = build_cache(model, steps, tmp_path / "cache", dtype="float32", batch_size=5)
    assert cache.key.layer == cache_layer(model.config) == 2
    indices = [0, 5, LENGTHS[0] + 1, sum(LENGTHS) - 1]  # two prompts of different lengths: one row is padded
    plain, cached = steps.batch(indices), from_cache(steps, cache).batch(indices)
    assert not cached.images
    assert bool((~cached.attention_mask).any())
    assert torch.equal(plain.input_ids, cached.input_ids)
    assert torch.equal(plain.action, cached.action)
    assert torch.equal(plain.labels, cached.labels)
    assert losses(model, cached) == pytest.approx(losses(model, plain), rel=1e-4)
    wrong = replace(cached, hidden=cached.hidden.roll(1, dims=0))  # mutant: another step's states
    assert losses(model, wrong) != pytest.approx(losses(model, plain), rel=1e-4)


def test_gradients_of_the_top_layers_are_the_same(steps: SampleDataset, model: Gr00tN1d6, tmp_path: Path) -> None:
    cache = build_cache(model, steps, tmp_path / "cache", dtype="float32")
    name = "backbone.model.language_model.model.layers.2.mlp.up_proj.weight"
    parameter = dict(model.named_parameters())[name]
    found = []
    for source in (steps, from_cache(steps, cache)):
        model.zero_grad()
        batch = source.batch([1, 2])
        noise = torch.ones(2, model.config.action_horizon, model.config.max_action_dim)
        model(batch, noise=noise, time=torch.full((2,), 0.4)).terms["flow"].backward()
        found.append(parameter.grad.clone())
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-6)


def test_bfloat16_rounds_and_halves(steps: SampleDataset, model: Gr00tN1d6, tmp_path: Path) -> None:
    full = build_cache(model, steps, tmp_path / "full", dtype="float32").read(0, 1, 3)
    half = build_cache(model, steps, tmp_path / "half", dtype="bfloat16").read(0, 1, 3)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, full.to(torch.bfloat16))
    sizes = [sum(f.stat().st_size for f in (tmp_path / name).rglob("*.npy")) for name in ("full", "half")]
    estimate = estimate_cache(steps, model.config, dtype="bfloat16")
    assert estimate.steps == sum(LENGTHS)
    assert sizes[1] == pytest.approx(estimate.total, abs=3 * 128)  # a header for each episode
    assert sizes[0] == pytest.approx(2 * estimate.total, abs=3 * 128)
    assert cache_size([3, 5], [2, 1], width=4, dtype="float32", variants=1).total == (3 * 2 + 5) * 4 * 4 * 2


def test_an_interrupted_build_goes_on(steps: SampleDataset, model: Gr00tN1d6, tmp_path: Path, monkeypatch) -> None:
    root, write, written = tmp_path / "cache", FeatureCache.write, []

    def interrupted(self, variant, episode, *rest):
        if episode == 1:
            raise KeyboardInterrupt
        write(self, variant, episode, *rest)

    monkeypatch.setattr(FeatureCache, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_cache(model, steps, root)
    cache = FeatureCache.open(root)
    assert cache.missing(steps.episodes) == [(0, 1), (0, 2)]
    with pytest.raises(DataError, match="2 episodes"):
        from_cache(steps, cache)

    def counted(self, variant, episode, *rest):
        written.append(episode)
        write(self, variant, episode, *rest)

    monkeypatch.setattr(FeatureCache, "write", counted)
    build_cache(model, steps, root)
    assert written == [1, 2]
    assert not list(root.rglob("*.partial"))


def test_augmented_copies_differ_repeat_and_are_drawn_by_epoch(
    steps: SampleDataset, model: Gr00tN1d6, tmp_path: Path
) -> None:
    cache = build_cache(model, steps, tmp_path / "a", dtype="float32", variants=2)
    copies = [cache.read(variant, 0, 4) for variant in range(3)]
    assert not torch.equal(copies[0], copies[1])
    assert not torch.equal(copies[1], copies[2])
    again = build_cache(model, steps, tmp_path / "b", dtype="float32", variants=2)
    assert torch.equal(again.read(2, 0, 4), copies[2])
    training = Batches(from_cache(steps, cache, augment=True), sum(LENGTHS), seed=0)
    seen = []
    for epoch in range(2):
        (draw,) = [d for d in training.indices(epoch) if d == 4]
        seen.append(training.samples[draw].hidden)
    assert any(torch.equal(seen[0], copy) for copy in copies[1:])
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(from_cache(steps, cache)[4].hidden, copies[0])


def test_every_difference_is_refused(steps: SampleDataset, model: Gr00tN1d6, tmp_path: Path) -> None:
    cache = build_cache(model, steps, tmp_path / "cache")
    for name, value in cache.key.model_dump().items():
        other = value + 1 if isinstance(value, int) else {"bfloat16": "float16"}.get(value, "another")
        with pytest.raises(DataError, match=f"{name}.*data cache build"):
            FeatureCache.open(cache.root, CacheKey.model_validate(cache.key.model_dump() | {name: other}))
    with pytest.raises(DataError, match="dtype"):
        build_cache(model, steps, cache.root, dtype="float16")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="other files"):
        build_cache(model, steps, tmp_path / "mine")


def test_the_key_follows_weights_below_the_cut_only(steps: SampleDataset, model: Gr00tN1d6) -> None:
    before = prefix_fingerprint(model, 2)
    parameters = dict(model.named_parameters())
    layers = "backbone.model.language_model.model.layers"
    with torch.no_grad():
        parameters[f"{layers}.2.mlp.up_proj.weight"].add_(1)
        next(model.action_head.parameters()).add_(1)
    assert prefix_fingerprint(model, 2) == before
    with torch.no_grad():
        parameters[f"{layers}.1.mlp.up_proj.weight"][0, 0] += 1e-3
    assert prefix_fingerprint(model, 2) != before


def test_the_key_follows_pictures_and_prompt(steps: SampleDataset) -> None:
    config, tokenizer = steps.processor.config, steps.processor.tokenizer
    assert image_fingerprint(config) == image_fingerprint(replace(config, use_percentiles=True))
    assert image_fingerprint(config) != image_fingerprint(replace(config, images=ImagePipeline.cheap(56)))
    plain = replace(config, formalize_language=False)
    assert prompt_fingerprint(tokenizer, config) != prompt_fingerprint(tokenizer, plain)


def test_verification_finds_flipped_bits_and_other_states(
    steps: SampleDataset, model: Gr00tN1d6, tmp_path: Path
) -> None:
    cache = build_cache(model, steps, tmp_path / "cache")
    report = verify_cache(model, steps, cache, samples=4)
    assert report.passed
    assert report.worst < report.tolerance
    file = tmp_path / "cache" / "v00" / "episode_000001.npy"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 0x40
    file.write_bytes(bytes(raw))
    assert verify_cache(model, steps, cache, samples=1).damaged == ("v00/episode 1",)
    file.write_bytes(bytes(raw[:-8]))
    with pytest.raises(DataError, match="episode_000001"):
        FeatureCache.open(cache.root).read(0, 1, 0)
    shutil.copy(tmp_path / "cache" / "v00" / "episode_000000.npy", file)
    with pytest.raises(DataError, match="shape"):
        FeatureCache.open(cache.root).read(0, 1, 0)
    wrong = [torch.zeros_like(cache.read(0, 0, 0))] * LENGTHS[1]  # with right sums
    cache.write(0, 1, wrong, cache.image_tokens(0, 0))
    assert not verify_cache(model, steps, cache, samples=12).passed


def bend(file: Path, bit: int) -> None:
    raw = bytearray(file.read_bytes())
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    file.write_bytes(raw)


def test_a_flipped_bit_is_noticed_where_it_is_read(steps: SampleDataset, model: Gr00tN1d6, tmp_path: Path) -> None:
    cache = build_cache(model, steps, tmp_path / "cache")
    file = cache.root / "v00" / "episode_000001.npy"
    whole = file.read_bytes()
    at = len(whole) - 3
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
    reader = FeatureCache.open(cache.root, cache.key)
    last = LENGTHS[1] - 1
    for step in range(last):
        assert torch.equal(reader.read(0, 1, step), cache.read(0, 1, step))
    with pytest.raises(DataError, match=f"other bytes at step {last}.*data cache verify"):
        reader.read(0, 1, last)
    with pytest.raises(DataError, match="other bytes"):
        from_cache(steps, reader).batch([sum(LENGTHS[:2]) - 1])


@pytest.mark.whole
def test_no_flipped_bit_of_an_index_is_complete(steps: SampleDataset, model: Gr00tN1d6, tmp_path: Path) -> None:
    cache = build_cache(model, steps, tmp_path / "cache")
    index = cache.root / "v00" / "episode_000000.json"
    whole = index.read_bytes()
    said = json.loads(whole)
    blank = []  # white space and the case of nothing: JSON that says the same
    for bit in range(0, 8 * len(whole), 3):
        bend(index, bit)
        if FeatureCache.open(cache.root).has(0, 0):
            blank.append(json.loads(index.read_bytes()) == said)
        index.write_bytes(whole)
    assert all(blank)


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"tokens": []', b"\xff", None])
def test_an_empty_or_torn_index_is_not_complete_and_built_again(
    steps: SampleDataset, model: Gr00tN1d6, tmp_path: Path, damage: bytes | None
) -> None:
    cache = build_cache(model, steps, tmp_path / "cache")
    index, file = (cache.root / "v00" / f"episode_000002{end}" for end in (".json", ".npy"))
    before = index.read_bytes(), file.read_bytes()
    if damage is None:
        file.write_bytes(b"")
    else:
        index.write_bytes(damage)
    found = FeatureCache.open(cache.root)
    assert found.missing(steps.episodes) == [(0, 2)]
    with pytest.raises(DataError, match="1 episodes"):
        from_cache(steps, found)
    build_cache(model, steps, cache.root)
    assert (index.read_bytes(), file.read_bytes()) == before


def test_a_second_builder_is_refused(steps: SampleDataset, model: Gr00tN1d6, tmp_path: Path) -> None:
    with only_one(tmp_path / "cache"), pytest.raises(DataError, match="another process at work"):
        build_cache(model, steps, tmp_path / "cache")


def test_a_cache_of_another_prompt_length_is_noticed(steps: SampleDataset, model: Gr00tN1d6, tmp_path: Path) -> None:
    cache = build_cache(model, steps, tmp_path / "cache")
    cache.write(0, 0, [torch.zeros(3, 8)] * LENGTHS[0], [1])
    with pytest.raises(DataError, match="3 cached tokens"):
        from_cache(steps, FeatureCache.open(cache.root)).cached(At(episode=0, step=0), 0)
