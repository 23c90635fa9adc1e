"""`svms-gr00t train`: settings round-trip, phases go on from one another, bad input loses nothing."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from train_cases import same, weights

from svms_gr00t.cli.main import main, parse
from svms_gr00t.cli.train import Train
from svms_gr00t.core.errors import CheckpointError, DataError, SvmsError, TrainingError
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.groot.backbone import EagleBackbone
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.gates import run_gates
from svms_gr00t.recipes.training.presets import PRESETS, preset
from svms_gr00t.recipes.training.run import run_training
from svms_gr00t.train.cache_features import build_cache
from svms_gr00t.train.towers.placement import place

BASE = str(shipped("tiny_base"))


def short(dataset: Path, **changes: object) -> TrainConfig:
    values = {"base_model_path": BASE, "max_steps": (2,), "global_batch_size": (4,), "eval_steps": 0} | changes
    return TrainConfig(dataset_path=str(dataset), **values)


@pytest.fixture(scope="module")
def whole(small_kitchen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all three phases."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    run_training(short(small_kitchen), folder)
    return folder


@pytest.mark.whole
def test_one_phase_after_another_is_the_three_in_turn(small_kitchen: Path, whole: Path, tmp_path: Path) -> None:
    for phase in (1, 2, 3):
        ahead = (0, 1, None)[phase - 1]  # processes make the same batches, however many a run goes on with
        run_training(short(small_kitchen, phases=(phase,), dataloader_num_workers=ahead), tmp_path / "run")
        if phase == 1:
            shutil.copytree(tmp_path / "run" / "policy", tmp_path / "first" / "policy")
    assert same(weights(tmp_path / "run"), weights(whole))
    assert not same(weights(tmp_path / "run"), weights(tmp_path / "first"))


def test_a_phase_without_the_one_before_it_is_refused_before_anything_is_written(
    small_kitchen: Path, whole: Path, tmp_path: Path
) -> None:
    def refused(folder: Path, says: str, **changes: object) -> None:
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        with pytest.raises(TrainingError, match=says):
            run_training(short(small_kitchen, **changes), folder)
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before

    refused(tmp_path / "two", "--phase 2: no phase 1 in .*Train phase 1 there first", phases=(2,))
    refused(tmp_path / "three", "--phase 3: no phase 2", phases=(3,))
    refused(tmp_path / "last", "--phase 2: no phase 1", phases=(2, 3))
    fresh: dict[str, object] = {"base_model_path": None, "use_sheaf_streams": False}
    refused(tmp_path / "plain", "--phase 3: no phase 2", phases=(3,), **fresh)

    shutil.copytree(whole / "phase_1", tmp_path / "one" / "phase_1")
    refused(tmp_path / "one", "--phase 3: no phase 2", phases=(3,))
    (last,) = (tmp_path / "one" / "phase_1" / "checkpoints").iterdir()
    last.rename(last.with_name("step_000001"))
    for base in (BASE, str(whole / "policy")):  # half a phase is no phase, whatever the base brings
        refused(tmp_path / "one", "phase 1 begun and not finished", phases=(2,), base_model_path=base)

    shutil.copytree(whole, tmp_path / "back")  # its policy is that of phase 3, and stays so
    refused(tmp_path / "back", "--phase 1: phase 2 begun after it in .*another --output-dir", phases=(1,))
    refused(tmp_path / "back", "--phase 2: phase 3 begun after it", phases=(1, 2))

    # A base that carries a trained SVMS is as good as the phases that trained it; so is any base for the plain model.
    run_training(short(small_kitchen, phases=(3,), base_model_path=str(whole / "policy")), tmp_path / "carried")
    run_training(short(small_kitchen, phases=(3,), use_sheaf_streams=False), tmp_path / "plain_base")


@pytest.mark.whole
def test_fresh_random_weights_are_announced_in_one_line(
    small_kitchen: Path, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def said(name: str, **changes: object) -> list[str]:
        caplog.clear()
        run_training(short(small_kitchen, **({"phases": (1,)} | changes)), tmp_path / name)
        return [r.message for r in caplog.records if "RANDOM" in r.message]

    (everything,) = said("none", base_model_path=None)
    assert re.fullmatch(r"FRESH RANDOM WEIGHTS: all \d,\d{3},\d{3} parameters start .*--base-model-path.*", everything)
    (streams,) = said("plain_base")
    assert re.search(r": \d{3},\d{3} parameters of SVMS; .*tiny_base carries no trained SVMS", streams)
    assert said("plain_base", phases=(2,)) == [], "phase 1 trained them"
    assert said("svms_base", base_model_path=str(whole / "policy")) == []
    assert said("plain", use_sheaf_streams=False) == []


def test_the_configuration_file_repeats_the_run(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as done:
        main(["train", "--config", str(whole / "config.yaml"), "--output-dir", str(tmp_path / "again")])
    assert done.value.code == 0
    assert same(weights(tmp_path / "again"), weights(whole))
    passport = json.loads((tmp_path / "again" / "passport.json").read_text())
    assert passport["data"] == json.loads((whole / "passport.json").read_text())["data"]
    # The package says 2.13.0 where the module says 2.13.0+cu130.
    assert passport["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_flags_override_the_file_and_every_setting_round_trips(tmp_path: Path) -> None:
    config = TrainConfig(
        dataset_path="data",
        phases=(2, 3),
        max_steps=(1, 2, 3),
        learning_rate=(1e-4,),
        svms_rate=5.0,
        lambda_aux=0.8,
        svms={"lambda_sheaf_max": 0.3, "d_stream": 32},
        optimizer="adamw-sr",
        views=("a", "b"),
        min_max_embedding_keys=("action.gripper", "state.arm"),
        ema=0.9,
    )
    (tmp_path / "c.yaml").write_text(config.dumps())
    assert TrainConfig.load(tmp_path / "c.yaml") == config
    command = parse(["train", "--config", str(tmp_path / "c.yaml"), "--seed", "7", "--lambda-sheaf-max", "0.5"])
    assert isinstance(command, Train)
    found = command.settings()
    assert found.differences(config) == ["svms", "seed"]
    assert (found.seed, found.svms) == (7, {"lambda_sheaf_max": 0.5, "d_stream": 32})


def test_nvidias_spellings_and_the_seeds_are_understood() -> None:
    flags = (
        "--base-model-path B --dataset-path D --embodiment-tag gr1 --max-steps 7 --global-batch-size 64 --preset tiny"
    )
    more = "--gradient-accumulation-steps 4 --learning-rate 1e-4 --lambda-aux 0.8 --lambda-sheaf-max 0.2 --phase 1"
    command = parse(["train", *flags.split(), *more.split(), "--svms-rate", "3"])
    assert isinstance(command, Train)
    config = command.settings()
    first = config.phase_values()[0]
    assert (first.steps, first.batch_size, first.learning_rate, first.svms_rate) == (7, 64, 1e-4, 3.0)
    fields = config.svms_fields()
    assert (fields["lambda_aux"], fields["lambda_sheaf_max"], first.lambda_aux) == (0.8, 0.2, None)
    assert (config.embodiment_tag, config.gradient_accumulation_steps, config.phases) == ("gr1", 4, (1,))


@pytest.mark.whole
def test_frozen_bf16_and_float32_masters_go_through_all_phases_and_gates(
    small_kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the released size: weights in bf16, each phase turns what it trains into float32, evaluation sees both."""
    tiny = preset("tiny")
    monkeypatch.setitem(PRESETS, "tiny", replace(tiny, precision="bf16"))
    trained = run_training(short(small_kitchen), tmp_path / "run")
    kinds = {name: p.dtype for name, p in trained.model.named_parameters()}
    last = trained.model.config.select_layer - 1
    assert kinds[f"backbone.model.language_model.model.layers.{last}.mlp.up_proj.weight"] == torch.float32
    assert kinds["backbone.model.language_model.model.layers.0.mlp.up_proj.weight"] == torch.bfloat16
    assert {gate.phase for gate in trained.gates} == {"specialise", "couple"}
    held_out = [row["held_out.flow"] for rows in trained.rows.values() for row in rows if "held_out.flow" in row]
    assert len(held_out) == 3
    assert all(0 < value < 10 for value in held_out)


@pytest.mark.whole
def test_a_feature_cache_trains_and_judges_without_a_picture(
    small_kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = Experiment.prepare(small_kitchen, base=Path(BASE))
    episodes = [episode.index for episode in experiment.dataset.episodes]
    steps = SampleDataset(experiment.dataset, experiment.processor, episodes=episodes)
    model = experiment.model(use_sheaf_streams=False, base=Path(BASE))
    build_cache(model, steps, tmp_path / "cache", dtype="float32", batch_size=64)

    def blind(*_args: object) -> None:
        raise AssertionError("a picture was read")

    monkeypatch.setattr(EagleBackbone, "image_tokens", blind)
    trained = run_training(short(small_kitchen, feature_cache=str(tmp_path / "cache")), tmp_path / "run")
    assert {gate.phase for gate in trained.gates} == {"specialise", "couple"}
    with pytest.raises(DataError, match="cache"):
        run_training(short(small_kitchen, feature_cache=str(tmp_path / "none")), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_a_cache_replaces_stays_off_the_device(small_kitchen: Path) -> None:
    model = Experiment.prepare(small_kitchen, base=Path(BASE)).model(use_sheaf_streams=True, base=Path(BASE))
    place(model, torch.device("meta"), below=2)  # stands for a GPU
    left = {name for name, p in model.named_parameters() if not p.is_meta}
    assert left
    assert all(name.startswith("backbone.") and ".layers.2." not in name for name in left)
    assert "backbone.model.language_model.model.embed_tokens.weight" in left
    assert "backbone.model.language_model.model.norm.weight" not in left
    assert all(buffer.is_meta for name, buffer in model.named_buffers() if name.startswith("svms."))


def test_another_run_in_the_folder_is_refused_and_left_as_it_was(small_kitchen: Path, whole: Path) -> None:
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    with pytest.raises(CheckpointError, match="other seed"):
        run_training(short(small_kitchen, seed=5), whole)
    with pytest.raises(CheckpointError, match="empty folder"):
        run_training(short(small_kitchen), whole, resume="never")
    assert {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()} == before


@pytest.mark.whole
def test_gates_are_told_and_phase_three_needs_its_plain_reference(
    small_kitchen: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_gates(whole)
    assert [gate.phase for gate in found].count("specialise") == 3
    assert found[-1].passed is None
    assert "--reference" in found[-1].advice
    run_training(short(small_kitchen, use_sheaf_streams=False), tmp_path / "plain")
    judged = run_gates(whole, tmp_path / "plain")[-1]
    errors = [
        json.loads((root / "phase_3" / "metrics.jsonl").read_text().splitlines()[-1])
        for root in (whole, tmp_path / "plain")
    ]
    ours, theirs = (row["held_out.action_error"] for row in errors)
    assert judged.passed is (ours < theirs)
    run_training(short(small_kitchen, use_sheaf_streams=False, seed=1), tmp_path / "unfair")
    with pytest.raises(CheckpointError, match="other seed"):
        run_gates(whole, tmp_path / "unfair")
    with pytest.raises(SystemExit) as done:
        main(["gate", str(whole)])
    assert done.value.code == int(any(gate.passed is False for gate in found))
    assert "specialise" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "broken YAML"),
        ("- 1", "mapping"),
        ("dataset_path: d\nstreams: 3", "streams"),
        ("phases: [3, 1]\ndataset_path: d", "neighbours"),
    ],
)
def test_a_bad_configuration_file_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(SvmsError, match=says):
        TrainConfig.load(tmp_path / "c.yaml")


def test_the_file_is_plain_yaml(whole: Path) -> None:
    assert yaml.safe_load((whole / "config.yaml").read_text())["max_steps"] == [2]
