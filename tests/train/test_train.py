"""Training facts: a phase changes exactly its tensors; resumed is uninterrupted; no loss can go missing or turn NaN."""

import os
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from groot_tiny import tiny_config
from train_cases import fresh, labelled, short

from svms_gr00t.core.errors import CheckpointError, TrainingError
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.train.loop.interrupts import SIGNALS, BetweenSteps
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.trainer import LoopConfig, train_phase
from svms_gr00t.train.losses import total_loss
from svms_gr00t.train.optimizers.optimizer import make_optimizer
from svms_gr00t.train.phases import COUPLE, END_TO_END, PHASES, SPECIALISE, Phase, plain_counterpart
from svms_gr00t.train.schedules import SheafWeight, cosine, temperature
from svms_gr00t.train.trainable import prepare

EXPECTED = {
    "specialise": {"svms"},
    "couple": {"svms", "dit 0"},
    "end to end": {"svms", *(f"dit {i}" for i in range(5)), "projectors", "llm 2", "norm"},
}


def group(name: str) -> str:
    """Readable part of the model that a parameter belongs to."""
    parts = name.split(".")
    if "transformer_blocks" in parts:
        return f"dit {parts[parts.index('transformer_blocks') + 1]}"
    if "layers" in parts and "language_model" in parts:
        return f"llm {parts[parts.index('layers') + 1]}"
    if name.startswith("backbone.model.language_model.model.norm"):
        return "norm"
    return {"svms": "svms", "action_head": "projectors"}.get(parts[0], "rest")


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_a_phase_changes_exactly_its_tensors(phase: Phase, tmp_path: Path) -> None:
    model = fresh()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train_phase(model, short(phase), labelled, RunDir(tmp_path / "run"))
    changed = {group(name) for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == EXPECTED[phase.name]
    still = [n for n, p in model.named_parameters() if torch.equal(p, before[n]) and phase.trains(n, model.config)]
    # Bank rows of absent embodiments aside, everything that trains must move; weight decay alone may not explain it.
    assert not [name for name in still if name.startswith("svms.")], still


def test_frozen_parts_are_in_eval_mode_and_the_rest_trains(tmp_path: Path) -> None:
    model = fresh()
    seen: list[tuple[bool, bool]] = []
    hook = model.svms.register_forward_hook(lambda *_: seen.append((model.svms.training, model.backbone.training)))
    train_phase(model, short(SPECIALISE, 1), labelled, RunDir(tmp_path / "run"))
    hook.remove()
    assert seen == [(True, False)]


@pytest.mark.parametrize(("phase", "acting"), [(SPECIALISE, 0), (COUPLE, 3), (END_TO_END, 15)], ids=PHASES)
def test_dropout_acts_where_the_weights_around_it_train(phase: Phase, acting: int, tmp_path: Path) -> None:
    """Three in each DiT block: a dropout owns no parameter, so it goes with the block that it stands in."""

    def losses(dropout: float) -> list[float]:
        model = fresh(dit={"dropout": dropout})
        drops = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
        seen: list[int] = []
        hook = model.svms.register_forward_hook(lambda *_: seen.append(sum(d.training for d in drops)))
        config = LoopConfig(log_every=1)
        rows = train_phase(model, short(phase, 2), labelled, RunDir(tmp_path / str(dropout)), config=config)
        hook.remove()
        assert (len(drops), seen) == (15, [acting, acting])
        assert not any(drop.training for drop in drops), "the trained model acts without dropout"
        return [row["term.flow"] for row in rows]

    different = {tuple(losses(dropout)) for dropout in (0.0, 0.2, 0.9)}
    assert len(different) == (3 if acting else 1)


def test_streams_are_dropped_under_equal_weights_too(tmp_path: Path) -> None:
    """A router without parameters trains with SVMS: "uniform" drops the learned weights and nothing else."""
    model = fresh(router_mode="uniform", router_stream_dropout_p=0.5)
    shares: list[torch.Tensor] = []
    hook = model.svms.register_forward_hook(lambda _m, _i, states: shares.append(states.weights.detach()))
    train_phase(model, short(SPECIALISE, 1), labelled, RunDir(tmp_path / "run"))
    hook.remove()
    found = {round(float(share), 4) for share in shares[0].flatten()}
    assert found == {0.0, 0.3333, 0.5, 1.0}, "of three streams one, two or all are left, with equal weights"
    with torch.no_grad():
        acting = model.encode(labelled())[1].weights
    assert {round(float(share), 4) for share in acting.flatten()} == {0.0, 0.3333}, "padding, and all three"


def test_what_hides_the_state_acts_where_the_action_head_trains(tmp_path: Path) -> None:
    """The same for what is drawn inside a module: state dropout and noise."""
    for phase, acts in ((SPECIALISE, False), (END_TO_END, True)):
        runs = []
        for noise in (0.0, 1.0):
            model, run = fresh(state_additive_noise_scale=noise), RunDir(tmp_path / phase.name / str(noise))
            runs.append(train_phase(model, short(phase, 1), labelled, run)[0]["term.flow"])
        assert (runs[0] != runs[1]) is acts


def test_the_plain_counterpart_always_has_something_to_train() -> None:
    model = Gr00tN1d6(tiny_config())
    for phase in PHASES.values():
        assert any(plain_counterpart(phase).trains(name, model.config) for name, _ in model.named_parameters())


def test_resumed_is_uninterrupted_to_the_bit(tmp_path: Path) -> None:
    phase, config = short(COUPLE, 6), LoopConfig(seed=1, log_every=1, checkpoint_every=2)
    whole = fresh()
    rows = train_phase(whole, phase, labelled, RunDir(tmp_path / "whole"), config=config)

    def killed(number: int) -> ModelInputs:
        if number == 3:
            raise MemoryError
        return labelled(number)

    broken = fresh()
    with pytest.raises(MemoryError):
        train_phase(broken, phase, killed, RunDir(tmp_path / "parts"), config=config)
    resumed = fresh()
    again = train_phase(resumed, phase, labelled, RunDir(tmp_path / "parts"), config=config)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    keep = ("step", "loss", "lr", "grad_norm")
    assert [[row[k] for k in keep] for row in rows] == [[row[k] for k in keep] for row in again]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_inside_a_step_waits_for_its_end_and_costs_nothing(tmp_path: Path, number: signal.Signals) -> None:
    phase = short(SPECIALISE)
    whole = fresh()
    train_phase(whole, phase, labelled, RunDir(tmp_path / "whole"))

    # Whoever starts the tests in the background may have them ignore a signal, and an ignored one stops nothing.
    before = signal.signal(number, signal.default_int_handler)
    stopped, run, usual = fresh(), RunDir(tmp_path / "parts"), signal.getsignal(number)
    # A signal in the middle of step 2: its gradients are there, its optimiser step is not.
    calls = count()
    hook = stopped.svms.merge.weight.register_hook(
        lambda _grad: os.kill(os.getpid(), number) if next(calls) == 2 else None
    )
    with pytest.raises(KeyboardInterrupt) as stop:
        train_phase(stopped, phase, labelled, run)
    hook.remove()
    assert stop.value.args == (number,)
    assert run.load().state.done == 3
    assert signal.getsignal(number) is usual
    signal.signal(number, before)
    resumed = fresh()
    train_phase(resumed, phase, labelled, run)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with BetweenSteps() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupts.asked == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, usual)


def test_a_checkpoint_of_another_phase_or_model_is_refused(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    train_phase(fresh(), short(SPECIALISE, 2), labelled, run)
    with pytest.raises(CheckpointError, match=r"phase specialise with .*, but need phase couple"):
        train_phase(fresh(), short(COUPLE), labelled, run)
    with pytest.raises(CheckpointError, match=r"another svms\."):
        train_phase(fresh(d_overlap=4), short(SPECIALISE), labelled, run)


def test_a_loss_that_is_not_finite_stops_and_names_its_term(tmp_path: Path) -> None:
    def poisoned(number: int) -> ModelInputs:
        batch = labelled(number)
        return replace(batch, action=batch.action * float("nan")) if number == 1 else batch

    with pytest.raises(TrainingError, match=r"batch 1: flow is not finite"):
        train_phase(fresh(), short(SPECIALISE), poisoned, RunDir(tmp_path / "run"))


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(tmp_path: Path) -> None:
    model = fresh()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    hook = model.svms.merge.weight.register_hook(lambda grad: grad * float("inf"))
    with pytest.raises(TrainingError, match=r"batch 0: the gradient is not finite"):
        train_phase(model, short(SPECIALISE), labelled, RunDir(tmp_path / "run"))
    hook.remove()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_plain_adamw_on_half_precision_weights_is_refused() -> None:
    weights = {"w": torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))}
    with pytest.raises(TrainingError, match="half precision"):
        make_optimizer(weights, learning_rate=1e-5)


def test_frozen_bf16_trains_with_float32_masters_and_only_in_bf16(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="precision bf16"):
        train_phase(fresh().bfloat16(), short(SPECIALISE), labelled, RunDir(tmp_path / "no"))
    model = fresh().bfloat16()
    rows = train_phase(
        model, short(SPECIALISE), labelled, RunDir(tmp_path / "run"), config=LoopConfig(precision="bf16")
    )
    assert {p.dtype for n, p in model.named_parameters() if n.startswith("svms.")} == {torch.float32}
    assert {p.dtype for n, p in model.named_parameters() if not n.startswith("svms.")} == {torch.bfloat16}
    full = train_phase(fresh(), short(SPECIALISE), labelled, RunDir(tmp_path / "full"))
    # bfloat16 has 8 bits: the loss of an untrained model agrees to about a percent.
    assert rows[0]["term.flow"] == pytest.approx(full[0]["term.flow"], rel=0.03)


def test_no_term_and_no_weight_can_go_missing() -> None:
    one = torch.ones(())
    assert total_loss({"flow": one, "aux": one}, {"flow": 1.0, "aux": 0.5}) == 1.5
    with pytest.raises(KeyError, match="sheaf"):
        total_loss({"flow": one, "sheaf": one}, {"flow": 1.0})
    with pytest.raises(KeyError, match="loss_sheaf"):
        total_loss({"flow": one}, {"flow": 1.0, "loss_sheaf": 1.0})


def test_the_adaptive_sheaf_waits_for_the_flow_loss_then_ramps_once() -> None:
    weight = SheafWeight(mode="adaptive", low=0.01, high=0.1, threshold=0.4, ramp_steps=10, smoothing=0.5)
    for step, flow in enumerate([1.0, 0.6, 0.5]):
        weight.see(step, flow)
    assert weight.at(3) == 0.01
    weight.see(3, 0.05)
    assert weight.started == 4
    assert weight.at(9) == pytest.approx(0.055)
    weight.see(9, 9.0)
    assert weight.at(14) == pytest.approx(0.1)


def test_temperature_and_learning_rate_end_where_they_should() -> None:
    heat = [temperature(s, initial=2.0, final=0.5, decay_steps=100) for s in (0, 50, 100, 500)]
    assert heat == pytest.approx([2.0, 1.0, 0.5, 0.5])
    rates = [cosine(s, 100) for s in range(100)]
    assert max(rates) == 1.0
    assert rates[-1] < 0.01
    assert rates.index(1.0) == 4
    assert END_TO_END.sheaf == "constant"


def test_a_phase_wakes_what_it_trains_and_refuses_to_train_nothing():
    model = fresh().eval()
    prepare(model, END_TO_END)
    assert model.svms.router.training
    assert model.action_head.model.transformer_blocks[0].training
    assert not model.backbone.model.vision_model.training
    with pytest.raises(TrainingError, match="nothing trains"):
        prepare(fresh(use_sheaf_streams=False), SPECIALISE)
