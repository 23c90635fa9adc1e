"""The model with grounded targets: acting is untouched, off is off, and pictures can hear them where words cannot."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from groot_tiny import ragged_batch, tiny_config

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.svms_config import GROUNDED
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.losses import total_loss
from svms_gr00t.train.phases import END_TO_END, PHASES, loss_weights
from svms_gr00t.train.trainable import prepare

SVMS = {"use_sheaf_streams": True, "d_stream": 16, "d_overlap": 8, "adapter_rank": 4}
TARGETS = SVMS | {"grounded_targets": ("where", "when", "how")}
G = sum(GROUNDED.values())


def build(config: dict[str, object], dtype: torch.dtype = torch.float32) -> Gr00tN1d6:
    """The plain weights of seed 0, with whatever the configuration adds."""
    torch.manual_seed(0)
    plain = Gr00tN1d6(tiny_config())
    model = Gr00tN1d6(tiny_config(**config))
    model.load_state_dict(plain.state_dict(), strict=False)
    model = model.to(dtype)
    if model.target_heads is not None:
        model.target_heads.scale(torch.zeros(G), torch.ones(G))
    return model.eval()


def aimed(dtype: torch.dtype = torch.float32) -> ModelInputs:
    return replace(ragged_batch(dtype), targets=torch.randn(3, G, generator=torch.Generator().manual_seed(5)))


def act(model: Gr00tN1d6, inputs: ModelInputs) -> torch.Tensor:
    return model.sample(inputs, noise=torch.ones(3, 4, 5, dtype=inputs.state.dtype)).action


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_targets_change_no_bit_of_what_acts(dtype):
    expected = act(build({}, dtype), aimed(dtype))
    model = build(TARGETS, dtype)
    assert torch.equal(act(model, aimed(dtype)), expected)
    torch.nn.init.normal_(model.svms.merge.weight)  # trained streams: the heads are still read by nobody
    trained = act(model, aimed(dtype))
    assert not torch.equal(trained, expected)
    for parameter in model.svms.targets.parameters():
        torch.nn.init.normal_(parameter)
    assert torch.equal(act(model, aimed(dtype)), trained)


def test_off_leaves_no_trace():
    model = build(SVMS)
    assert not [name for name in model.state_dict() if "target" in name]
    assert not [name for name in model.config.to_dict() if "target" in name]
    assert not set(GROUNDED) & model(aimed()).terms.keys()
    assert build(TARGETS | {"use_sheaf_streams": False}).target_heads is None, "one flag gives the plain model back"
    assert {"grounded_targets", "target_streams"} < build(TARGETS).config.to_dict().keys()
    assert Gr00tN1d6Config.from_dict(build(TARGETS).config.to_dict()) == build(TARGETS).config
    other = build(TARGETS).state_dict()
    same = [torch.equal(value, other[name]) for name, value in model.state_dict().items()]
    assert all(same), "switching targets on moves no other weight of a seed"


@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda p: p.name)
def test_terms_and_weights_meet_in_every_phase(phase):
    model = build(TARGETS)
    terms = model(aimed()).terms
    weights = loss_weights(phase, model.config, 0, 0.1, labels=False, targets=True)
    assert {name: weights[name] for name in GROUNDED} == dict.fromkeys(GROUNDED, 0.05)
    assert total_loss(terms, weights).isfinite()
    with pytest.raises(KeyError):
        total_loss(terms, loss_weights(phase, model.config, 0, 0.1, labels=False))
    some = build(SVMS | {"grounded_targets": ("how",)})
    assert set(GROUNDED) & some(aimed()).terms.keys() == {"how"}


def test_a_checkpoint_keeps_the_scale_and_one_without_targets_gets_fresh_heads(tmp_path: Path):
    model = build(TARGETS)
    model.svms.targets.scale(torch.arange(float(G)), torch.arange(float(G)) + 1)
    model.save_pretrained(tmp_path / "with")
    again = Gr00tN1d6.from_pretrained(tmp_path / "with", dtype=torch.bfloat16)
    assert torch.equal(again.svms.targets.mean, torch.arange(float(G)))
    build(SVMS).save_pretrained(tmp_path / "without")
    grown = Gr00tN1d6.from_pretrained(tmp_path / "without", config=tiny_config(**TARGETS))
    assert not grown.svms.targets.is_scaled
    assert 0.5 < grown.svms.targets.queries.std() < 1.5, "fresh, not whatever lay in memory"
    assert all(0.05 < p.std() < 0.5 for name, p in grown.svms.targets.says.named_parameters() if "weight" in name)
    with pytest.raises(CheckpointError, match="targets"):
        Gr00tN1d6.from_pretrained(tmp_path / "with", config=tiny_config(**SVMS))


def test_a_seed_means_the_same_fresh_weights_with_and_without_what_is_switched_on(tmp_path: Path):
    build({}).save_pretrained(tmp_path)

    def weights(config: dict[str, object]) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        return Gr00tN1d6.from_pretrained(tmp_path, config=tiny_config(**config)).state_dict()

    few = weights(SVMS)
    for more in (TARGETS, SVMS | {"memory_offsets": (-4,)}, TARGETS | {"memory_offsets": (-4,)}):
        many = weights(more)
        assert len(many) > len(few)
        assert all(torch.equal(many[name], value) for name, value in few.items())


@pytest.mark.parametrize("reaching", [False, True], ids=["off", "on"])
def test_targets_reach_the_vision_projector_where_it_trains(reaching):
    model = build(TARGETS)
    parameters = prepare(model, replace(END_TO_END, vision_projector=reaching))
    mine = {name for name in parameters if name.startswith("backbone.model.mlp1.")}
    assert bool(mine) == reaching
    terms = model(aimed()).terms
    sum(terms[name] for name in GROUNDED).backward()
    assert all(parameters[name].grad.abs().max() > 0 for name in mine)
    heard = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert heard <= parameters.keys(), "nothing frozen hears them"
    assert {name.split(".")[1] for name in heard if name.startswith("svms.")} == {"heads", "targets"}


def test_keyword_labels_cannot_shape_vision_and_targets_can(small_kitchen: Path):
    """Words stand before the pictures in the prompt and the language model is causal."""
    experiment = Experiment.prepare(small_kitchen, base=shipped("tiny_base"))
    model = experiment.model(use_sheaf_streams=True, base=shipped("tiny_base")).eval()
    steps = experiment.first_samples(train=True)
    seen = collate([steps[0], steps[len(steps) // 2]])
    dark = replace(seen, images=replace(seen.images, pixels=torch.zeros_like(seen.images.pixels)))
    with torch.no_grad():
        light, black = model.observe(seen), model.observe(dark)
    labelled = seen.label_mask
    assert labelled.any()
    assert torch.equal(light.tokens[labelled], black.tokens[labelled]), "every camera black, and no word has changed"
    moved = (light.tokens - black.tokens)[light.image_mask].norm() / light.tokens[light.image_mask].norm()
    assert moved > 0.1, "the tokens that targets read have"
