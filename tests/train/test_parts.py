"""A global batch may be cut into micro-batches and processes: the gradient stays the same, whatever the cut."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.shares import Share, shared_batches
from svms_gr00t.train.loop.step import Stepper
from svms_gr00t.train.phases import END_TO_END, loss_weights
from svms_gr00t.train.processes.cluster import Cluster
from svms_gr00t.train.trainable import prepare

NOT_MEANS = {"collapse": 0.0, "balance": 0.0}
"""Terms that are no means over elements, switched off where equality is exact."""


@pytest.fixture(scope="module")
def experiment(small_kitchen: Path) -> Experiment:
    # Stream dropout draws for a whole batch at once, so it is off where two cuts are compared.
    return Experiment.prepare(small_kitchen, base=shipped("tiny_base"), svms={"router_stream_dropout_p": 0.0})


def gradient(
    experiment: Experiment, micro: int, *, svms: bool = True
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Of batch 3, in so many micro-batches; prompts of several lengths, chunks that end early."""
    model = experiment.model(use_sheaf_streams=svms, base=shipped("tiny_base"))
    if model.svms is not None:
        with torch.no_grad():
            torch.manual_seed(0)
            model.svms.merge.weight.normal_(std=0.05)
    parameters = prepare(model, END_TO_END)
    if model.svms is not None:
        model.svms.eval()  # freezes the running bound of the Laplacian, which each forward in training would move
    batches = Batches(experiment.first_samples(train=True), 8, 0)
    weights = loss_weights(END_TO_END, model.config, 500, 0.1, labels=True)
    weights |= {name: value for name, value in NOT_MEANS.items() if name in weights}
    stepper = Stepper(model, Cluster(), seed=0)
    outcome = stepper.backward(3, shared_batches(batches, Share(micro=micro), 8)(3), weights)
    return {n: p.grad for n, p in parameters.items() if p.grad is not None}, outcome.terms


@pytest.mark.parametrize("svms", [False, True], ids=["plain", "svms"])
def test_accumulated_micro_batches_give_the_gradient_of_the_whole(experiment: Experiment, svms: bool) -> None:
    whole, terms = gradient(experiment, 1, svms=svms)
    parts, again = gradient(experiment, 4, svms=svms)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=2e-3, atol=2e-6, msg=name)
    for name in terms.keys() - NOT_MEANS.keys():
        assert again[name] == pytest.approx(terms[name], rel=1e-5), name


def test_a_plain_average_over_micro_batches_would_not_do(experiment: Experiment) -> None:
    """Chunks end early in some parts: their means count for less, and equal weights get it wrong."""
    batches = shared_batches(Batches(experiment.first_samples(train=True), 8, 0), Share(micro=4), 8)(3)
    real = [float(part.action_mask.sum()) for part in batches]
    assert len(set(real)) > 1


def test_parts_must_fit() -> None:
    with pytest.raises(ConfigError, match="multiple of processes x accumulation"):
        Share(world=2, micro=3).rows(16)
    rows = [r for rank in range(2) for r in Share(rank=rank, world=2, micro=2).rows(16)]
    assert [i for r in rows for i in r] == list(range(16)), "every row once, in order"


WORKER = Path(__file__).with_name("ddp_worker.py")


def trained(folder: Path, dataset: Path, processes: int, *, targets: str = "", **extra: str) -> list[dict[str, float]]:
    """Metrics of a short run by so many processes, started as `accelerate launch` would with these variables."""
    command = [sys.executable, str(WORKER), str(dataset), str(folder), *filter(None, [targets])]
    if processes > 1:
        launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-addr", "127.0.0.1"]
        command = [sys.executable, *launch, "--master-port", "29517", *command[1:]]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "1"} | extra
    subprocess.run(command, check=True, env=env, capture_output=True, text=True, timeout=240)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_as_one(small_kitchen: Path, tmp_path: Path) -> None:
    one, two = trained(tmp_path / "one", small_kitchen, 1), trained(tmp_path / "two", small_kitchen, 2)
    assert len(one) == len(two) == 4
    for a, b in zip(one, two, strict=True):
        assert b["term.flow"] == pytest.approx(a["term.flow"], rel=1e-4)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
    assert one[0]["loss"] != one[1]["loss"], "it trains"


@pytest.mark.slow
def test_two_processes_train_grounded_targets_as_one(small_kitchen: Path, tmp_path: Path) -> None:
    """Their gradient is kept apart from what data parallelism exchanges, and added up by hand."""
    one, two = (trained(tmp_path / str(n), small_kitchen, n, targets="where,when,how") for n in (1, 2))
    names = ("term.flow", "term.where", "term.when", "term.how", "grad_norm", "grad_norm.targets")
    for a, b in zip(one, two, strict=True):
        assert {n: b[n] for n in names} == pytest.approx({n: a[n] for n in names}, rel=1e-3)
    assert one[-1]["term.how"] != one[0]["term.how"]


FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.mark.slow
def test_two_processes_that_share_weights_train_as_one(small_kitchen: Path, tmp_path: Path) -> None:
    """FSDP2: equal losses and gradient norms, whole tensors in the checkpoint, and each goes on from the other's."""
    one, two = trained(tmp_path / "one", small_kitchen, 1), trained(tmp_path / "two", small_kitchen, 2, **FSDP)
    for a, b in zip(one, two, strict=True):
        assert b["term.flow"] == pytest.approx(a["term.flow"], rel=1e-4)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
    ours, theirs = (RunDir(tmp_path / name).load() for name in ("one", "two"))
    assert ours is not None
    assert theirs is not None
    for kind in ("model", "optimizer"):
        mine, other = getattr(ours, kind), getattr(theirs, kind)
        assert mine.keys() == other.keys()
        assert any("transformer_blocks" in name for name in mine)
        for name, value in mine.items():
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
    held = [json.loads((tmp_path / "two" / f"held_{rank}.json").read_text()) for rank in (0, 1)]
    assert sum(part["here"] for part in held) == held[0]["all"], "no process holds what another holds"
    assert max(part["here"] for part in held) < 0.55 * held[0]["all"]
    for name, processes, extra in (("one", 2, FSDP), ("two", 1, {})):
        shutil.rmtree(tmp_path / name / "checkpoints" / "step_000004")
        assert RunDir(tmp_path / name).load().state.done == 2  # type: ignore[union-attr]
        again = trained(tmp_path / name, small_kitchen, processes, **extra)
        assert again[-1]["term.flow"] == pytest.approx(one[-1]["term.flow"], rel=1e-4)


def test_a_changed_row_is_noticed(experiment: Experiment) -> None:
    """The comparison above can fail: other noise on one row moves the gradient beyond its tolerance."""
    whole, _ = gradient(experiment, 1, svms=False)
    model = experiment.model(use_sheaf_streams=False, base=shipped("tiny_base"))
    parameters = prepare(model, END_TO_END)
    stepper = Stepper(model, Cluster(), seed=0)
    parts = shared_batches(Batches(experiment.first_samples(train=True), 8, 0), Share(), 8)(3)
    draws = stepper.draw(3, parts)
    noise = draws.noise.clone()
    noise[7] += 0.5
    stepper.draw = lambda *_: replace(draws, noise=noise)
    stepper.backward(3, parts, {"flow": 1.0})
    worst = max(
        float((p.grad - whole[n]).abs().max()) for n, p in parameters.items() if n in whole and p.grad is not None
    )
    assert worst > 1e-4
