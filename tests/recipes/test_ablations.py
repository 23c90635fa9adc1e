"""An ablation: variants that differ in one thing only, resumable, the same in one process or several."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from svms_gr00t.core.errors import CheckpointError, ConfigError
from svms_gr00t.core.types import Features
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.processor.tokenizer import load_tokenizer
from svms_gr00t.evaluate.comparison.run_facts import RunFacts
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.ablation.controls import AdapterModel, ImagesAreVisual, ResidualAdapter, ShuffledLabels
from svms_gr00t.recipes.ablation.run import AblationConfig, build, run_variant
from svms_gr00t.recipes.ablation.study import RECIPES, ablate
from svms_gr00t.recipes.ablation.variants import ALL, VARIANTS
from svms_gr00t.recipes.training import phases_in_turn
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.presets import preset
from svms_gr00t.svms import SheafStreams
from svms_gr00t.train.phases import PHASES
from svms_gr00t.train.trainable import trainable_names

FEW = ["plain", "no_correction", "full"]


@pytest.fixture(scope="module")
def config(small_kitchen) -> AblationConfig:
    return AblationConfig(dataset_path=str(small_kitchen), steps=(2, 1, 2), batch_size=4, stride=60)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """Three variants on two seeds."""
    output = tmp_path_factory.mktemp("ablation")
    return output, ablate(config, output, seeds=[0, 1], variants=FEW, workers=1)


def test_the_adapter_is_as_large_as_svms_and_fresh_changes_nothing():
    for name in ("tiny", "n1d6"):
        model_config = preset(name).config(load_tokenizer("tiny"))
        dim = model_config.backbone_embedding_dim
        with torch.device("meta"):
            ours = sum(p.numel() for p in SheafStreams.from_config(model_config, dim).parameters())
            theirs = sum(p.numel() for p in ResidualAdapter.as_large_as(model_config, dim).parameters())
        assert abs(theirs / ours - 1) < 2e-3
    adapter = ResidualAdapter(8, 5)
    mask = torch.tensor([[False, True, True]])
    f = Features(tokens=torch.randn(1, 3, 8), mask=mask, image_mask=~mask)
    assert torch.equal(adapter(f).tokens, f.tokens)
    torch.nn.init.normal_(adapter.outer.weight)
    poisoned = replace(f, tokens=f.tokens.masked_fill(~mask[..., None], float("nan")))
    out = adapter(poisoned).tokens
    assert torch.equal(out[0, 1:], adapter(f).tokens[0, 1:])
    assert not torch.equal(out[0, 1:], f.tokens[0, 1:])


def test_variants_differ_in_what_they_say_and_share_every_other_weight(config):
    experiment = Experiment.prepare(config.dataset_path, seed=0)
    models = {}
    for name, variant in VARIANTS.items():
        own = replace(experiment, config=replace(experiment.config, **variant.changes))
        models[name] = build(own, variant, None)
    plain = models["plain"].state_dict()
    for name, model in models.items():
        weights = model.state_dict()
        assert all(torch.equal(weights[key], value) for key, value in plain.items()), name
    assert isinstance(models["adapter"], AdapterModel)
    assert models["plain"].svms is None
    svms = {name: model.svms for name, model in models.items() if isinstance(model.svms, SheafStreams)}
    assert (svms["full"].diffusion.steps, svms["no_correction"].diffusion.steps) == (1, 0)
    assert (svms["full"].router.mode, svms["uniform_router"].router.mode) == ("learned", "uniform")
    assert (svms["full"].use_aux, svms["no_aux"].use_aux) == (True, False)
    assert models["no_sheaf_loss"].config.sheaf_schedule_mode == "off"


def test_the_adapter_trains_wherever_svms_trains(config):
    experiment = Experiment.prepare(config.dataset_path, seed=0)
    full, adapter = (build(experiment, VARIANTS[name], None) for name in ("full", "adapter"))
    for phase in PHASES.values():
        theirs, ours = ({n for n in trainable_names(m, phase) if not n.startswith("svms.")} for m in (adapter, full))
        assert ours == theirs
        assert {n for n, _ in adapter.named_parameters() if n.startswith("svms.")} <= set(
            trainable_names(adapter, phase)
        )


def test_remedies_change_what_they_say(config, tmp_path, monkeypatch):
    from svms_gr00t.recipes.ablation import run as ablation_run

    seen, config = {}, replace(config, svms_rate=2.0)

    def watch(model, phase, batches, run, **kwargs):
        seen[phase.name] = phase, batches(0)[0]
        return []

    monkeypatch.setattr(phases_in_turn, "train_phase", watch)
    for name in ("full", "image_labels", "full_together", "plain_together"):
        experiment = Experiment.prepare(config.dataset_path, seed=0)
        model = build(experiment, ALL[name], None)
        train = ablation_run._labelled(ablation_run._samples(config, 0)[0], ALL[name], model, 0)
        assert isinstance(train, ImagesAreVisual) == (name == "image_labels")
        ablation_run._train(model, ALL[name], train, tmp_path, config, 0)
        phase, inputs = seen["specialise"]
        image = inputs.input_ids == model.config.image_token_index
        assert image.any()
        assert bool((inputs.label_mask & image).any()) == (name == "image_labels")
        if name == "image_labels":
            assert (inputs.labels[image] == torch.tensor([1.0, 0.0, 0.0])).all()
        assert phase.dit_share == (1.0 if ALL[name].together else 0.0)
        assert phase.svms_rate == (5.0 if name == "full_together" else 2.0)
        assert phase.lambda_aux == PHASES["specialise"].lambda_aux, "the order of training changes, the weights do not"
        assert (phase.sheaf, phase.svms) == ("off", name != "plain_together")


def test_shuffled_labels_are_as_many_and_somewhere_else():
    labeler = Labeler()
    shuffled, text = ShuffledLabels(labeler, 3), "pick up the red apple then place it in the open drawer"
    true, dealt = labeler(text), shuffled(text)
    assert [span[:2] for span in dealt] == [span[:2] for span in true]
    assert sorted(map(tuple, (v for *_, v in dealt))) == sorted(map(tuple, (v for *_, v in true)))
    assert [list(v) for *_, v in dealt] != [list(v) for *_, v in true]
    assert shuffled(text) == dealt, "the same deal every time"
    assert ShuffledLabels(labeler, 4)(text) != dealt


@pytest.mark.slow
def test_every_variant_is_in_the_table_with_equal_data_and_budget(finished, config):
    output, _ = finished
    ablate(config, output, seeds=[0], workers=1)
    facts = {name: RunFacts.load(output / name / "seed_0" / "facts.json") for name in VARIANTS}
    assert len({(f.data, f.held_out, f.base, json.dumps(f.budget)) for f in facts.values()}) == 1
    assert facts["plain"].added == 0
    assert facts["adapter"].added == pytest.approx(facts["full"].added, rel=2e-3)
    errors = [OpenLoopResult.load(output / name / "seed_0" / "open_loop.json").scores.mse for name in VARIANTS]
    assert np.isfinite(errors).all()
    assert len(set(errors)) == len(errors), "every variant really trained differently"


def test_table_and_figure_say_what_was_found(finished):
    output, result = finished
    assert [row.variant for row in result.rows] == FEW
    assert result.row("full").against_plain.seeds == 2
    assert result.row("plain").against_plain is None
    assert result.row("full").rho is not None
    text = (output / "ablation.md").read_text(encoding="utf-8")
    assert f"{result.row('full').error:.4f}" in text
    assert "SVMS without correction" in text
    assert "SVMS without correction" in (output / "ablation.svg").read_text(encoding="utf-8")


def test_finished_runs_are_kept_and_other_settings_refused(finished, config):
    output, result = finished
    file = output / "full" / "seed_0" / "open_loop.json"
    before = file.stat().st_mtime_ns
    again = ablate(config, output, seeds=[0, 1], variants=FEW, workers=1)
    assert again == result
    assert file.stat().st_mtime_ns == before
    with pytest.raises(CheckpointError, match="other settings"):
        ablate(replace(config, batch_size=5), output, seeds=[0], workers=1)
    with pytest.raises(ConfigError, match="no_rooter"):
        ablate(config, output, seeds=[0], variants=["no_rooter"])


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(finished, config, tmp_path, monkeypatch):
    """Stopped after phase 2 and started again: the same numbers to the last bit."""
    output, _ = finished
    train, calls = phases_in_turn.train_phase, []

    def stops(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    monkeypatch.setattr(phases_in_turn, "train_phase", stops)
    with pytest.raises(KeyboardInterrupt):
        run_variant(config, "full", 0, tmp_path / "run")
    run_variant(config, "full", 0, tmp_path / "run")
    theirs = OpenLoopResult.load(output / "full" / "seed_0" / "open_loop.json")
    assert OpenLoopResult.load(tmp_path / "run" / "open_loop.json") == theirs


@pytest.mark.slow
def test_two_processes_find_what_one_finds(finished, config, tmp_path):
    _, result = finished
    other = ablate(config, tmp_path, seeds=[0, 1], variants=FEW, workers=2)
    assert other == result


@pytest.mark.slow
def test_a_local_ray_finds_what_processes_find(finished, config, tmp_path):
    pytest.importorskip("ray", reason="Ray is an extra")
    _, result = finished
    assert ablate(config, tmp_path, seeds=[0, 1], variants=FEW, backend="ray") == result


def test_recipes_cost_what_they_say():
    assert RECIPES["tiny"].steps == (60, 60, 120)
    assert isinstance(hash(RECIPES["tiny"]), int), "the cache of decoded data is keyed by it"
    assert issubclass(AdapterModel, Gr00tN1d6)
