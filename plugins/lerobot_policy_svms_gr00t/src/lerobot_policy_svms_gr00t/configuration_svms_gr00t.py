"""The flags of `--policy.type=svms_gr00t`. LeRobot finds the policy and its pipelines by the names of these modules."""

from dataclasses import dataclass, field
from typing import Any, Literal

from lerobot.configs import FeatureType, NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.history import check_executed
from svms_gr00t.train.phases import PHASES, Phase, plain_counterpart

CLIP, WARMUP, WEIGHT_DECAY = 1.0, 0.05, 1e-5
"""Of our own training loop."""


def _as_they_are() -> dict[str, NormalizationMode]:
    return dict.fromkeys((kind.value for kind in FeatureType), NormalizationMode.IDENTITY)


@PreTrainedConfig.register_subclass("svms_gr00t")
@dataclass
class SvmsGr00tConfig(PreTrainedConfig):
    """One phase of training, and how the policy acts. What is not here is the base checkpoint's."""

    base_model_path: str | None = None
    """N1.6 checkpoint to start from: a folder, a hub id, "shipped" for the tiny one; none makes a tiny fresh model.
    A saved policy does not read it again."""
    embodiment_tag: str = "new_embodiment"
    """Robot; one that the base knows keeps the base's keys and statistics."""
    phase: int = 1
    """1 specialise, 2 couple, 3 end to end. Go on with the next one by --policy.path=CHECKPOINT --policy.phase=2."""
    use_sheaf_streams: bool = True
    """Off trains plain GR00T N1.6."""
    svms: dict[str, Any] = field(default_factory=dict)
    """Other fields of the SVMS configuration: --policy.svms='{lambda_aux: 0.7}'."""
    memory_frames: int = 1
    """Observations that the policy sees, the present one counts: 1 is no memory."""
    memory_stride: int = 8
    """Dataset frames between two of them; n_action_steps must divide it."""
    chunk_size: int = 16
    """Steps of a predicted chunk, those of the base's robot."""
    n_action_steps: int = 8
    """Steps of a chunk that are executed before the next one is asked for."""
    augment: bool = True
    """Crops and colours of the base's processor in training, beside LeRobot's own --dataset.image_transforms."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 keeps what is frozen in 16 bits and computes in them; what trains is float32 either way."""
    optimizer_lr: float | None = None
    """Peak learning rate; by default the phase's, which suits the released size."""
    normalization_mapping: dict[str, NormalizationMode] = field(default_factory=_as_they_are)
    """LeRobot's steps leave numbers as they are: our processor normalises, with the statistics of the checkpoint."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.phase not in (1, 2, 3):
            raise ConfigError("policy.phase", got=self.phase, want="1, 2 or 3", hint="They follow one another")
        if self.memory_frames < 1 or self.memory_stride < 1:
            got, want = (self.memory_frames, self.memory_stride), "at least 1 each"
            raise ConfigError("policy.memory_frames, memory_stride", got=got, want=want, hint="1 frame is no memory")
        if not 1 <= self.n_action_steps <= self.chunk_size:
            want = f"1 to {self.chunk_size}, the chunk"
            raise ConfigError("policy.n_action_steps", got=self.n_action_steps, want=want, hint="8 is the default")
        if self.memory_offsets:
            check_executed(self.n_action_steps, self.memory_offsets, "policy.n_action_steps")
        if self.use_peft:
            hint = "A phase says what trains; train phase 1 for the smallest number of weights"
            raise ConfigError("policy.use_peft", got=True, want="false", hint=hint)

    @property
    def memory_offsets(self) -> tuple[int, ...]:
        """Earlier frames that memory keeps, oldest first; () without memory."""
        if not self.use_sheaf_streams:
            return ()
        return tuple(-self.memory_stride * k for k in range(self.memory_frames - 1, 0, -1))

    @property
    def chosen_phase(self) -> Phase:
        """What trains, with which weights."""
        found = tuple(PHASES.values())[self.phase - 1]
        return found if self.use_sheaf_streams else plain_counterpart(found)

    @property
    def observation_delta_indices(self) -> list[int] | None:
        """Frames of every observation in a training batch."""
        return [*self.memory_offsets, 0] if self.memory_offsets else None

    @property
    def action_delta_indices(self) -> list[int]:
        """Frames of the recorded chunk."""
        return list(range(self.chunk_size))

    @property
    def reward_delta_indices(self) -> None:
        """None: rewards are not read."""
        return

    def get_optimizer_preset(self) -> AdamWConfig:
        """Our loop's AdamW."""
        rate = self.chosen_phase.learning_rate if self.optimizer_lr is None else self.optimizer_lr
        return AdamWConfig(lr=rate, weight_decay=WEIGHT_DECAY, grad_clip_norm=CLIP)

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        """Warm-up and a cosine to zero over the phase's steps, or over --steps where those are fewer."""
        steps, rate = self.chosen_phase.steps, self.get_optimizer_preset().lr
        return CosineDecayWithWarmupSchedulerConfig(
            num_warmup_steps=round(WARMUP * steps), num_decay_steps=steps, peak_lr=rate, decay_lr=0.0
        )

    def validate_features(self) -> None:
        """Raises ConfigError for a robot without a camera, or without one vector of actions."""
        if not self.image_features:
            got, hint = list(self.input_features or {}), "SVMS reads pictures"
            raise ConfigError("policy.input_features", got=got, want="a camera", hint=hint)
        if self.action_feature is None:
            got, hint = list(self.output_features or {}), "LeRobot's name for it is action"
            raise ConfigError("policy.output_features", got=got, want="action", hint=hint)
