"""What a run writes down of its held-out episodes: true numbers, at intervals, and nothing else changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from train_cases import same, weights

from svms_gr00t.core.progress import Task
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.evidence import read_streams
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.phases_in_turn import Trained
from svms_gr00t.recipes.training.run import run_training
from svms_gr00t.train.loop.held_out import SAMPLES, validator

BASE = str(shipped("tiny_base"))
EDGES = ("visual-temporal", "temporal-state")


def train(data: Path, folder: Path, progress: object = None, **changes: object) -> Trained:
    values = {"max_steps": (4,), "global_batch_size": (4,), "save_steps": 1, "phases": (1,), "base_model_path": BASE}
    return run_training(TrainConfig(dataset_path=str(data), **(values | changes)), folder, progress=progress)


def measured(trained: Trained) -> dict[int, dict[str, float]]:
    """Step -> what was held out of it, of the first phase."""
    rows = trained.rows["specialise"]
    found = {r["step"]: {k: v for k, v in r.items() if k.startswith("held_out.")} for r in rows}
    return {step: row for step, row in found.items() if row}


def test_rho_and_accuracy_are_those_of_the_stream_report(small_kitchen: Path) -> None:
    """By another path: every held-out step at once, as numpy, instead of sums over batches of tensors."""
    experiment = Experiment.prepare(small_kitchen, base=Path(BASE), validation=0.3)
    model, held_out = experiment.model(use_sheaf_streams=True, base=Path(BASE)), None
    for stride in range(4, 400):
        held_out = experiment.first_samples(train=False, stride=stride)
        if len(held_out) <= SAMPLES:
            break
    assert held_out is not None
    assert 32 < len(held_out) <= SAMPLES, "several batches, and nothing left out"
    found, (report, _) = validator(held_out)(model.eval()), read_streams(model, held_out)
    for edge in EDGES:
        assert found[f"rho.{edge}"] == pytest.approx(report.rho[edge].mean, rel=1e-4)
    for stream, score in report.scores.items():
        assert found.get(f"accuracy.{stream}") == pytest.approx(score.balanced_accuracy, abs=1e-6)
    assert len([name for name in found if name.startswith("accuracy.")]) >= 2
    assert len({round(value, 6) for value in found.values()}) > 3, "else equal numbers would say nothing"


@pytest.mark.whole
def test_measured_at_intervals_without_changing_what_is_trained(small_kitchen: Path, tmp_path: Path) -> None:
    often = train(small_kitchen, tmp_path / "often", max_steps=(16,))
    atlast = train(small_kitchen, tmp_path / "last", max_steps=(16,), eval_steps=0)
    third = train(small_kitchen, tmp_path / "third", max_steps=(16,), eval_steps=3)
    assert list(measured(often)) == [1, 3, 5, 7, 9, 11, 13, 15], "an eighth of the phase apart"
    assert list(measured(third)) == [2, 5, 8, 11, 14, 15]
    assert list(measured(atlast)) == [15]
    assert measured(often)[15] == measured(atlast)[15] == measured(third)[15]
    assert same(weights(tmp_path / "often"), weights(tmp_path / "last"))
    names = {name.removeprefix("held_out.") for name in measured(often)[1]}
    assert names >= {"flow", "action_error", *(f"rho.{edge}" for edge in EDGES)}
    plain = train(small_kitchen, tmp_path / "plain", use_sheaf_streams=False)
    assert set(measured(plain)[3]) == {"held_out.flow", "held_out.action_error"}


class Pulled:
    """Progress that pulls the plug after two steps of training."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        self.left = 2 if "specialise" in title else total + 1
        yield self

    def advance(self, steps: int = 1) -> None:
        self.left -= steps
        if not self.left:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        pass


@pytest.mark.whole
def test_a_run_that_was_cut_off_measures_the_same(small_kitchen: Path, tmp_path: Path) -> None:
    whole = train(small_kitchen, tmp_path / "whole", eval_steps=1)
    with pytest.raises(KeyboardInterrupt):
        train(small_kitchen, tmp_path / "cut", Pulled(), eval_steps=1)
    resumed = train(small_kitchen, tmp_path / "cut", eval_steps=1)
    assert measured(resumed) == measured(whole)
    assert len(measured(whole)) == 4
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
