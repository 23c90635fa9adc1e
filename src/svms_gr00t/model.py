"""GR00T N1.6 with SVMS: reads like the figure.

Axes: B batch, T tokens, M model width, S streams, E edges, H horizon, Da action width.

    images, instruction -> backbone -> features -> SVMS (optional) -> features -> action head -> velocity / actions

`backbone`, `svms` and `action_head` prefix the tensor names of a checkpoint. Without SVMS the names are NVIDIA's own.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.types import Features, ModelInputs, StreamStates
from svms_gr00t.groot.action_head import ActionHead
from svms_gr00t.groot.backbone import EagleBackbone
from svms_gr00t.groot.checkpoint import load_weights, locate, read_config, save_checkpoint
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.svms import SheafStreams

SVMS_PREFIX = "svms."


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """One training forward."""

    terms: dict[str, Float[Tensor, ""]]
    """Named losses: flow, and with SVMS sheaf, collapse, balance, and aux when the batch has labels."""
    states: StreamStates | None
    """What SVMS did; None for the plain model."""


@dataclass(frozen=True, kw_only=True)
class SampleOutput:
    """One acting forward."""

    action: Float[Tensor, "B H Da"]
    """Normalised action chunk."""
    features: Features
    """What the action head read."""
    states: StreamStates | None
    """What SVMS did; None for the plain model."""


class Gr00tN1d6(nn.Module):
    """The whole model. `config.use_sheaf_streams=False` is plain GR00T N1.6: `svms` is then None."""

    def __init__(self, config: Gr00tN1d6Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = EagleBackbone(config)
        self.svms = (
            SheafStreams.from_config(config, config.backbone_embedding_dim) if config.use_sheaf_streams else None
        )
        self.action_head = ActionHead(config)

    def encode(self, inputs: ModelInputs, *, losses: bool = True) -> tuple[Features, StreamStates | None]:
        """The features that the action head reads, and what SVMS did to them."""
        features = self.backbone(inputs.images, inputs.input_ids, inputs.attention_mask)
        if self.svms is None:
            return features, None
        states = self.svms(features, inputs.labels, inputs.label_mask, inputs.label_weight, losses=losses)
        return replace(features, tokens=states.tokens), states

    def forward(
        self,
        inputs: ModelInputs,
        *,
        noise: Float[Tensor, "B H Da"] | None = None,
        time: Float[Tensor, " B"] | None = None,
        generator: torch.Generator | None = None,
    ) -> ModelOutput:
        """Losses of the recorded actions by name; noise and flow time are drawn unless given."""
        features, states = self.encode(inputs)
        flow = self.action_head.loss(features, inputs, noise=noise, time=time, generator=generator).loss
        return ModelOutput(terms={"flow": flow} | (states.terms if states is not None else {}), states=states)

    @torch.no_grad()
    def sample(
        self,
        inputs: ModelInputs,
        *,
        noise: Float[Tensor, "B H Da"] | None = None,
        generator: torch.Generator | None = None,
    ) -> SampleOutput:
        """An action chunk by Euler steps from noise, with the evidence of the streams."""
        features, states = self.encode(inputs, losses=False)
        action = self.action_head.sample(features, inputs.state, inputs.embodiment_id, noise=noise, generator=generator)
        return SampleOutput(action=action, features=features, states=states)

    @classmethod
    def from_pretrained(
        cls,
        source: Path | str,
        *,
        config: Gr00tN1d6Config | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> "Gr00tN1d6":
        """Load a folder or a hub id; `config` may switch SVMS on for a plain checkpoint (it then starts fresh).

        Weights stream from the files into a model without storage, so memory peaks near the size of what is kept.
        Raises CheckpointError for missing, unexpected or misshapen tensors, and for other GR00T versions.
        """
        folder = locate(source)
        config = config or read_config(folder)
        with torch.device("meta"):
            model = cls(config)
        load_weights(model, folder, config, dtype=dtype, device=device, fresh=(SVMS_PREFIX,))
        left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
        if left:
            hint = "Check that config.json and the weights belong together"
            raise CheckpointError(folder, got=f"no values for {left[0]}", want="every tensor", hint=hint)
        return model.eval()

    def save_pretrained(self, folder: Path | str) -> Path:
        """Write `config.json` and safetensors, atomically, under the names that `from_pretrained` reads."""
        save_checkpoint(self, self.config, Path(folder))
        return Path(folder)
