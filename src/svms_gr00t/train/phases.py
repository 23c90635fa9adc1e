"""The three phases as values: what trains, with which weights, how fast and how long.

    1 specialise   SVMS alone            aux strong, sheaf off
    2 couple       + a quarter of the DiT  sheaf adaptive
    3 end to end   + DiT, projectors, top quarter of the language layers, sheaf constant

The plain model is trained beside them on the same batches for the same number of steps. It has no SVMS to specialise,
so in phase 1 its counterpart trains the lowest quarter of the DiT, as in phase 2: it never has fewer steps than SVMS.
"""

from dataclasses import dataclass, replace

from svms_gr00t.core.svms_config import SvmsConfig
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.train.schedules import SheafMode


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stage of training."""

    name: str
    svms: bool
    """SVMS trains (where the model has it)."""
    dit_share: float
    """Share of the DiT's blocks that train, from the first."""
    projectors: bool
    """State and action projectors, time encoder and output of the DiT, vlln."""
    llm_share: float
    """Share of the language layers that train, from the last, with the final norm."""
    lambda_aux: float | None
    """Weight of the auxiliary loss after warm-up; None: the configuration's lambda_aux."""
    sheaf: SheafMode
    """How the sheaf weight moves between the configuration's lambda_sheaf_min and lambda_sheaf_max."""
    learning_rate: float
    steps: int
    batch_size: int
    vision_projector: bool = False
    """The projector between vision tower and language model trains too: what targets say reaches the pictures."""
    svms_rate: float = 1.0
    """SVMS learns at so many times the learning rate: it is fresh, the rest is not."""
    everything: bool = False
    """Every parameter trains, the vision tower too: how a base is made."""

    def trains(self, name: str, config: Gr00tN1d6Config) -> bool:
        """Whether this phase trains the parameter of that name."""
        head = "action_head.model.transformer_blocks."
        layer = "backbone.model.language_model.model.layers."
        if self.everything:
            return True
        if name.startswith("svms."):
            return self.svms
        if name.startswith("targets."):
            return True
        if name.startswith("backbone.model.mlp1."):
            return self.vision_projector
        if name.startswith(head):
            blocks = config.diffusion_model_cfg.num_layers
            return int(name.removeprefix(head).split(".")[0]) < round(self.dit_share * blocks)
        if name.startswith("action_head."):
            return self.projectors
        if name.startswith(layer):
            kept = config.select_layer
            return int(name.removeprefix(layer).split(".")[0]) >= kept - self.llm_layers(kept)
        return self.llm_share > 0 and name.startswith("backbone.model.language_model.model.norm.")

    def llm_layers(self, kept: int) -> int:
        """Language layers that train, of `kept`: a quarter is 4 of 16, and 1 of 3."""
        return max(1, round(self.llm_share * kept)) if self.llm_share else 0


SPECIALISE = Phase(
    name="specialise",
    svms=True,
    dit_share=0.0,
    projectors=False,
    llm_share=0.0,
    lambda_aux=0.5,
    sheaf="off",
    learning_rate=1e-4,
    steps=5_000,
    batch_size=16,
)
COUPLE = replace(
    SPECIALISE,
    name="couple",
    dit_share=0.25,
    lambda_aux=0.2,
    sheaf="adaptive",
    learning_rate=5e-5,
    steps=10_000,
    batch_size=12,
)
END_TO_END = replace(
    COUPLE,
    name="end to end",
    dit_share=1.0,
    projectors=True,
    llm_share=0.25,
    lambda_aux=0.05,
    sheaf="constant",
    learning_rate=1e-5,
    steps=5_000,
    batch_size=8,
)
PHASES = {phase.name: phase for phase in (SPECIALISE, COUPLE, END_TO_END)}


def plain_counterpart(phase: Phase) -> Phase:
    """The same steps, rate and batch for the model without SVMS."""
    return replace(phase, svms=False, dit_share=max(phase.dit_share, COUPLE.dit_share))


def loss_weights(
    phase: Phase, config: SvmsConfig, step: int, sheaf: float, *, labels: bool, targets: bool = False
) -> dict[str, float]:
    """Weight of each term at a step; `sheaf` is what the phase's schedule says now.

    `labels`: the batch has token labels. `targets`: the model has heads for grounded targets.
    """
    weights = {"flow": 1.0}
    if config.has_streams:
        weights |= {"sheaf": sheaf, "collapse": sheaf, "balance": config.router_balance_weight}
        if config.use_aux_losses and labels:
            warm = 1.0 if config.aux_warmup_steps == 0 else min(step / config.aux_warmup_steps, 1.0)
            weights["aux"] = warm * (config.lambda_aux if phase.lambda_aux is None else phase.lambda_aux)
    if config.use_sheaf_streams and config.memory_offsets:
        weights["recall"] = config.lambda_recall
    if targets:
        weights |= dict.fromkeys(config.grounded_targets, config.lambda_targets)
    return weights
