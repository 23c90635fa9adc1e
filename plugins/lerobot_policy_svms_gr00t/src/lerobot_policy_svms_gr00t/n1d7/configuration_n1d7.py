"""The flags of `--policy.type=svms_gr00t_n1d7`: those of LeRobot's `groot`, and ours."""

from dataclasses import dataclass, field, fields
from typing import Any

from lerobot.configs import PreTrainedConfig
from lerobot.optim import AdamWConfig
from lerobot.policies.groot.configuration_groot import GrootConfig

from svms_gr00t import SvmsConfig
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.train.phases import PHASES, Phase

TUNES = {
    "tune_llm": False,
    "tune_visual": False,
    "tune_projector": True,
    "tune_diffusion_model": True,
    "tune_vlln": True,
    "tune_top_llm_layers": 0,
}
"""LeRobot's switches, left at their defaults: a phase says what trains."""


@PreTrainedConfig.register_subclass("svms_gr00t_n1d7")
@dataclass
class SvmsGr00tN1d7Config(GrootConfig):
    """One phase of training SVMS on N1.7. What is not here is LeRobot's own."""

    phase: int = 1
    """1 specialise, 2 couple, 3 end to end. Go on with the next one by --policy.path=CHECKPOINT --policy.phase=2."""
    svms: dict[str, Any] = field(default_factory=dict)
    """Fields of the SVMS configuration: --policy.svms='{lambda_aux: 0.7}'."""
    delta: bool = False
    """A saved policy holds svms.* alone and names its base; phase 1 only, which leaves the base as it is."""
    optimizer_lr: float | None = None  # type: ignore[assignment]
    """Peak learning rate; by default the phase's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.phase not in (1, 2, 3):
            raise ConfigError("policy.phase", got=self.phase, want="1, 2 or 3", hint="They follow one another")
        if self.delta and self.phase != 1:
            hint = "Save the whole policy: leave --policy.delta out"
            raise ConfigError("policy.delta", got=f"phase {self.phase}", want="phase 1", hint=hint)
        for name, default in TUNES.items():
            if getattr(self, name) != default:
                hint = "Choose --policy.phase: it says what trains"
                raise ConfigError(f"policy.{name}", got=getattr(self, name), want=f"{default}", hint=hint)
        if self.use_peft:
            hint = "A phase says what trains; train phase 1 for the smallest number of weights"
            raise ConfigError("policy.use_peft", got=True, want="false", hint=hint)
        _ = self.streams

    @classmethod
    def behind(cls, plain: GrootConfig, **changes: Any) -> "SvmsGr00tN1d7Config":
        """A plain policy's configuration with SVMS; its learning rate and what it trained are left behind."""
        left = {"optimizer_lr", *TUNES}
        kept = {f.name: getattr(plain, f.name) for f in fields(plain) if f.init and f.name not in left}
        return cls(**(kept | changes))

    @property
    def streams(self) -> SvmsConfig:
        """The configuration of SVMS. Raises ConfigError or DataError for what it cannot be."""
        return SvmsConfig.from_dict(dict(self.svms))

    @property
    def chosen_phase(self) -> Phase:
        """What trains, with which weights."""
        return tuple(PHASES.values())[self.phase - 1]

    def get_optimizer_preset(self) -> AdamWConfig:
        """LeRobot's, at the phase's rate."""
        rate = self.chosen_phase.learning_rate if self.optimizer_lr is None else self.optimizer_lr
        return AdamWConfig(
            lr=rate,
            betas=self.optimizer_betas,
            eps=self.optimizer_eps,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=1.0,
        )
