"""The rows of an ablation: plain N1.6, an adapter, SVMS without each of its parts, and what might make SVMS better."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from svms_gr00t.core.svms_config import GROUNDED
from svms_gr00t.recipes.training.budget import Budget
from svms_gr00t.train.phases import Phase


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the table."""

    says: str
    """What it is, in the table's words."""
    kind: Literal["plain", "adapter", "svms"] = "svms"
    """Which model trains."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the SVMS configuration that differ from the full one."""
    shuffle_labels: bool = False
    """Deal each instruction's labels out anew among its words."""
    label_images: bool = False
    """Label image tokens too, all Visual."""
    svms_rate: float | None = None
    """What stands between backbone and DiT learns at so many times the rate; None takes the configuration's."""
    vision_projector: bool = False
    """The last phase trains the vision projector too."""
    together: bool = False
    """Every phase trains what the last one trains, at its rate."""
    reference: str = "plain"
    """The variant it is compared with."""

    def phases(self, budget: Budget) -> tuple[Phase, ...]:
        """What it trains in turn: the same steps, batches and loss weights for every variant."""
        rate = budget.svms_rate if self.svms_rate is None else self.svms_rate
        found = budget.changed(svms_rate=rate).phases()
        if self.vision_projector:
            found = tuple(replace(phase, vision_projector=phase.projectors) for phase in found)
        if not self.together:
            return found
        same = [{name: getattr(phase, name) for name in ("name", "lambda_aux", "sheaf", "steps")} for phase in found]
        return tuple(replace(found[-1], **kept) for kept in same)


_TARGETS = {"grounded_targets": tuple(GROUNDED)}
VARIANTS: dict[str, Variant] = {
    "plain": Variant(says="plain N1.6", kind="plain"),
    "adapter": Variant(says="residual MLP of equal size", kind="adapter"),
    "no_aux": Variant(says="SVMS without token labels", changes={"use_aux_losses": False}),
    "no_sheaf_loss": Variant(says="SVMS without sheaf loss", changes={"sheaf_schedule_mode": "off"}),
    "no_correction": Variant(says="SVMS without correction", changes={"sheaf_unroll_steps": 0}),
    "uniform_router": Variant(says="SVMS with equal weights", changes={"router_mode": "uniform"}),
    "shuffled_labels": Variant(says="SVMS with shuffled labels", shuffle_labels=True),
    "full": Variant(says="SVMS"),
}
"""The ablation, in the order of the table."""
REMEDIES: dict[str, Variant] = {
    "fast": Variant(says="SVMS at five times the rate", svms_rate=5.0),
    "no_dropout": Variant(says="SVMS without stream dropout", changes={"router_stream_dropout_p": 0.0}),
    "wide": Variant(says="SVMS twice as wide", changes={"d_stream": 128, "d_overlap": 64, "adapter_rank": 32}),
    "image_labels": Variant(says="SVMS, image tokens labelled Visual", label_images=True),
    "plain_together": Variant(says="plain N1.6, all at once", kind="plain", together=True),
    "adapter_together": Variant(
        says="adapter, all at once, at five times the rate",
        kind="adapter",
        together=True,
        svms_rate=5.0,
        reference="plain_together",
    ),
    "full_together": Variant(
        says="SVMS, all at once, at five times the rate", together=True, svms_rate=5.0, reference="plain_together"
    ),
    "plain_targets": Variant(says="plain N1.6 with grounded targets", kind="plain", changes=_TARGETS),
    "adapter_targets": Variant(says="adapter with grounded targets", kind="adapter", changes=_TARGETS),
    "targets": Variant(says="SVMS with grounded targets", changes=_TARGETS),
    "plain_projector": Variant(says="plain N1.6, vision projector trained", kind="plain", vision_projector=True),
    "plain_targets_projector": Variant(
        says="the same with grounded targets",
        kind="plain",
        changes=_TARGETS,
        vision_projector=True,
        reference="plain_projector",
    ),
    "targets_projector": Variant(
        says="SVMS with grounded targets, vision projector trained",
        changes=_TARGETS,
        vision_projector=True,
        reference="plain_projector",
    ),
}
"""What might help SVMS: step size, capacity, labels, order of training, grounded targets. Sizes are those of the tiny
preset."""
ALL = VARIANTS | REMEDIES
