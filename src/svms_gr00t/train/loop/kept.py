"""What a phase changes, by name: taken for a checkpoint as it lies, and put back where it lies.

The model's own `state_dict` would copy whole embodiment banks, of which one row trains; here that row is kept.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.train.loop.run_dir import Checkpoint
from svms_gr00t.train.optimizers.optimizer import optimizer_tensors, owner_of, restore_optimizer
from svms_gr00t.train.processes.cluster import Cluster

log = logging.getLogger(__name__)


class Kept:
    """Weights that train, SVMS with its buffers, their averages and moments."""

    def __init__(
        self,
        model: Gr00tN1d6,
        parameters: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        mean: dict[str, Tensor],
        cluster: Cluster,
    ) -> None:
        self.model, self.parameters, self.optimizer, self.mean = model, parameters, optimizer, mean
        self.cluster = cluster

    def weights(self) -> dict[str, Tensor]:
        """The tensors themselves, which the next step writes into; averages are "ema.<name>"."""
        svms = self.model.svms
        found = {} if svms is None else {f"svms.{name}": value for name, value in svms.state_dict().items()}
        found |= {name: value.detach() for name, value in self.parameters.items()}
        return found | {f"ema.{name}": value for name, value in self.mean.items()}

    def moments(self) -> dict[str, Tensor]:
        """The same of the optimiser."""
        return optimizer_tensors(self.optimizer, self.parameters)

    @torch.no_grad()
    def put_back(self, stored: Checkpoint) -> None:
        """Fill everything from a checkpoint that `check` accepted, one tensor at a time."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.cluster.like(parameter, stored.model[name]))
        if (svms := self.model.svms) is not None:  # through its own door: it refreshes what depends on the weights
            svms.load_state_dict({name: stored.model[f"svms.{name}"] for name in svms.state_dict()})
        for name, value in self.mean.items():
            value.copy_(stored.model[f"ema.{name}"])
        restore_optimizer(self.optimizer, self.parameters, stored.optimizer, like=self.cluster.like)
        if not stored.state.moments:
            lost = (
                "step %d was saved without the optimiser's moments: they start anew, and no uninterrupted run is equal"
            )
            log.warning(lost, stored.state.done)

    def check(self, stored: Checkpoint, phase: str, where: Path) -> None:
        """Raise CheckpointError unless the checkpoint is of this phase and holds exactly what it changes."""
        want = {name: tuple(value.shape) for name, value in self.weights().items()}
        odd = [name for name, _ in sorted(want.items() ^ stored.model.shapes().items())]
        odd += self._odd_moments(stored.optimizer.shapes().items())
        if stored.state.moments != bool(len(stored.optimizer)):
            odd.append("number of moments")
        if odd or stored.state.phase != phase:
            got = f"phase {stored.state.phase}" + (f" with another {odd[0]}" if odd else "")
            hint = "Choose another folder, or train with the settings that it was begun with"
            raise CheckpointError(where, got=got, want=f"phase {phase} of this model", hint=hint)

    def _odd_moments(self, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> list[str]:
        """Names of moments that belong to nothing that trains, or have another shape."""
        odd = []
        for name, shape in shapes:
            kind, owner = owner_of(name)
            parameter = self.parameters.get(owner)
            whole = kind in ("exp_avg", "exp_avg_sq")
            if parameter is None or (whole and tuple(parameter.shape) != shape):
                odd.append(name)
        return odd
