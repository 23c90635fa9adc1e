"""Streams between the parts of somebody else's model, whose forward pass has no place for labels or further losses.

Axes: B batch, T tokens, M the model's width, C labelled streams.

    loss, told = inserted.learn(lambda: the model's own loss, batch, phase)     its tokens pass `inserted` on the way
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from lerobot_policy_svms_gr00t.clock import Clock
from svms_gr00t import SheafStreams, SvmsConfig
from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.types import StreamStates
from svms_gr00t.train.losses import total_loss
from svms_gr00t.train.phases import Phase

LABELS = {"labels": "svms.labels", "label_mask": "svms.label_mask", "label_weight": "svms.label_weight"}
"""What `SheafStreams` calls the labels, and what a batch does: (B, T, C), (B, T) and (C)."""


class Inserted(nn.Module):
    """SVMS, its schedules and its labels as one module of another model: every tensor of it is `svms.*` there."""

    def __init__(self, config: SvmsConfig, dim: int, *, phase: int) -> None:
        """For tokens of width `dim`. Raises ConfigError for memory and grounded targets, which N1.6 alone has."""
        super().__init__()
        for name in ("memory_offsets", "grounded_targets"):
            if getattr(config, name):
                hint = "They are --policy.type=svms_gr00t's"
                raise ConfigError(f"svms.{name}", got=getattr(config, name), want="none of them here", hint=hint)
        self.config = config
        self.streams = SheafStreams.from_config(config, dim)
        self.clock = Clock(phase)
        self.states: StreamStates | None = None
        """What the streams said of the last batch that was acted on."""
        self._labels: dict[str, Tensor] = {}
        self._terms: dict[str, Tensor] | None = None

    def forward(
        self,
        tokens: Float[Tensor, "B T M"],
        mask: Bool[Tensor, "B T"],
        image_mask: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T M"]:
        """The tokens with the streams' say. The model's own random numbers stay those that they are without SVMS."""
        learning = self._terms is not None
        with self.clock.randomness(tokens.device) if self.training else nullcontext():
            states = self.streams(tokens, mask, image_mask=image_mask, losses=learning, **self._labels)
        if self._terms is None:
            self.states = states
        else:
            self._terms |= states.terms
        return states.tokens

    def learn(
        self, flow: Callable[[], Tensor], batch: Mapping[str, Any], phase: Phase
    ) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum of the model's own loss, which `flow` computes, and of ours; each of them by name.

        Raises DataError for a batch without the labels that the configuration wants.
        """
        if self.config.use_aux_losses:
            if lost := [name for name in LABELS.values() if name not in batch]:
                hint = "The policy's own preprocessor puts it there; or set svms use_aux_losses to false"
                raise DataError("batch", got=f"no {lost[0]}", want="labels of the instruction's tokens", hint=hint)
            self._labels = {name: batch[key] for name, key in LABELS.items()}
        weights = self.clock.weights(self.config, self.streams, phase, labels=bool(self._labels))
        self._terms = terms = {}
        try:
            terms["flow"] = flow()
        finally:
            self._labels, self._terms = {}, None
        told = {name: float(term.detach()) for name, term in terms.items()}
        if self.training:
            self.clock.hear(told["flow"])
        return total_loss(terms, weights), told | {f"weight.{name}": weight for name, weight in weights.items()}
