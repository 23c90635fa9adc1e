"""How long, how fast and with what batches the three phases train: what demo, ablation and training all choose."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.train.phases import COUPLE, END_TO_END, PHASES, SPECIALISE, Phase

HINT = "One holds for every phase, three for one phase each"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Numbers of the three phases, in order."""

    steps: tuple[int, int, int]
    """Optimiser steps."""
    learning_rates: tuple[float, float, float]
    """Peak learning rates."""
    batch_sizes: tuple[int, int, int]
    """Samples of one optimiser step."""
    svms_rate: float = 1.0
    """SVMS learns at so many times these rates."""

    @property
    def total(self) -> int:
        """Steps of all phases."""
        return sum(self.steps)

    def changed(
        self,
        *,
        steps: Sequence[int] = (),
        learning_rates: Sequence[float] = (),
        batch_sizes: Sequence[int] = (),
        svms_rate: float | None = None,
    ) -> "Budget":
        """No value keeps what is here, one holds for every phase, three for one phase each; others: ConfigError."""
        return Budget(
            steps=three("max_steps", steps, self.steps),
            learning_rates=three("learning_rate", learning_rates, self.learning_rates),
            batch_sizes=three("global_batch_size", batch_sizes, self.batch_sizes),
            svms_rate=self.svms_rate if svms_rate is None else svms_rate,
        )

    def phases(self) -> tuple[Phase, ...]:
        """The three phases with these numbers."""
        numbers = zip(PHASES.values(), self.steps, self.learning_rates, self.batch_sizes, strict=True)
        return tuple(
            replace(phase, steps=steps, learning_rate=rate, batch_size=batch, svms_rate=self.svms_rate)
            for phase, steps, rate, batch in numbers
        )

    def short_schedules(self) -> dict[str, Any]:
        """SVMS schedules that fit a short run; the configuration's defaults are for 20,000 steps."""
        return {
            "aux_warmup_steps": max(1, self.total // 20),
            "router_temp_decay_steps": max(1, self.total),
            "sheaf_ramp_steps": max(1, self.total // 8),
            "lambda_sheaf_max": 0.1,
        }


def three(name: str, values: Sequence[Any], default: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """One value for each phase. Raises ConfigError unless there are none, one or three."""
    if len(values) not in (0, 1, 3):
        raise ConfigError(name, got=tuple(values), want="no value, one, or three", hint=HINT)
    if not values:
        return default
    first, second, third = values if len(values) == 3 else (values[0],) * 3
    return first, second, third


RELEASED = Budget(
    steps=(SPECIALISE.steps, COUPLE.steps, END_TO_END.steps),
    learning_rates=(SPECIALISE.learning_rate, COUPLE.learning_rate, END_TO_END.learning_rate),
    batch_sizes=(SPECIALISE.batch_size, COUPLE.batch_size, END_TO_END.batch_size),
)
"""N1.6's size, one card of 32 GB."""
TINY = Budget(steps=(120, 120, 160), learning_rates=(1e-3, 1e-3, 2e-4), batch_sizes=(32, 32, 32))
"""A tiny model wants few steps and larger rates than N1.6."""
