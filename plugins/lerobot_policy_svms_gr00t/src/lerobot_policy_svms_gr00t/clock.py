"""How far training is: the step that schedules and all random numbers follow, kept with the weights.

LeRobot tells a policy nothing but that an optimiser step is done (`update()`), and saves its tensors alone. Its resumed
runs draw other random numbers than uninterrupted ones; here those of a step depend on (seed, step) alone.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from svms_gr00t import SheafStreams, SvmsConfig
from svms_gr00t.train.phases import Phase, loss_weights
from svms_gr00t.train.schedules import SheafWeight, temperature


class Clock(nn.Module):
    """Steps of all phases so far, of the present one, and what the sheaf's schedule has seen."""

    seed: torch.Tensor
    steps: torch.Tensor
    begun: torch.Tensor
    phase: torch.Tensor
    smoothed: torch.Tensor
    started: torch.Tensor

    def __init__(self, phase: int) -> None:
        super().__init__()
        self.register_buffer("seed", torch.randint(2**31, ()))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("begun", torch.tensor(0))  # steps before this phase
        self.register_buffer("phase", torch.tensor(phase))
        self.register_buffer("smoothed", torch.tensor(math.nan, dtype=torch.float64))
        self.register_buffer("started", torch.tensor(-1))
        self._flow: float | None = None

    def enter(self, phase: int) -> None:
        """Go on with this phase; another one than the last begins with a schedule of its own."""
        if int(self.phase) != phase:
            self.phase.fill_(phase)
            self.begun.copy_(self.steps)
            self.smoothed.fill_(math.nan)
            self.started.fill_(-1)

    @contextmanager
    def randomness(self, device: torch.device) -> Iterator[None]:
        """Noise, times, augmentation and dropout of the step that is under way; nobody else's draws change."""
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(self.seed) * 1_000_003 + int(self.steps) + 7919 * rank)
            yield

    def weights(self, config: SvmsConfig, svms: nn.Module | None, phase: Phase, *, labels: bool) -> dict[str, float]:
        """Weight of each loss of the forward pass to come; the router's temperature is set alike."""
        number = int(self.steps)
        if isinstance(svms, SheafStreams):
            first, last, over = config.router_temp_init, config.router_temp_final, config.router_temp_decay_steps
            svms.set_temperature(temperature(number, initial=first, final=last, decay_steps=over))
        sheaf = self._sheaf(config, phase).at(number - int(self.begun))
        return loss_weights(phase, config, number, sheaf, labels=labels)

    def hear(self, flow: float) -> None:
        """The flow loss of the step that is under way."""
        self._flow = flow

    def tick(self, config: SvmsConfig, phase: Phase) -> None:
        """The optimiser has stepped."""
        if self._flow is None:
            return
        sheaf = self._sheaf(config, phase)
        sheaf.see(int(self.steps) - int(self.begun), self._flow)
        self.smoothed.fill_(math.nan if sheaf.smoothed is None else sheaf.smoothed)
        self.started.fill_(-1 if sheaf.started is None else sheaf.started)
        self.steps += 1
        self._flow = None

    def _sheaf(self, c: SvmsConfig, phase: Phase) -> SheafWeight:
        smoothed, started = float(self.smoothed), int(self.started)
        return SheafWeight(
            mode=phase.sheaf if c.sheaf_schedule_mode == "adaptive" else c.sheaf_schedule_mode,
            low=c.lambda_sheaf_min,
            high=c.lambda_sheaf_max,
            threshold=c.sheaf_delay_until_diffusion,
            ramp_steps=c.sheaf_ramp_steps,
            smoothed=None if math.isnan(smoothed) else smoothed,
            started=None if started < 0 else started,
        )
