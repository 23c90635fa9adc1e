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
from svms_gr00t.core.svms_config import GROUNDED
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
        self.apart: Tensor | None = None
        """The weighted sum of the grounded targets, which is no part of the output; None without them."""

    def forward(self, part: ModelInputs, draws: Draws, weights: dict[str, float]) -> Float[Tensor, ""]:
        """The loss of one micro-batch."""
        self.output = self.model(part, noise=draws.noise, time=draws.time)
        aims = {name: weight for name, weight in weights.items() if name in GROUNDED and weight}
        self.apart = total_loss({name: self.output.terms[name] for name in aims}, aims) if aims else None
        return total_loss(self.output.terms, weights | dict.fromkeys(aims, 0.0))


class Stepper:
    """Forward, backward and clipping; the optimiser step is the caller's.

    Grounded targets have a gradient of their own, which is clipped apart: in one clip with the others they would take
    from the flow's share whenever they are large.
    """

    def __init__(self, model: Gr00tN1d6, cluster: Cluster, *, seed: int, precision: Precision = "fp32") -> None:
        self.model, self.cluster, self.seed, self.precision = model, cluster, seed, precision
        self.objective = Objective(model)
        self.module = cluster.wrap(self.objective)
        self.apart: dict[str, Tensor] = {}
        """Gradient of the grounded targets, by parameter."""
        self.apart_norm: float | None = None
        """Its norm before clipping; None without targets."""

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
        draws, names, self.apart = self.draw(number, parts), list(weights), {}
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
                self._set_apart()
                self.cluster.backward(loss)
            values = torch.tensor([float(output.terms[name].detach()) for name in names], dtype=torch.float64)
            sums += torch.where(share[i] > 0, share[i].double() * values, 0.0)
        terms = dict(zip(names, self.cluster.sum(sums).tolist(), strict=True))
        _check({name: value for name, value in terms.items() if weights[name]}, number)
        return Outcome(terms=terms, loss=sum(weights[n] * v for n, v in terms.items() if weights[n]), output=output)

    def clip(self, parameters: Mapping[str, nn.Parameter], number: int) -> float:
        """Scale the gradient to norm `CLIP` at most; its norm before. Raises TrainingError when that is no number.

        The gradient of grounded targets is clipped apart in the same way, and then added.
        """
        norm = self.cluster.clip(parameters, CLIP)
        _check({"the gradient": norm}, number)
        self.apart_norm = self._join(parameters) if self.apart else None
        _check({"the gradient of the targets": self.apart_norm or 0.0}, number)
        return norm

    def _set_apart(self) -> None:
        """Keep the gradient of this micro-batch's grounded targets aside; the graph stays for the other losses."""
        if self.objective.apart is None:
            return
        own = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        found = torch.autograd.grad(self.objective.apart, list(own.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(own, found, strict=True):
            if gradient is not None:
                self.apart[name] = self.apart[name] + gradient if name in self.apart else gradient

    @torch.no_grad()
    def _join(self, parameters: Mapping[str, nn.Parameter]) -> float:
        """Add what was kept aside, clipped; its norm before."""
        gradients = {name: self.cluster.sum(value) for name, value in self.apart.items()}
        self.apart = {}
        norm = float(torch.stack([value.float().square().sum() for value in gradients.values()]).sum().sqrt())
        scale = min(1.0, CLIP / (norm + 1e-6))
        for name, value in gradients.items():
            kept = parameters[name].grad
            parameters[name].grad = value * scale if kept is None else kept.add_(value, alpha=scale)
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
