"""One optimiser step on one global batch, whatever number of processes and micro-batches it is cut into."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from svms_gr00t.core.errors import TrainingError
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.model import Gr00tN1d6, ModelOutput
from svms_gr00t.train.loop.shares import Draws, Parts, counts
from svms_gr00t.train.losses import total_loss
from svms_gr00t.train.processes.cluster import Cluster

Precision = Literal["fp32", "bf16"]
CLIP = 1.0


def arithmetic(device: torch.device, precision: Precision) -> Any:
    """Context of every forward pass: bf16 lets frozen bfloat16 parts and float32 masters meet."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one step's forward passes said."""

    terms: dict[str, float]
    """Each loss over the global batch."""
    loss: float
    """Their weighted sum."""
    output: ModelOutput
    """Of this process's last micro-batch."""


class Objective(nn.Module):
    """The weighted sum of a model's losses as a module's only output, which is what data parallelism follows back.

    Evidence that no loss reads would leave it waiting for gradients that never come; it is kept in `output` instead.
    """

    def __init__(self, model: Gr00tN1d6) -> None:
        super().__init__()
        self.model = model
        self.output: ModelOutput | None = None

    def forward(self, part: ModelInputs, draws: Draws, weights: dict[str, float]) -> Float[Tensor, ""]:
        """The loss of one micro-batch."""
        self.output = self.model(part, noise=draws.noise, time=draws.time)
        return total_loss(self.output.terms, weights)


class Stepper:
    """Forward, backward and clipping; the optimiser step is the caller's."""

    def __init__(self, model: Gr00tN1d6, cluster: Cluster, *, seed: int, precision: Precision = "fp32") -> None:
        self.model, self.cluster, self.seed, self.precision = model, cluster, seed, precision
        self.objective = Objective(model)
        self.module = cluster.wrap(self.objective)

    def draw(self, number: int, parts: Parts) -> Draws:
        """Noise and times of global batch `number`."""
        action = parts[0].action
        assert action is not None
        rows = sum(len(part.state) for part in parts) * self.cluster.world
        source = torch.Generator().manual_seed(self._mix(number))
        noise = torch.randn((rows, *action.shape[1:]), generator=source)
        return Draws(noise=noise, time=self.model.action_head.draw_time(rows, generator=source))

    def backward(self, number: int, parts: Parts, weights: Mapping[str, float]) -> Outcome:
        """Leave the gradient of the global batch in the parameters.

        Raises TrainingError naming the term and the batch when a loss is NaN or infinite, on every process alike; no
        weight has changed then.
        """
        draws, names = self.draw(number, parts), list(weights)
        own = torch.stack([counts(part, names) for part in parts])
        share = own / self.cluster.sum(own.sum(0)).clamp(min=1)
        torch.manual_seed(self._mix(number) + 7919 * self.cluster.rank)
        sums = torch.zeros(len(names), dtype=torch.float64)
        first = self.cluster.rank * sum(len(part.state) for part in parts)
        for i, part in enumerate(parts):
            rows = range(first, first + len(part.state))
            first = rows.stop
            with self.cluster.syncing(self.module, i == len(parts) - 1):
                parted = {name: float(share[i, j]) * weights[name] for j, name in enumerate(names)}
                loss, output = self._forward(part, draws.at(rows), parted)
                self.cluster.backward(loss)
            values = torch.tensor([float(output.terms[name].detach()) for name in names], dtype=torch.float64)
            sums += torch.where(share[i] > 0, share[i].double() * values, 0.0)
        terms = dict(zip(names, self.cluster.sum(sums).tolist(), strict=True))
        _check({name: value for name, value in terms.items() if weights[name]}, number)
        return Outcome(terms=terms, loss=sum(weights[n] * v for n, v in terms.items() if weights[n]), output=output)

    def clip(self, parameters: Mapping[str, nn.Parameter], number: int) -> float:
        """Scale the gradient to norm `CLIP` at most; its norm before. Raises TrainingError when that is no number."""
        norm = self.cluster.clip(parameters, CLIP)
        _check({"the gradient": norm}, number)
        return norm

    def _forward(
        self, part: ModelInputs, draws: Draws, weights: dict[str, float]
    ) -> tuple[Float[Tensor, ""], ModelOutput]:
        device = self.cluster.device
        with arithmetic(device, self.precision):
            loss = self.module(part.to(device), draws.to(device), weights)
        assert self.objective.output is not None
        return loss, self.objective.output

    def _mix(self, number: int) -> int:
        return self.seed * 1_000_003 + number


def _check(values: Mapping[str, float], number: int) -> None:
    if bad := [name for name, value in values.items() if not math.isfinite(value)]:
        hint = "Lower the learning rate, or look at that batch; what was saved is untouched"
        raise TrainingError(f"batch {number}", got=f"{', '.join(bad)} is not finite", want="finite losses", hint=hint)
