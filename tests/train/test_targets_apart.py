"""Training with grounded targets: their gradient is clipped apart and takes nothing from the other losses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from train_cases import fresh, labelled, short

from svms_gr00t.core.errors import TrainingError
from svms_gr00t.core.svms_config import GROUNDED
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.shares import Share, shared_batches
from svms_gr00t.train.loop.step import CLIP, Stepper
from svms_gr00t.train.loop.trainer import LoopConfig, train_phase
from svms_gr00t.train.losses import total_loss
from svms_gr00t.train.phases import END_TO_END, PHASES, loss_weights
from svms_gr00t.train.processes.cluster import Cluster
from svms_gr00t.train.towers.recompute import recompute_blocks
from svms_gr00t.train.trainable import prepare

TARGETS = {"grounded_targets": tuple(GROUNDED)}
G = sum(GROUNDED.values())
Gradients = dict[str, torch.Tensor]


def aimed(number: int = 0, size: float = 1.0) -> ModelInputs:
    source = torch.Generator().manual_seed(number)
    return replace(labelled(number), targets=size * torch.randn(3, G, generator=source))


def model_of(**changes: object) -> Gr00tN1d6:
    """The same weights with and without targets."""
    torch.manual_seed(1)
    plain = fresh()
    model = fresh(**changes)
    model.load_state_dict(plain.state_dict(), strict=False)
    if model.target_heads is not None:
        model.target_heads.scale(torch.zeros(G), torch.ones(G))
    return model


def gradients(
    batch: ModelInputs, *, clip: bool = True, only: str = "", lambda_targets: float = 0.05, **changes: object
) -> tuple[Gradients, Stepper]:
    """What one step leaves in the parameters; `only` keeps the weights of "targets" or of the "rest"."""
    model = model_of(**changes, lambda_targets=lambda_targets)
    parameters = prepare(model, replace(END_TO_END, vision_projector=True))
    weights = loss_weights(END_TO_END, model.config, 9, 0.1, labels=True, targets=model.target_heads is not None)
    stepper = Stepper(model, Cluster(), seed=0)
    stepper.backward(0, (batch,), weights)
    if clip:
        stepper.clip(parameters, 0)
    return {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}, stepper


def norm(values: Gradients) -> float:
    return float(torch.stack([value.norm() for value in values.values()]).norm())


@pytest.mark.parametrize("weight", [0.05, 50.0], ids=["as used", "far too large"])
def test_the_other_losses_keep_their_clipped_gradient_to_the_bit(weight):
    batch = aimed()
    without, _ = gradients(batch)
    before, stepper = gradients(batch, clip=False, lambda_targets=weight, **TARGETS)
    assert all(torch.equal(before[name], value) for name, value in gradients(batch, clip=False)[0].items())
    apart = dict(stepper.apart)
    together, stepper = gradients(batch, lambda_targets=weight, **TARGETS)
    scale = min(1.0, CLIP / norm(apart))
    assert (scale < 1) == (weight > 1), "one case clips, the other does not"
    assert stepper.apart_norm == pytest.approx(norm(apart), rel=1e-5)
    for name in without.keys() | apart.keys():
        expected = without.get(name, 0) + scale * apart.get(name, torch.zeros(()))
        torch.testing.assert_close(together[name], expected, rtol=1e-5, atol=1e-7)
    assert norm(together) <= 2 * CLIP + 1e-5
    shared = {name for name in without.keys() & apart.keys() if apart[name].any()}
    assert any(name.startswith("backbone.model.mlp1.") for name in shared)
    assert any(name.startswith("svms.heads.") for name in shared)


def test_one_joint_clip_would_take_from_the_flow():
    """What the law above rules out: the same sum clipped once."""
    batch = aimed()
    before, stepper = gradients(batch, clip=False, lambda_targets=50.0, **TARGETS)
    zero = torch.zeros(())
    names = before.keys() | stepper.apart.keys()
    joint = {n: before.get(n, zero) + stepper.apart.get(n, zero) for n in names}
    assert norm(before) * CLIP / norm(joint) < 0.5 * min(CLIP, norm(before))


def test_what_is_kept_apart_is_the_gradient_of_the_targets():
    batch = aimed()
    _, stepper = gradients(batch, clip=False, **TARGETS)
    model = model_of(**TARGETS)
    parameters = prepare(model, replace(END_TO_END, vision_projector=True))
    draws = stepper.draw(0, (batch,))
    torch.manual_seed(0)
    terms = model(batch, noise=draws.noise, time=draws.time).terms
    total_loss({n: terms[n] for n in GROUNDED}, dict.fromkeys(GROUNDED, 0.05)).backward()
    found = {n: p.grad for n, p in parameters.items() if p.grad is not None}
    assert found.keys() == stepper.apart.keys()
    for name, value in found.items():
        torch.testing.assert_close(stepper.apart[name], value, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("svms", [True, False], ids=["svms", "plain"])
def test_micro_batches_give_the_gradient_of_the_whole(small_kitchen: Path, svms: bool):
    from svms_gr00t.recipes.ablation.run import build
    from svms_gr00t.recipes.ablation.variants import ALL

    changes = {"router_stream_dropout_p": 0.0} | TARGETS
    experiment = Experiment.prepare(small_kitchen, base=shipped("tiny_base"), svms=changes)
    batches = Batches(experiment.first_samples(train=True), 8, 0)

    def apart(micro: int) -> tuple[Gradients, dict[str, float]]:
        model = build(experiment, ALL["targets" if svms else "plain_targets"], shipped("tiny_base"))
        prepare(model, END_TO_END)
        weights = loss_weights(END_TO_END, model.config, 500, 0.0, labels=True, targets=True)
        stepper = Stepper(model, Cluster(), seed=0)
        outcome = stepper.backward(3, shared_batches(batches, Share(micro=micro), 8)(3), weights)
        return stepper.apart, {name: outcome.terms[name] for name in GROUNDED}

    (whole, terms), (parts, again) = apart(1), apart(4)
    assert whole.keys() == parts.keys()
    assert again == pytest.approx(terms, rel=1e-5)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-6)
    assert norm(whole) > 0


def test_blocks_that_are_computed_again_give_the_same_gradients():
    """Both backward passes go through blocks whose activations were thrown away."""

    def both(again: bool) -> tuple[Gradients, Gradients]:
        model = model_of(**TARGETS)
        parameters = prepare(model, replace(END_TO_END, vision_projector=True))
        if again:
            recompute_blocks(model)
        weights = loss_weights(END_TO_END, model.config, 9, 0.1, labels=True, targets=True)
        stepper = Stepper(model, Cluster(), seed=0)
        stepper.backward(0, (aimed(),), weights)
        return {n: p.grad for n, p in parameters.items() if p.grad is not None}, stepper.apart

    for mine, other in zip(both(again=True), both(again=False), strict=True):
        assert mine.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in mine.items())


@pytest.mark.whole
@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda p: p.name)
def test_heads_train_in_every_phase_and_a_resumed_run_is_the_uninterrupted_one(phase, tmp_path: Path):
    def run(folder: str, stop: int | None = None) -> Gr00tN1d6:
        torch.manual_seed(0)
        model = model_of(**TARGETS)

        def batches(number: int) -> ModelInputs:
            if number == stop:
                raise KeyboardInterrupt
            return aimed(number)

        config = LoopConfig(checkpoint_every=2, log_every=1)
        try:
            train_phase(model, short(phase), batches, RunDir(tmp_path / folder), config=config)
        except KeyboardInterrupt:
            return run(folder)
        return model

    whole, broken = run("whole").state_dict(), run("broken", stop=3).state_dict()
    assert all(torch.equal(value, broken[name]) for name, value in whole.items())
    begun = model_of(**TARGETS).state_dict()
    moved = {n for n, v in whole.items() if n.startswith("svms.targets.") and not torch.equal(v, begun[n])}
    assert moved == {n for n in begun if n.startswith("svms.targets.")} - {"svms.targets.mean", "svms.targets.std"}
    row = RunDir(tmp_path / "whole").rows()[0]
    assert {f"term.{name}" for name in GROUNDED} | {"grad_norm.targets"} <= row.keys()


def test_targets_are_learned(tmp_path: Path):
    model = model_of(**TARGETS)
    phase = replace(short(END_TO_END, 60), learning_rate=1e-2)
    train_phase(model, phase, lambda _: aimed(), RunDir(tmp_path), config=LoopConfig(log_every=1))
    rows = RunDir(tmp_path).rows()
    for name in GROUNDED:
        assert rows[-1][f"term.{name}"] < 0.5 * rows[0][f"term.{name}"]


@pytest.mark.parametrize(
    ("harm", "says"), [("no targets", "a batch without targets"), ("no scale", "without mean and deviation")]
)
def test_missing_targets_are_refused_before_a_step(harm, says, tmp_path: Path):
    model = model_of(**TARGETS)
    if harm == "no scale":
        model.target_heads.reset_parameters()
    batch = labelled() if harm == "no targets" else aimed()
    with pytest.raises(TrainingError, match=says):
        train_phase(model, short(END_TO_END), lambda _: batch, RunDir(tmp_path))


def test_processes_that_share_weights_are_refused(tmp_path: Path):
    here = Cluster()
    here.sharded = True
    with pytest.raises(TrainingError, match="grounded targets"):
        train_phase(model_of(**TARGETS), short(END_TO_END), lambda _: aimed(), RunDir(tmp_path), cluster=here)


def test_a_target_that_is_not_finite_stops_and_names_its_term(tmp_path: Path):
    bad = aimed()
    bad.targets[1, 7] = float("nan")
    model = model_of(**TARGETS)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(TrainingError, match="when is not finite"):
        train_phase(model, short(END_TO_END), lambda _: bad, RunDir(tmp_path))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_the_new_config_reads_back():
    config = Gr00tN1d6Config.from_dict(model_of(**TARGETS).config.to_dict())
    assert config.told_by == {"where": 0, "when": 1, "how": 2}
    assert isinstance(model_of(**TARGETS).target_heads, nn.Module)
