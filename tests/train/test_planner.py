"""The plan counts the released model, keeps its promises, and its switches really make things smaller."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import ConfigError, TrainingError
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.recipes.experiment import Experiment
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.train_config import TrainConfig
from svms_gr00t.recipes.training import check_memory
from svms_gr00t.train.phases import COUPLE, END_TO_END, PHASES, SPECIALISE
from svms_gr00t.train.planner import Setup, cheapest, plan, switches
from svms_gr00t.train.recompute import recompute_blocks
from svms_gr00t.train.trainable import prepare

RELEASED = Gr00tN1d6Config(use_sheaf_streams=True)
BATCH = {"specialise": 16, "couple": 12, "end to end": 8}


def peak(phase: str, **changes: object) -> float:
    return plan(RELEASED, PHASES[phase], Setup(batch_size=BATCH[phase], **changes)).peak_gib


def test_the_phases_train_the_counted_parameters() -> None:
    trained = {name: plan(RELEASED, phase, Setup(batch_size=1)).trained for name, phase in PHASES.items()}
    assert trained["specialise"] == 17_718_535
    assert round(trained["couple"] / 1e6, 2) == 288.39
    assert round(trained["end to end"] / 1e6, 2) == 1322.53


def test_every_phase_fits_a_32_gb_card_within_its_promise() -> None:
    promised = {"specialise": 8.0, "couple": 11.5, "end to end": 26.5}
    assert all(peak(name) <= limit for name, limit in promised.items())
    assert peak("end to end", optimizer="adamw8bit") <= 19.0
    assert peak("end to end", views=1) < peak("end to end", views=3)


def test_switches_go_from_cheap_to_small_and_the_first_that_fits_is_named() -> None:
    setup = Setup(batch_size=8)
    peaks = [plan(RELEASED, END_TO_END, setup).peak_gib]
    peaks += [plan(RELEASED, END_TO_END, other).peak_gib for _, other in switches(setup)]
    assert peaks == sorted(peaks, reverse=True)
    assert cheapest(RELEASED, END_TO_END, setup, 29.0) == ""
    assert cheapest(RELEASED, END_TO_END, setup, 20.0) == "--optimizer adamw8bit"
    assert cheapest(RELEASED, END_TO_END, setup, 14.0) == "--optimizer adamw8bit-sr"
    assert cheapest(RELEASED, END_TO_END, setup, 5.0) is None
    assert plan(RELEASED, COUPLE, replace(setup, cached=True)).peak_gib < plan(RELEASED, COUPLE, setup).peak_gib - 2


def test_training_refuses_what_cannot_fit() -> None:
    config = TrainConfig(dataset_path="d", preset="n1d6")
    check_memory(config, RELEASED, 32.0, views=3)
    with pytest.raises(TrainingError, match=r"phase end to end: about 25.9 GiB.*Add --optimizer adamw8bit$"):
        check_memory(config, RELEASED, 24.0, views=3)
    check_memory(replace(config, phases=(1, 2)), RELEASED, 24.0, views=3)
    with pytest.raises(ConfigError, match="released size"):
        plan(Gr00tN1d6Config(hidden_size=512), SPECIALISE, Setup(batch_size=1))


def test_the_command_says_no_by_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for gpu, code in (("32", 0), ("24", 1)):
        with pytest.raises(SystemExit) as done:
            main(["plan", "--gpu-gb", gpu])
        assert done.value.code == code
    assert "adamw8bit" in capsys.readouterr().out


def test_recomputed_blocks_give_the_same_gradients_and_hold_less(small_kitchen: Path) -> None:
    experiment = Experiment.prepare(small_kitchen, base=shipped("tiny_base"))
    inputs = experiment.steps(train=True).batch(range(8))

    def run(recompute: bool) -> tuple[dict[str, torch.Tensor], int]:
        model = experiment.model(use_sheaf_streams=True, base=shipped("tiny_base"))
        parameters = prepare(model, END_TO_END)
        if recompute:
            assert recompute_blocks(model) == 3 + 8
        kept = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(inputs).terms["flow"]
        torch.manual_seed(0)
        loss.backward()
        return {name: p.grad for name, p in parameters.items() if p.grad is not None}, kept

    (plain, held), (again, less) = run(False), run(True)
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert less < 0.7 * held
