"""Grounded targets through the recipes: a training run with flags, and the controls of an ablation."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from train_cases import fresh, labelled, short

from svms_gr00t.cli.train import Train
from svms_gr00t.core.errors import ConfigError, DataError, TrainingError
from svms_gr00t.core.svms_config import GROUNDED
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.evaluate.comparison.run_facts import RunFacts
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.ablation.controls import AdapterModel, PlainModel
from svms_gr00t.recipes.ablation.run import AblationConfig, build, run_variant
from svms_gr00t.recipes.ablation.study import ablate
from svms_gr00t.recipes.ablation.variants import ALL
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.run import run_training
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.trainer import train_phase
from svms_gr00t.train.optimizers.optimizer import make_optimizer
from svms_gr00t.train.phases import END_TO_END, PHASES, SPECIALISE, plain_counterpart
from svms_gr00t.train.trainable import prepare, trainable_names

TARGETS = tuple(GROUNDED)
NAMES = (
    "plain_targets",
    "adapter_targets",
    "targets",
    "plain_projector",
    "plain_targets_projector",
    "targets_projector",
)


def flags(data: Path, **changes) -> Train:
    settings = {
        "dataset_path": (str(data),),
        "max_steps": (1,),
        "global_batch_size": (4,),
        "base_model_path": "shipped",
    }
    return Train(**(settings | changes))


@pytest.fixture(scope="module")
def trained(small_kitchen: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path]:
    config = flags(small_kitchen, grounded_targets=TARGETS, tune_vision_projector=True).settings()
    output = tmp_path_factory.mktemp("targets")
    run_training(config, output)
    return config, output


def test_a_run_with_flags_trains_heads_and_projector_and_saves_a_policy(trained):
    _, output = trained
    last = RunDir(output / "phase_3").rows()[-1]
    assert {f"held_out.{name}" for name in TARGETS} | {f"term.{name}" for name in TARGETS} <= last.keys()
    assert last["weight.how"] == 0.05
    model = Gr00tN1d6.from_pretrained(output / "policy")
    base = Gr00tN1d6.from_pretrained(shipped("tiny_base")).state_dict()
    assert model.svms.targets.is_scaled
    projector = {n: v for n, v in model.state_dict().items() if n.startswith("backbone.model.mlp1.")}
    assert projector
    assert all(not torch.equal(value, base[name]) for name, value in projector.items() if value.ndim > 1)
    tower = [name for name in base if name.startswith("backbone.model.vision_model.")]
    assert all(torch.equal(model.state_dict()[name], base[name]) for name in tower)


def test_the_file_repeats_the_run(trained):
    config, output = trained
    stored = TrainConfig.load(output / "config.yaml")
    assert stored == config.settled(shipped("tiny_base"))
    assert stored.svms["grounded_targets"] == TARGETS
    again = Train.defaults(["--config", str(output / "config.yaml")])
    assert again.settings() == stored


def test_cached_hidden_states_and_a_projector_that_trains_do_not_go_together(small_kitchen, tmp_path):
    for other in ({"feature_cache": "cache"}, {"memory_frames": 2}):  # memory keeps a cache by itself
        with pytest.raises(ConfigError, match=r"--tune-vision-projector.*--feature-cache off"):
            run_training(flags(small_kitchen, tune_vision_projector=True, **other).settings(), tmp_path)
    inputs = replace(labelled(), hidden=torch.zeros(3, 8, 16), images=())
    phase = replace(short(END_TO_END), vision_projector=True)
    with pytest.raises(TrainingError, match="vision projector"):
        train_phase(fresh(), phase, lambda _: inputs, RunDir(tmp_path / "loop"))


def test_the_projector_trains_in_phase_three_alone(small_kitchen):
    phases = flags(small_kitchen, tune_vision_projector=True).settings().settled(shipped("tiny_base")).phase_values()
    assert [phase.vision_projector for phase in phases] == [False, False, True]
    assert plain_counterpart(phases[-1]).vision_projector, "the plain model's too"
    usual = flags(small_kitchen).settings().settled(shipped("tiny_base")).phase_values()
    assert not any(phase.vision_projector for phase in usual)


def test_a_robot_without_a_named_hand_is_refused_in_one_sentence(small_kitchen):
    experiment = Experiment.prepare(small_kitchen, base=shipped("tiny_base"), svms={"grounded_targets": TARGETS})
    states = {k: v for k, v in experiment.dataset.modality.to_dict()["state"].items() if "effector_pos" not in k}
    bare = Modality.from_dict(experiment.dataset.modality.to_dict() | {"state": states})
    source = replace(experiment.sources[0], dataset=replace(experiment.dataset, modality=bare))
    blind = replace(experiment, sources=(source,))
    with pytest.raises(DataError, match=r"no end-effector position.*--hand-position"):
        blind.model(use_sheaf_streams=True, base=shipped("tiny_base"))
    named = replace(blind, hand_keys=(("base_position",), "gripper_qpos"))
    assert named.model(use_sheaf_streams=True, base=shipped("tiny_base")).target_heads.is_scaled


def acts(model: Gr00tN1d6, experiment: Experiment) -> torch.Tensor:
    inputs = experiment.first_samples(train=True).batch([0, 5])
    return model.eval().sample(inputs, noise=torch.ones_like(inputs.action)).action


@pytest.fixture(scope="module")
def experiment(small_kitchen) -> Experiment:
    return Experiment.prepare(small_kitchen, base=shipped("tiny_base"))


@pytest.mark.whole
def test_controls_start_as_the_plain_model_and_have_the_same_heads(experiment):
    plain = acts(build(experiment, ALL["plain"], shipped("tiny_base")), experiment)
    sizes = {}
    for name in ("plain_targets", "adapter_targets"):
        own = replace(experiment, config=replace(experiment.config, **ALL[name].changes))
        for base in (shipped("tiny_base"), None):
            model = build(own, ALL[name], base)
            assert isinstance(model, PlainModel)
            assert model.target_heads.is_scaled
            terms = model(own.first_samples(train=True).batch([0, 5])).terms
            assert terms.keys() == {"flow", *TARGETS}
            if base is not None:
                assert torch.equal(acts(model, own), plain), name
        sizes[name] = sum(p.numel() for p in model.targets.parameters())
    assert len(set(sizes.values())) == 1
    own = replace(experiment, config=replace(experiment.config, **ALL["adapter_targets"].changes))
    with_, without = (build(e, ALL["adapter"], shipped("tiny_base")) for e in (own, experiment))
    assert isinstance(with_, AdapterModel)
    weights = with_.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in without.state_dict().items()), "and the same seed"


def test_heads_of_controls_train_in_every_phase_of_theirs(experiment):
    own = replace(experiment, config=replace(experiment.config, **ALL["plain_targets"].changes))
    control, plain = (build(e, ALL["plain_targets"], shipped("tiny_base")) for e in (own, experiment))
    for phase in map(plain_counterpart, PHASES.values()):
        more = set(trainable_names(control, phase)) - set(trainable_names(plain, phase))
        assert more == {f"targets.{name}" for name, _ in control.targets.named_parameters()}
    optimizer = make_optimizer(prepare(control, plain_counterpart(SPECIALISE)), learning_rate=1e-3, svms_rate=5.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    heads = {id(p) for p in control.targets.parameters()}
    assert {rates.pop(one) for one in heads} == {5e-3}, "they are as fresh as SVMS is"
    assert set(rates.values()) == {1e-3}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_ablation_runs_them(name, experiment, small_kitchen, tmp_path):
    config = AblationConfig(dataset_path=str(small_kitchen), steps=(1, 1, 1), batch_size=4, stride=60)
    folder = run_variant(config, name, 0, tmp_path)
    facts = RunFacts.load(folder / "facts.json")
    like = build(experiment, ALL[{"plain": "plain", "adapter": "adapter"}.get(name.split("_")[0], "full")], None)
    assert (facts.name, facts.added) == (name, sum(p.numel() for p in like.svms.parameters()) if like.svms else 0)
    row = RunDir(folder / "phase_3").rows()[-1]
    assert ("term.where" in row) == ("targets" in name)


@pytest.mark.slow
def test_the_table_compares_a_control_with_plain_and_plain_with_nothing(small_kitchen, tmp_path):
    config = AblationConfig(dataset_path=str(small_kitchen), steps=(1, 1, 1), batch_size=4, stride=60)
    found = ablate(config, tmp_path, seeds=[0], variants=["plain", "plain_targets", "targets"], workers=1)
    compared = {row.variant: row.against_plain for row in found.rows}
    assert compared["plain"] is None
    assert compared["plain_targets"] is not None
    assert compared["plain_targets"] != compared["targets"]
