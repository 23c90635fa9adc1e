"""The training loop of one phase: deterministic, resumable at any step, and loud when a loss stops being a number.

Batch n and all random numbers of step n depend on (seed, n) alone: a resumed run is bit for bit the uninterrupted one.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from svms_gr00t.core.errors import TrainingError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.model import Gr00tN1d6, ModelOutput
from svms_gr00t.train.interrupts import BetweenSteps
from svms_gr00t.train.losses import total_loss
from svms_gr00t.train.optimizer import make_optimizer
from svms_gr00t.train.phases import Phase, loss_weights
from svms_gr00t.train.run_dir import Row, RunDir, Snapshot, optimizer_tensors, restore_optimizer
from svms_gr00t.train.schedules import SheafWeight, cosine, temperature
from svms_gr00t.train.trainable import prepare

CLIP = 1.0


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What the loop itself needs to know."""

    seed: int = 0
    first_step: int = 0
    """Steps of earlier phases: batches, warm-up and temperature go on from there."""
    checkpoint_every: int = 100
    log_every: int = 5


def train_phase(
    model: Gr00tN1d6,
    phase: Phase,
    batches: Callable[[int], ModelInputs],
    run: RunDir,
    *,
    config: LoopConfig | None = None,
    progress: Progress | None = None,
    title: str = "",
) -> list[Row]:
    """Train one phase, or go on where `run` stopped; returns its metrics. `model` is left in eval mode.

    Raises TrainingError when a loss is NaN or infinite (the last checkpoint stays) or nothing trains. On an interrupt
    the steps so far are saved first.
    """
    config = config or LoopConfig()
    loop = _Loop(model, phase, batches, run.create(), config)
    begin = loop.resume()
    with (progress or Silent()).task(title or phase.name, phase.steps) as bar, BetweenSteps() as interrupts:
        bar.advance(begin)
        for step in range(begin, phase.steps):
            bar.note(loop.step(step))
            try:
                interrupts.check()
                bar.advance()
            except KeyboardInterrupt:
                loop.save()
                raise
    loop.save()
    model.eval()
    return run.rows()


class _Loop:
    def __init__(
        self,
        model: Gr00tN1d6,
        phase: Phase,
        batches: Callable[[int], ModelInputs],
        run: RunDir,
        config: LoopConfig,
    ) -> None:
        self.model, self.phase, self.batches, self.run, self.config = model, phase, batches, run, config
        self.parameters: dict[str, nn.Parameter] = prepare(model, phase)
        self.optimizer = make_optimizer(self.parameters, learning_rate=phase.learning_rate)
        c = model.config
        self.sheaf = SheafWeight(
            mode=phase.sheaf if c.sheaf_schedule_mode == "adaptive" else c.sheaf_schedule_mode,
            low=c.lambda_sheaf_min,
            high=c.lambda_sheaf_max,
            threshold=c.sheaf_delay_until_diffusion,
            ramp_steps=c.sheaf_ramp_steps,
        )
        self.done = 0

    def resume(self) -> int:
        """The first step to do."""
        snapshot = self.run.load()
        if snapshot is None:
            self.run.rows(below=0)
            return 0
        self.model.load_state_dict(snapshot.model, strict=False)
        restore_optimizer(self.optimizer, list(self.parameters), snapshot.optimizer)
        self.sheaf.load_state_dict(snapshot.state["sheaf"])
        self.done = int(snapshot.state["done"])
        self.run.rows(below=self.done)
        return self.done

    def save(self) -> None:
        """Write the checkpoint."""
        state = self.model.state_dict()
        kept = {n: v.detach().clone() for n, v in state.items() if n in self.parameters or n.startswith("svms.")}
        self.run.save(
            Snapshot(
                model=kept,
                optimizer=optimizer_tensors(self.optimizer, list(self.parameters)),
                state={"done": self.done, "phase": self.phase.name, "sheaf": self.sheaf.state_dict()},
            )
        )

    def step(self, step: int) -> str:
        """One optimiser step; returns a note for the bar."""
        began, number = time.monotonic(), self.config.first_step + step
        batch = self.batches(number)
        waited = time.monotonic() - began
        torch.manual_seed(self.config.seed * 1_000_003 + number)
        self._heat(number)
        output = self.model(batch)
        weights = loss_weights(
            self.phase, self.model.config, number, self.sheaf.at(step), labels=batch.labels is not None
        )
        loss = total_loss(output.terms, weights)
        self._check(output, loss, step)
        rate = self.phase.learning_rate * cosine(step, self.phase.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), CLIP))
        self.optimizer.step()
        flow = float(output.terms["flow"].detach())
        self.sheaf.see(step, flow)
        self.done = step + 1
        if step % self.config.log_every == 0 or self.done == self.phase.steps:
            seconds = time.monotonic() - began
            row = {"step": step, "loss": float(loss.detach()), "lr": rate, "grad_norm": norm, "seconds": seconds}
            self.run.append(row | {"data_wait": waited / seconds} | self._measures(output, weights))
        if self.done % self.config.checkpoint_every == 0 and self.done < self.phase.steps:
            self.save()
        return f"flow {flow:.3f}"

    def _heat(self, number: int) -> None:
        c = self.model.config
        if self.model.svms is not None:
            tau = temperature(
                number, initial=c.router_temp_init, final=c.router_temp_final, decay_steps=c.router_temp_decay_steps
            )
            self.model.svms.set_temperature(tau)

    def _check(self, output: ModelOutput, loss: torch.Tensor, step: int) -> None:
        if math.isfinite(float(loss.detach())):
            return
        bad = [name for name, value in output.terms.items() if not math.isfinite(float(value.detach()))] or ["the sum"]
        hint = "Lower the learning rate, or look at that batch; the last checkpoint is untouched"
        where = f"phase {self.phase.name}, step {step}"
        raise TrainingError(where, got=f"{', '.join(bad)} is not finite", want="finite losses", hint=hint)

    def _measures(self, output: ModelOutput, weights: dict[str, float]) -> Row:
        row: Row = {f"term.{name}": float(value.detach()) for name, value in output.terms.items()}
        row |= {f"weight.{name}": value for name, value in weights.items()}
        states = output.states
        if states is not None:
            assert self.model.svms is not None
            valid = states.weights.sum(-1) > 0
            graph = self.model.svms.graph
            shares, rho = states.weights.detach()[valid].mean(0), states.rho.detach()[valid].mean(0)
            row |= {f"route.{name}": float(v) for name, v in zip(graph.streams, shares, strict=True)}
            row |= {f"rho.{name}": float(v) for name, v in zip(graph.edge_names, rho, strict=True)}
            row["temperature"] = float(self.model.svms.router.temperature)
        return row
