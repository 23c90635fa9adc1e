"""Saving while training goes on: the next steps cannot change what is written, and no failure passes unseen."""

import logging
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train_cases import fresh, labelled, same, short

from svms_gr00t.core.errors import CheckpointError, TrainingError
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.train.loop import saver as saver_module
from svms_gr00t.train.loop.host import available_memory
from svms_gr00t.train.loop.kept import Kept
from svms_gr00t.train.loop.run_dir import RunDir, SheafState, Snapshot, State
from svms_gr00t.train.loop.saver import Saver
from svms_gr00t.train.loop.trainer import LoopConfig, train_phase
from svms_gr00t.train.optimizers.optimizer import make_optimizer
from svms_gr00t.train.phases import COUPLE, END_TO_END, SPECIALISE
from svms_gr00t.train.processes.cluster import Cluster
from svms_gr00t.train.trainable import prepare

EVERY = LoopConfig(checkpoint_every=2, keep_last=9)


class Slow(RunDir):
    """Begins to write the checkpoint of step 2 only when it may; counts writers at work."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.may, self.begun, self.now, self.most = threading.Event(), threading.Event(), 0, 0

    def save(self, snapshot: Snapshot, *, keep_last: int = 1) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        if snapshot.state.done == 2:
            self.begun.set()
            assert self.may.wait(60)
        super().save(snapshot, keep_last=keep_last)
        self.now -= 1


def sums(run: RunDir) -> dict[str, str]:
    """What `sha256sum` says of each checkpoint."""
    return {folder.name: (folder / "SHA256SUMS").read_text() for folder in run.checkpoints()}


def freed_at(step: int, run: Slow) -> Callable[[int], ModelInputs]:
    """Batches; the slow writer may begin once batch `step` is asked for."""

    def batch(number: int) -> ModelInputs:
        if number == step:
            run.may.set()
        return labelled(number)

    return batch


def both(tmp_path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Checkpoints written between steps, and in the background two steps late."""
    plain, late = RunDir(tmp_path / "plain"), Slow(tmp_path / "late")
    config = LoopConfig(checkpoint_every=2, keep_last=9, background=False)
    train_phase(fresh(), short(COUPLE, 6), labelled, plain, config=config)
    train_phase(fresh(), short(COUPLE, 6), freed_at(3, late), late, config=EVERY)
    assert late.begun.is_set()
    return sums(plain), sums(late)


def test_the_next_steps_change_nothing_of_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, late = both(tmp_path / "copied")
    assert sorted(plain) == ["step_000002", "step_000004", "step_000006"]
    assert late == plain
    monkeypatch.setattr(Saver, "_copied", lambda _self, live: live)
    plain, late = both(tmp_path / "live")
    assert late["step_000002"] != plain["step_000002"], "without the copy the steps after it are in it"
    assert late["step_000006"] == plain["step_000006"], "and nothing else is different: the last waits in any case"


def test_one_checkpoint_is_written_at_a_time_and_the_next_waits_for_it(tmp_path: Path) -> None:
    run = Slow(tmp_path / "run")
    timer = threading.Timer(0.5, run.may.set)
    timer.start()
    train_phase(fresh(), short(SPECIALISE, 6), labelled, run, config=LoopConfig(checkpoint_every=1, keep_last=9))
    timer.join()
    assert run.most == 1
    assert len(run.checkpoints()) == 6


@contextmanager
def no_large_files(limit: int) -> Iterator[None]:
    """The system refuses to write beyond so many bytes of a file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("background", [True, False])
def test_a_checkpoint_that_cannot_be_written_stops_the_run_with_a_sentence(tmp_path: Path, background: bool) -> None:
    run, config = RunDir(tmp_path / "run"), LoopConfig(checkpoint_every=2, background=background, log_every=1)
    asked = []

    def batch(number: int) -> ModelInputs:
        asked.append(number)
        if number == 3:
            stack.enter_context(no_large_files(20_000))
        time.sleep(0.2 * (number >= 4))  # time to fail in
        return labelled(number)

    with ExitStack() as stack:
        said = r"checkpoint of step 4 in .*: .*File too large.*, but need it written. Make room"
        with pytest.raises(TrainingError, match=said):
            train_phase(fresh(), short(SPECIALISE, 9), batch, run, config=config)
    assert max(asked) <= (5 if background else 3), "at the next step, or the one after it"
    stored = run.load()
    assert stored is not None
    assert stored.state.done == 2, "what was saved before is whole"
    resumed, whole = fresh(), fresh()
    train_phase(resumed, short(SPECIALISE, 9), labelled, run, config=config)
    train_phase(whole, short(SPECIALISE, 9), labelled, RunDir(tmp_path / "whole"))
    assert same(resumed.state_dict(), whole.state_dict())


def test_a_signal_waits_for_the_checkpoint_that_is_being_written(tmp_path: Path) -> None:
    run = Slow(tmp_path / "run")
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def batch(number: int) -> ModelInputs:
        if number == 2:
            assert run.begun.wait(60)
            signal.raise_signal(signal.SIGTERM)
            threading.Timer(0.3, run.may.set).start()
        return labelled(number)

    with pytest.raises(KeyboardInterrupt) as stop:
        train_phase(fresh(), short(SPECIALISE, 9), batch, run, config=EVERY)
    signal.signal(signal.SIGTERM, before)
    assert stop.value.args == (signal.SIGTERM,)
    assert [folder.name for folder in run.checkpoints()] == ["step_000002", "step_000003"]
    assert run.load().state.done == 3


def test_a_second_interrupt_waits_for_nothing_and_another_error_does(tmp_path: Path) -> None:
    for error, waits in ((KeyboardInterrupt, False), (MemoryError, True)):
        run = Slow(tmp_path / error.__name__)

        def batch(number: int, run: Slow = run, error: type[BaseException] = error) -> ModelInputs:
            if number == 2:
                assert run.begun.wait(60)
                threading.Timer(0.5, run.may.set).start()
                raise error
            return labelled(number)

        with pytest.raises(error):
            train_phase(fresh(), short(SPECIALISE, 9), batch, run, config=EVERY)
        assert bool(run.checkpoints()) is waits
        while run.now:
            time.sleep(0.01)


def test_without_room_for_a_copy_steps_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    plain, full = RunDir(tmp_path / "plain"), RunDir(tmp_path / "full")
    train_phase(fresh(), short(SPECIALISE), labelled, plain, config=EVERY)
    assert "no room" not in caplog.text
    monkeypatch.setattr(saver_module, "available_memory", lambda: 1000)
    monkeypatch.setattr(Saver, "_copied", lambda *_: pytest.fail("copied"))
    train_phase(fresh(), short(SPECIALISE), labelled, full, config=EVERY)
    assert "The host has no room for a copy of 0.0 GiB" in caplog.text
    assert sums(full) == sums(plain)


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    free = available_memory(tmp_path / "none")
    assert 0 < free < 1 << 50
    for name, text in (("max", "1000000\n"), ("current", "900000\n"), ("stat", "anon 500000\nfile 250000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert available_memory(tmp_path) == 350_000, "files in memory make way"
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) == pytest.approx(free, rel=0.3)


class Made(TorchDispatchMode):
    """Bytes that operations make on the card beside what is known to be there."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.known, self.on_card = {id(t.untyped_storage()) for t in known}, 0
        self._alive = known

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == "cuda":
                storage = leaf.untyped_storage()
                if id(storage) not in self.known:
                    self.known.add(id(storage))
                    self._alive.append(leaf)
                    self.on_card += storage.nbytes()
        return out


def test_a_copy_takes_nothing_of_the_card() -> None:
    """Fake tensors stand for it: weights of phase 3 and both moments go to the host without a copy beside them."""
    model = fresh()
    model.action_head.keep_embodiments(0)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cuda")
        parameters = prepare(model, END_TO_END)
        optimizer = make_optimizer(parameters, learning_rate=1e-3)
        for p in parameters.values():
            p.grad = torch.ones_like(p)
        optimizer.step()
        kept = Kept(model, parameters, optimizer, {}, Cluster("cuda"))
        saver = Saver(RunDir("nowhere"), Cluster("cuda"), keep_last=1, background=True)
        state = State(done=1, phase="x", sheaf=SheafState(smoothed=None, started=None))
        held = [*model.parameters(), *model.buffers(), *(v for s in optimizer.state.values() for v in s.values())]
        with Made(held) as made:
            copy = saver._copied(Snapshot(model=kept.weights(), optimizer=kept.moments(), state=state))
        assert made.on_card == 0
        assert {v.device.type for part in (copy.model, copy.optimizer) for v in part.values()} == {"cpu"}
        assert sum(v.nbytes for v in copy.optimizer.values()) > 2 * sum(p.nbytes for p in parameters.values())
        with Made(held) as made:
            assert len([value.clone() for value in kept.moments().values()])
        assert made.on_card > 2 * sum(p.nbytes for p in parameters.values()), "copies on the card would be seen"


def test_gradients_are_gone_when_a_checkpoint_is_written(tmp_path: Path) -> None:
    model, seen = fresh(), []

    class Looking(RunDir):
        def save(self, snapshot: Snapshot, *, keep_last: int = 1) -> None:
            seen.append([name for name, p in model.named_parameters() if p.grad is not None])

    model.svms.merge.weight.grad = torch.ones_like(model.svms.merge.weight)  # of something before
    config = LoopConfig(checkpoint_every=1, background=False)
    train_phase(model, short(END_TO_END, 3), labelled, Looking(tmp_path / "run"), config=config)
    assert seen == [[], [], []]


def batch_of(embodiment: int) -> Callable[[int], ModelInputs]:
    def batch(number: int) -> ModelInputs:
        found = labelled(number)
        return replace(found, embodiment_id=torch.full_like(found.embodiment_id, embodiment))

    return batch


def test_an_embodiment_bank_is_saved_by_the_row_that_trains(tmp_path: Path) -> None:
    def kept() -> torch.nn.Module:
        model = fresh()
        model.action_head.keep_embodiments(1)
        return model

    run, whole, resumed = RunDir(tmp_path / "run"), kept(), kept()
    config = LoopConfig(checkpoint_every=2, keep_last=9)
    rows = batch_of(1)
    train_phase(whole, short(END_TO_END), rows, run, config=config)
    shapes = run.load().model.shapes()
    assert shapes == {n: tuple(p.shape) for n, p in whole.named_parameters() if n in shapes} | {
        n: tuple(b.shape) for n, b in whole.named_buffers() if n in shapes
    }
    for folder in run.checkpoints()[1:]:
        folder.rename(tmp_path / folder.name)
    train_phase(resumed, short(END_TO_END), rows, run, config=config)
    assert same(resumed.state_dict(), whole.state_dict()), "the other rows are those of the base"


def test_moments_may_be_left_out_and_resuming_says_what_that_lost(tmp_path: Path, caplog: Any) -> None:
    config = LoopConfig(checkpoint_every=2, keep_last=9, save_moments=False)
    run, whole = RunDir(tmp_path / "run"), fresh()
    train_phase(whole, short(SPECIALISE), labelled, run, config=config)
    stored = run.load()
    assert stored.state.moments is False
    assert not len(stored.optimizer)
    run.checkpoints()[-1].rename(tmp_path / "last")
    resumed = fresh()
    with caplog.at_level(logging.WARNING):
        train_phase(resumed, short(SPECIALISE), labelled, run, config=config)
    assert "step 2 was saved without the optimiser's moments: they start anew" in caplog.text
    assert not same(resumed.state_dict(), whole.state_dict()), "else the moments would be worth nothing"


@pytest.mark.parametrize("harm", ["lost", "foreign", "shape"])
def test_moments_of_something_else_are_refused(tmp_path: Path, harm: str) -> None:
    run = RunDir(tmp_path / "run")
    train_phase(fresh(), short(SPECIALISE, 2), labelled, run)
    stored = run.load()
    moments = {name: stored.optimizer[name] for name in stored.optimizer}
    name = next(name for name in moments if name.startswith("exp_avg."))
    value = moments.pop(name)
    if harm == "foreign":
        moments["exp_avg.action_head.nobody"] = value
    elif harm == "shape":
        moments[name] = value[:1]
    else:
        moments = {}
    model = {name: stored.model[name] for name in stored.model}
    run.save(Snapshot(model=model, optimizer=moments, state=stored.state))
    with pytest.raises(CheckpointError, match="number of moments" if harm == "lost" else "another exp_avg"):
        train_phase(fresh(), short(SPECIALISE, 2), labelled, run)
