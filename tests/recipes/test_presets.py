"""The preset follows the base: size, rates, steps, precision and the memory check; what contradicts it is refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from svms_gr00t.cli.main import main, parse
from svms_gr00t.cli.train import Train
from svms_gr00t.core.errors import ConfigError, DataError, TrainingError
from svms_gr00t.groot.checkpoint.loading import read_config
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.recipes.shipped import shipped, starting_point
from svms_gr00t.recipes.training import budget, run
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.presets import preset_for, size_of
from svms_gr00t.recipes.training.run import run_training
from svms_gr00t.train.processes.cluster import Cluster

TINY_BASE = shipped("tiny_base")


def base_of(folder: Path, config: Gr00tN1d6Config) -> Path:
    """The tiny base's processor beside a configuration of another size: what is decided before weights are read."""
    shutil.copytree(TINY_BASE, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "config.json").write_text(config.dumps(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_of(tmp_path_factory.mktemp("bases") / "n1d6", Gr00tN1d6Config())


def test_a_size_is_known_by_its_widths_and_depth(released: Path, tmp_path: Path) -> None:
    tiny = read_config(TINY_BASE)
    assert (size_of(tiny), size_of(read_config(released))) == ("tiny", "n1d6")
    assert size_of(replace(tiny, d_stream=96, use_sheaf_streams=True)) == "tiny", "SVMS may have any width"
    own = base_of(tmp_path / "own", replace(tiny, select_layer=2))
    assert size_of(read_config(own)) is None
    assert preset_for("tiny", own).name == "tiny"
    with pytest.raises(ConfigError, match="a size of its own"):
        preset_for(None, own)


def test_a_released_base_brings_its_rates_steps_precision_and_widths(released: Path, small_kitchen: Path) -> None:
    config = TrainConfig(dataset_path=str(small_kitchen), base_model_path=str(released)).settled(released)
    assert (config.preset, config.budget()) == ("n1d6", budget.RELEASED)
    assert config.svms_fields() == {}, "no schedules for a short run"
    experiment = Experiment.prepare(config.parts(), base=released)
    assert (experiment.precision, experiment.dtype) == ("bf16", torch.bfloat16)
    assert (experiment.config.d_stream, experiment.config.d_overlap, experiment.config.adapter_rank) == (768, 384, 128)
    tiny = Experiment.prepare(config.parts(), base=TINY_BASE)
    assert (tiny.precision, tiny.config.d_stream) == ("fp32", 64)
    fresh = TrainConfig(dataset_path="d")
    assert (fresh.preset, fresh.budget()) == ("tiny", budget.TINY)


def test_a_file_that_lost_the_preset_of_its_base_is_refused() -> None:
    with pytest.raises(ConfigError, match="preset = None, but need a preset by name"):
        TrainConfig(dataset_path="d", base_model_path="somewhere").phase_values()


def test_a_released_base_does_not_escape_the_memory_check(
    released: Path, small_kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Cluster()
    here.device = torch.device("cuda")
    card = SimpleNamespace(total_memory=16e9)
    monkeypatch.setattr(run, "cluster", lambda *_: here)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: card)
    config = TrainConfig(dataset_path=str(small_kitchen), base_model_path=str(released))
    with pytest.raises(TrainingError, match=r"memory of phase end to end: about .* GiB"):
        run_training(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("chosen", "base", "own"), [("tiny", "released", "n1d6"), ("n1d6", "shipped", "tiny")], ids=["small", "large"]
)
def test_a_preset_that_contradicts_the_base_is_refused_everywhere(
    chosen: str, base: str, own: str, released: Path, small_kitchen: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = ["--preset", chosen, "--base-model-path", str(released) if base == "released" else base]
    data, output = ["--dataset-path", str(small_kitchen)], str(tmp_path / "out")
    commands = [
        ["train", *data, *given, "--output-dir", output],
        ["data", "cache", "estimate", *data, *given],
        ["data", "cache", "build", *data, *given, "--output", output],
        ["plan", *given],
    ]
    for command in commands:
        with pytest.raises(SystemExit) as done:
            main(command)
        assert done.value.code == 2
        assert f"--preset = '{chosen}', but need {own}, the size of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_plan_is_that_of_the_base(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*flags: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as done:
            main(["plan", "--format", "json", *flags])
        return done.value.code, capsys.readouterr().out

    assert said("--base-model-path", str(released)) == said()
    wide = base_of(released.parent / "wide", Gr00tN1d6Config(use_sheaf_streams=True, d_stream=1536))
    assert said("--base-model-path", str(wide)) != said()
    with pytest.raises(SystemExit):
        main(["plan", "--base-model-path", "shipped"])
    assert "A smaller model needs no plan" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["plan", "--global-batch-size", "4", "8"])
    assert "no value, one, or three" in capsys.readouterr().err


def test_views_are_honoured_or_refused_with_a_base_that_knows_the_robot(small_kitchen: Path) -> None:
    whole = Experiment.prepare(small_kitchen, base=TINY_BASE)
    views = whole.processor.config.embodiment.video.modality_keys
    assert len(views) > 1
    chosen = (views[-1], views[0])
    for base in (TINY_BASE, None):
        experiment = Experiment.prepare(small_kitchen, base=base, views=chosen)
        assert experiment.processor.config.embodiment.video.modality_keys == chosen
        assert len(experiment.first_samples(train=False).batch([0, 1]).images) == 2 * len(chosen)
    pictures = whole.first_samples(train=False)[0].images
    seen = Experiment.prepare(small_kitchen, base=TINY_BASE, views=chosen).first_samples(train=False)[0].images
    assert torch.equal(seen[0], pictures[-1])
    assert torch.equal(seen[1], pictures[0])
    for base in (TINY_BASE, None):
        with pytest.raises(DataError, match="no_such_camera"):
            Experiment.prepare(small_kitchen, base=base, views=("no_such_camera",))


def test_shipped_and_none_are_words_for_a_base(
    small_kitchen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig(
        dataset_path=str(small_kitchen), base_model_path="shipped", max_steps=(1,), global_batch_size=(4,), phases=(1,)
    )
    run_training(config, tmp_path / "run")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run" / "policy", TINY_BASE))
    frozen = [name for name in theirs if name.startswith("backbone.")]
    assert frozen
    assert all(torch.equal(ours[name].to(theirs[name].dtype), theirs[name]) for name in frozen)
    command = parse(["train", "--dataset-path", "shipped", "--base-model-path", "none"])
    assert isinstance(command, Train)
    settings = command.settings()
    assert (settings.base_model_path, settings.preset) == (None, "tiny")
    assert [part.path for part in settings.parts()] == [shipped("kitchen")]
    assert starting_point("none") is None
    with pytest.raises(SystemExit) as done:
        main(["data", "cache", "estimate", "--dataset-path", str(small_kitchen), "--base-model-path", "shipped"])
    assert done.value.code == 0
    assert "in all" in capsys.readouterr().out
