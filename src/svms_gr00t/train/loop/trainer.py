"""The training loop of one phase: deterministic, resumable at any step, and loud when a loss stops being a number.

Batch n and all random numbers of step n depend on (seed, n) alone: a resumed run is bit for bit the uninterrupted one.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from svms_gr00t.core.errors import TrainingError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.svms import SheafStreams
from svms_gr00t.train.loop.interrupts import BetweenSteps
from svms_gr00t.train.loop.kept import Kept
from svms_gr00t.train.loop.measures import Pace, peak_memory_gib, stream_measures
from svms_gr00t.train.loop.run_dir import Row, RunDir, SheafState, Snapshot, State
from svms_gr00t.train.loop.saver import Saver
from svms_gr00t.train.loop.shares import Parts
from svms_gr00t.train.loop.step import Outcome, Precision, Stepper, arithmetic
from svms_gr00t.train.loop.trackers import Tracker, grouped
from svms_gr00t.train.optimizers.optimizer import OptimizerName, make_optimizer, set_learning_rate
from svms_gr00t.train.phases import Phase, loss_weights
from svms_gr00t.train.processes.cluster import Cluster
from svms_gr00t.train.schedules import SheafWeight, cosine, temperature
from svms_gr00t.train.trainable import prepare

Batch = Callable[[int], ModelInputs | Parts]
"""Number of a batch -> this process's part of it, whole or in micro-batches."""
Validate = Callable[[Gr00tN1d6], dict[str, float]]
"""A model in eval mode -> held-out measures. Whatever it draws, training draws the same numbers as without it."""
VALIDATIONS = 8
"""Of a phase, unless the number of steps between them is given."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What the loop itself needs to know."""

    seed: int = 0
    first_step: int = 0
    """Steps of earlier phases: batches, warm-up and temperature go on from there."""
    checkpoint_every: int = 100
    keep_last: int = 1
    """Checkpoints that stay."""
    background: bool = True
    """Write them while training goes on, where the host has room for a copy; else steps wait."""
    save_moments: bool = True
    """Without them a checkpoint is a third as large, and who goes on from it starts the optimiser anew."""
    log_every: int = 5
    validate_every: int | None = None
    """Steps between validations; None: an eighth of the phase, with shared weights (FSDP) as 0: only at the end."""
    optimizer: OptimizerName = "adamw"
    precision: Precision = "fp32"
    """bf16 runs the forward pass in bfloat16; what trains stays in the optimiser's own type."""
    ema: float = 0.0
    """Decay of a moving average of the weights, which replaces them at the end; 0: none."""


def train_phase(
    model: Gr00tN1d6,
    phase: Phase,
    batches: Batch,
    run: RunDir,
    *,
    config: LoopConfig | None = None,
    validate: Validate | None = None,
    trackers: tuple[Tracker, ...] = (),
    cluster: Cluster | None = None,
    progress: Progress | None = None,
    title: str = "",
) -> list[Row]:
    """Train one phase, or go on where `run` stopped; returns its metrics. `model` is left in eval mode.

    Raises TrainingError when a loss is NaN or infinite (the last checkpoint stays), nothing trains or a checkpoint
    cannot be written, CheckpointError when `run` holds another phase or model. On Ctrl-C, SIGTERM or SIGHUP the steps
    so far are saved, then KeyboardInterrupt is raised with the signal's number.
    """
    loop = Loop(model, phase, batches, run.create(), config or LoopConfig(), cluster or Cluster())
    loop.validate, loop.trackers = validate, trackers
    begin = loop.resume()
    with (progress or Silent()).task(title or phase.name, phase.steps) as bar, BetweenSteps() as interrupts, loop.saver:
        bar.advance(begin)
        for step in range(begin, phase.steps):
            bar.note(loop.step(step))
            bar.advance()
            if number := loop.stopping(interrupts.asked):
                loop.save(last=True)
                raise KeyboardInterrupt(number)
    loop.finish()
    return run.rows()


class Loop:
    """The state of one phase's training."""

    def __init__(
        self, model: Gr00tN1d6, phase: Phase, batches: Batch, run: RunDir, config: LoopConfig, cluster: Cluster
    ) -> None:
        self.model, self.phase, self.batches, self.run, self.config = model, phase, batches, run, config
        self.cluster = cluster
        _check_sharing(cluster, config, model)
        self.parameters = cluster.begin(model, prepare(model, phase, config.optimizer))
        self.optimizer = make_optimizer(
            self.parameters, learning_rate=phase.learning_rate, name=config.optimizer, svms_rate=phase.svms_rate
        )
        _check_types(model, config)
        self.stepper = Stepper(model, cluster, seed=config.seed, precision=config.precision)
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        self.pace = Pace(cluster.device, dtype, world=cluster.world, counts=not cluster.sharded)
        c = model.config
        self.sheaf = SheafWeight(
            mode=phase.sheaf if c.sheaf_schedule_mode == "adaptive" else c.sheaf_schedule_mode,
            low=c.lambda_sheaf_min,
            high=c.lambda_sheaf_max,
            threshold=c.sheaf_delay_until_diffusion,
            ramp_steps=c.sheaf_ramp_steps,
        )
        self.validate: Validate | None = None
        self.trackers: tuple[Tracker, ...] = ()
        self.done, self.saved = 0, -1
        self.mean = {n: p.detach().clone() for n, p in self.parameters.items()} if config.ema else {}
        self.kept = Kept(model, self.parameters, self.optimizer, self.mean, cluster)
        self.saver = Saver(run, cluster, keep_last=config.keep_last, background=config.background)

    def resume(self) -> int:
        """The first step to do. Raises CheckpointError for a checkpoint of something else."""
        stored = self.run.load()
        with self.cluster.main_first() as writes:
            if writes:
                self.run.rows(below=0 if stored is None else stored.state.done)
        if stored is None:
            return 0
        self.kept.check(stored, self.phase.name, self.run.root)
        self.kept.put_back(stored)
        self.sheaf.load_state_dict(stored.state.sheaf.model_dump())
        self.done = self.saved = stored.state.done
        return self.done

    def stopping(self, asked: int) -> int:
        """Number of the signal that stops every process after this step; a signal reaches each at its own moment."""
        if self.cluster.world == 1:
            return asked
        anyone = float(self.cluster.sum(torch.tensor(float(asked > 0)))) > 0
        return (asked or signal.SIGTERM) if anyone else 0

    def save(self, *, last: bool = False) -> None:
        """Write the checkpoint of this step, once; after the `last` one every process finds it on the disk."""
        if self.saved != self.done and self.cluster.collects:
            sheaf, keeps = SheafState.model_validate(self.sheaf.state_dict()), self.config.save_moments
            state = State(done=self.done, phase=self.phase.name, sheaf=sheaf, moments=keeps)
            moments = self.kept.moments() if keeps else {}
            self.saver.save(Snapshot(model=self.kept.weights(), optimizer=moments, state=state), last=last)
        self.saved = self.done
        if last:
            with self.cluster.main_first() as writes:
                if writes:
                    self.saver.join()

    def step(self, step: int) -> str:
        """One optimiser step; returns a note for the bar. Raises TrainingError when a checkpoint was not written."""
        self.saver.check()
        began, number = time.monotonic(), self.config.first_step + step
        found = self.batches(number)
        parts: Parts = found if isinstance(found, tuple) else (found,)
        waited = time.monotonic() - began
        _check_past(self.model, parts)
        _check_targets(self.model, parts)
        _check_pictures(self.phase, parts)
        self._heat(number)
        weights = loss_weights(
            self.phase,
            self.model.config,
            number,
            self.sheaf.at(step),
            labels=parts[0].labels is not None,
            targets=self.model.target_heads is not None,
        )
        rows = sum(len(part.state) for part in parts)
        with self.pace.counting(rows):
            outcome = self.stepper.backward(number, parts, weights)
        norm = self.stepper.clip(self.parameters, number)
        rate = self.phase.learning_rate * cosine(step, self.phase.steps)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # neither a checkpoint nor a validation has to live beside them
        self._average()
        flow = outcome.terms["flow"]
        self.sheaf.see(step, flow)
        self.done = step + 1
        pace = self.pace.of(rows, time.monotonic() - began, waited)
        self._report(step, outcome, parts[-1], weights, {"lr": rate, "grad_norm": norm, **pace})
        if self.done % self.config.checkpoint_every == 0 and self.done < self.phase.steps:
            self.save()
        return self._note(flow, pace)

    def _note(self, flow: float, pace: Row) -> str:
        """What the bar shows: loss, throughput, share of the step spent waiting for data, peak memory, MFU."""
        used = f"  {pace['mfu']:.0%} MFU" if "mfu" in pace else ""
        speed = f"{pace['samples_per_second']:.0f} samples/s  {pace['data_wait']:.0%} data wait{used}"
        return f"flow {flow:.3f}  {speed}  {peak_memory_gib(self.cluster.device):.1f} GiB"

    def finish(self) -> None:
        """Save, and leave the model as it is to be used: averaged weights where asked for, eval mode."""
        self.save(last=True)
        with torch.no_grad():
            for name, value in self.mean.items():
                self.parameters[name].copy_(value)
        self.cluster.end(self.model)
        self.model.eval()

    def _heat(self, number: int) -> None:
        c = self.model.config
        if isinstance(self.model.svms, SheafStreams):
            tau = temperature(
                number, initial=c.router_temp_init, final=c.router_temp_final, decay_steps=c.router_temp_decay_steps
            )
            self.model.svms.set_temperature(tau)

    @torch.no_grad()
    def _average(self) -> None:
        for name, value in self.mean.items():
            value.lerp_(self.parameters[name].detach().to(value.dtype), 1 - self.config.ema)

    def _report(self, step: int, outcome: Outcome, last: ModelInputs, weights: dict[str, float], at: Row) -> None:
        """One row of metrics now and then, and at the end."""
        ends, row = self.done == self.phase.steps, {}
        if step % self.config.log_every == 0 or ends:
            row = {"loss": outcome.loss} | at | {"memory_gib": peak_memory_gib(self.cluster.device)}
            row |= {} if self.stepper.apart_norm is None else {"grad_norm.targets": self.stepper.apart_norm}
            row |= {f"term.{name}": value for name, value in outcome.terms.items()}
            row |= {f"weight.{name}": value for name, value in weights.items()}
            row |= stream_measures(self.model, outcome.output, last)
        row |= self._validated(step, ends)
        if row and self.cluster.rank == 0:
            row = {"step": step} | row
            self.run.append(row)
            for tracker in self.trackers:
                tracker.log(grouped(row), step=self.config.first_step + step)

    def _validated(self, step: int, ends: bool) -> Row:
        every = self.config.validate_every
        if every is None:  # measures on the way were not tried where processes share weights
            every = 0 if self.cluster.sharded else max(self.phase.steps // VALIDATIONS, 1)
        if self.validate is None or not (ends or (every and (step + 1) % every == 0)):
            return {}
        modes = {module: module.training for module in self.model.modules()}
        device = self.cluster.device
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            arithmetic(device, self.config.precision),
        ):
            found = self.validate(self.model.eval())
        for module, mode in modes.items():
            module.training = mode
        return {f"held_out.{name}": value for name, value in found.items()}


def _check_types(model: Gr00tN1d6, config: LoopConfig) -> None:
    low = [name for name, p in model.named_parameters() if p.dtype == torch.bfloat16]
    if low and config.precision == "fp32":
        hint = "Train with --precision bf16, or load the model in float32"
        raise TrainingError("precision", got=f"{low[0]} is bf16", want="float32 weights for fp32", hint=hint)


def _check_past(model: Gr00tN1d6, parts: Parts) -> None:
    if model.config.remembered and any(part.past is None for part in parts):
        hint = "Make the samples with memory=config.remembered, or leave memory_offsets out"
        raise TrainingError("memory", got="a batch without a past", want="what came before each sample", hint=hint)


def _check_targets(model: Gr00tN1d6, parts: Parts) -> None:
    heads = model.target_heads
    if heads is None:
        return
    if not heads.is_scaled or any(part.targets is None for part in parts):
        got = "a batch without targets" if heads.is_scaled else "targets without mean and deviation"
        hint = "Experiment.model and Experiment.samples fill them in; else leave grounded_targets out"
        raise TrainingError("grounded_targets", got=got, want="targets of every sample, and their scale", hint=hint)


def _check_pictures(phase: Phase, parts: Parts) -> None:
    if phase.vision_projector and any(part.hidden is not None for part in parts):
        hint = "Train without a feature cache, or leave the vision projector as it is"
        raise TrainingError("vision projector", got="cached hidden states", want="pictures to train it", hint=hint)


def _check_sharing(cluster: Cluster, config: LoopConfig, model: Gr00tN1d6) -> None:
    if cluster.sharded and model.target_heads is not None:
        hint = "Use DDP, or leave grounded_targets out; their gradient is clipped apart, which needs whole weights"
        raise TrainingError("FSDP", got="grounded targets", want="none of them", hint=hint)
    if cluster.sharded and (config.optimizer != "adamw" or config.ema):
        got = f"--optimizer {config.optimizer}, --ema {config.ema:g}"
        hint = "Leave both out; sharing the moments over processes saves more than 8 bits do"
        raise TrainingError("FSDP", got=got, want="--optimizer adamw without --ema", hint=hint)
