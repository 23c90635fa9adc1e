"""Every SVMS setting is documented, refused when it is nonsense, and does something."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from groot_tiny import tiny_config

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.svms_config import SvmsConfig
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.svms import SheafStreams
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.trainer import LoopConfig, train_phase
from svms_gr00t.train.phases import COUPLE, loss_weights

NAMES = {field.name for field in fields(SvmsConfig)}
PAGES = Path(__file__).parents[2] / "docs"
DOCS = "".join((PAGES / page).read_text(encoding="utf-8") for page in ("sheaf.md", "memory.md", "labels.md"))
BUILDS = {
    "stream_names": ("see", "when", "how"),
    "stream_edges": "cycle",
    "d_stream": 24,
    "d_overlap": 6,
    "adapter_rank": 3,
    "sheaf_unroll_steps": 2,
    "sheaf_scheme": "implicit",
    "use_aux_losses": False,
    "router_mode": "uniform",
    "router_temp_init": 1.5,
    "router_stream_dropout_p": 0.3,
}
"""Another value of each setting that shapes the module."""
TRAINS = {
    "use_sheaf_streams": False,
    "lambda_sheaf_max": 0.2,
    "lambda_sheaf_min": 0.005,
    "sheaf_schedule_mode": "constant",
    "sheaf_delay_until_diffusion": 1e-6,
    "sheaf_ramp_steps": 3,
    "use_aux_losses": False,
    "lambda_aux": 0.8,
    "aux_warmup_steps": 2,
    "router_temp_init": 1.0,
    "router_temp_final": 0.1,
    "router_temp_decay_steps": 2,
    "router_balance_weight": 0.5,
}
"""Another value of each setting that only training reads."""
REMEMBERS = {
    "memory_offsets": (-8, -4),
    "memory_streams": ("state", "temporal"),
    "memory_only": True,
    "memory_moments": 3,
    "memory_layers": 1,
    "memory_dropout_p": 0.3,
    "lambda_recall": 0.5,
}
"""Another value of each setting of memory, beside an offset of -4."""
AIMS = {
    "grounded_targets": ("where",),
    "target_streams": ("state", "state", "visual"),
    "lambda_targets": 0.1,
}
"""Another value of each setting of grounded targets, beside where and when."""
BASE = {"sheaf_delay_until_diffusion": 1e6, "sheaf_ramp_steps": 8, "aux_warmup_steps": 9, "router_temp_decay_steps": 9}
"""Schedules short enough to move within four steps."""


def test_every_setting_is_in_one_of_the_tables():
    tried = {*BUILDS, *TRAINS, *REMEMBERS, *AIMS}
    assert NAMES - tried == {"n_streams"}, "it repeats len(stream_names)"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_setting_is_documented_with_its_default(name):
    default = {field.name: field.default for field in fields(SvmsConfig)}[name]
    (row,) = [line for line in DOCS.splitlines() if line.startswith(f"| `{name}` |")]
    assert str(default) in row or ", ".join(map(str, default)) in row


def shape(config: SvmsConfig) -> str:
    """Everything that the configuration builds, as text."""
    svms = SheafStreams.from_config(config, 20)
    return f"{svms!r} {svms.use_aux} {svms.graph.streams} {svms.router.temperature.item()} {svms.diffusion.scheme}"


@pytest.mark.parametrize("name", sorted(BUILDS))
def test_settings_of_the_module_change_the_module(name):
    small = SvmsConfig(d_stream=16, d_overlap=8, adapter_rank=4)
    assert shape(replace(small, **{name: BUILDS[name]})) != shape(small)
    assert shape(replace(small)) == shape(small)


@pytest.mark.parametrize("name", sorted(REMEMBERS))
def test_settings_of_memory_change_the_module_or_its_loss(name):
    def facts(**changes: object) -> tuple[str, dict[str, float]]:
        config = tiny_config(**{"use_sheaf_streams": True, "memory_offsets": (-4,)} | changes)
        return repr(Gr00tN1d6(config).svms), loss_weights(COUPLE, config, 0, 0.1, labels=False)

    assert facts(**{name: REMEMBERS[name]}) != facts()
    assert facts() == facts()


@pytest.mark.parametrize("name", sorted(AIMS))
def test_settings_of_targets_change_the_module_or_its_loss(name):
    def facts(**changes: object) -> tuple[str, dict[str, float]]:
        config = tiny_config(**{"use_sheaf_streams": True, "grounded_targets": ("where", "when")} | changes)
        return repr(Gr00tN1d6(config).svms), loss_weights(COUPLE, config, 0, 0.1, labels=False, targets=True)

    assert facts(**{name: AIMS[name]}) != facts()
    assert facts() == facts()


@pytest.fixture(scope="module")
def batches(small_kitchen) -> tuple[Experiment, Batches]:
    experiment = Experiment.prepare(small_kitchen, seed=0, svms=BASE)
    steps = SampleDataset(experiment.dataset, experiment.processor, episodes=[0], labeler=Labeler(), stride=30)
    return experiment, Batches(steps, 1, 0)


def watched(batches: tuple[Experiment, Batches], folder: Path, **changes: object) -> list[dict[str, float]]:
    """Loss weights and temperature at each of four steps."""
    experiment, stream = batches
    config = Gr00tN1d6Config.from_dict(experiment.config.to_dict() | changes)
    torch.manual_seed(0)
    phase = replace(COUPLE, lambda_aux=None, steps=4, batch_size=1)
    rows = train_phase(Gr00tN1d6(config), phase, stream, RunDir(folder), config=LoopConfig(log_every=1))
    return [{k: v for k, v in row.items() if k.startswith("weight.") or k == "temperature"} for row in rows]


@pytest.fixture(scope="module")
def usual(batches, tmp_path_factory) -> list[dict[str, float]]:
    return watched(batches, tmp_path_factory.mktemp("usual"))


@pytest.mark.parametrize("name", sorted(TRAINS))
def test_settings_of_training_change_the_training(name, batches, usual, tmp_path):
    assert watched(batches, tmp_path, **{name: TRAINS[name]}) != usual


def test_a_repetition_changes_nothing(batches, usual, tmp_path):
    """Else the tests above would pass for any setting."""
    assert watched(batches, tmp_path) == usual
    assert len(usual) == 4


def test_a_frozen_router_stays_as_it_was_through_training(batches, tmp_path):
    experiment, stream = batches
    model = Gr00tN1d6(replace(experiment.config, router_mode="frozen"))
    before = {name: value.clone() for name, value in model.svms.router.named_parameters()}
    train_phase(model, replace(COUPLE, steps=3, batch_size=1), stream, RunDir(tmp_path))
    assert all(torch.equal(value, before[name]) for name, value in model.svms.router.named_parameters())


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_streams": 2},
        {"router_temp_final": 3.0},
        {"d_stream": 0},
        {"lambda_sheaf_min": 0.5},
        {"memory_offsets": (-4, -8)},
        {"memory_offsets": (-9, -4)},
        {"memory_offsets": (0,)},
        {"memory_streams": ("tactile",), "memory_offsets": (-4,)},
        {"grounded_targets": ("why",)},
        {"grounded_targets": ("where", "where")},
        {"memory_only": True, "memory_offsets": (-4,), "grounded_targets": ("where",)},
        {"target_streams": ("visual", "tactile", "state"), "grounded_targets": ("where",)},
        {"target_streams": ("visual",), "grounded_targets": ("where",)},
        {"lambda_targets": -1.0, "grounded_targets": ("where",)},
    ],
)
def test_nonsense_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SvmsConfig(**wrong)
    with pytest.raises(ConfigError, match="lambda_shief"):
        Gr00tN1d6Config.from_dict({"lambda_shief": 1.0})


def test_a_configuration_comes_from_plain_json_and_unknown_keys_are_named():
    names = ("visual", "state")
    made = SvmsConfig.from_dict({"d_stream": 16, "n_streams": 2, "stream_names": [*names], "stream_edges": [[*names]]})
    assert made == SvmsConfig(d_stream=16, n_streams=2, stream_names=names, stream_edges=(names,))
    with pytest.raises(ConfigError, match=r"lambda_sheef_max = 1.0.*did you mean lambda_sheaf_max"):
        SvmsConfig.from_dict({"lambda_sheef_max": 1.0})
    with pytest.raises(DataError, match="svms: found 'wide' at d_stream"):
        SvmsConfig.from_dict({"d_stream": "wide"})
    with pytest.raises(ConfigError, match="svms: d_stream = 0"):
        SvmsConfig.from_dict({"d_stream": 0})
