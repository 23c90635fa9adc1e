"""GR00T N1.6 with SVMS: reads like the figure.

Axes: B batch, T tokens, M model width, S streams, E edges, H horizon, Da action width, P image tokens.

    images, instruction -> backbone -> features -> SVMS (optional) -> features -> action head -> velocity / actions

`backbone`, `svms` and `action_head` prefix the tensor names of a checkpoint. Without SVMS the names are NVIDIA's own.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.types import Earlier, Features, ModelInputs, Moments, Past, StreamStates
from svms_gr00t.groot.action_head import ActionHead
from svms_gr00t.groot.attention import choose
from svms_gr00t.groot.backbone import EagleBackbone
from svms_gr00t.groot.bounds import check_layers
from svms_gr00t.groot.checkpoint.delta import Delta, base_and_delta, save_delta
from svms_gr00t.groot.checkpoint.hub import Hub, OnTheHub, commit_of, locate, write_card
from svms_gr00t.groot.checkpoint.loading import Stored, load_weights, read_config, weight_files
from svms_gr00t.groot.checkpoint.model_card import UNKNOWN, CardFacts, is_hub_id, plain_card
from svms_gr00t.groot.checkpoint.saving import checkpoint_folder, write_checkpoint
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.streams.alone import MemoryAlone
from svms_gr00t.streams.memory import MemorySize
from svms_gr00t.streams.targets import TargetHeads
from svms_gr00t.svms import SheafStreams

FRESH = ("svms.memory.", "svms.targets.", "svms.", "targets.")
"""What a checkpoint may lack altogether: a plain one all of SVMS, one without memory its memory, and so on."""


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """One training forward."""

    terms: dict[str, Float[Tensor, ""]]
    """Named losses: flow; with SVMS sheaf, collapse, balance, and aux when the batch has labels; recall with memory;
    where, when, how with grounded targets."""
    features: Features
    """What the action head read."""
    states: StreamStates | None
    """What SVMS did; None for the plain model."""
    errors: dict[str, Float[Tensor, "B H Da"]]
    real: Float[Tensor, "B H Da"] | None
    """What flow and, with memory, recall are means of: 0 where a chunk is padded, `real` is 1 elsewhere or None."""

    @property
    def by_sample(self) -> dict[str, Float[Tensor, " B"]]:
        """Losses that a sample has of its own, over its real elements: flow, and with memory recall."""
        return {name: _mean(errors, self.real, (1, 2)) for name, errors in self.errors.items()}


@dataclass(frozen=True, kw_only=True)
class SampleOutput:
    """One acting forward."""

    action: Float[Tensor, "B H Da"]
    """Normalised action chunk."""
    seen: Features
    """What the backbone said."""
    features: Features
    """What the action head read."""
    states: StreamStates | None
    """What SVMS did; None for the plain model."""

    def on_host(self) -> dict[str, Float[np.ndarray, "..."]]:
        """ "action", with streams "rho" and "weights", and remembering "ages", in float32 by one transfer.

        It is the only moment at which acting waits for the device.
        """
        wanted = {"action": self.action}
        if self.states is not None:
            wanted |= {"rho": self.states.rho, "weights": self.states.weights}
        if self.features.recalled is not None:
            wanted["ages"] = self.features.recalled.ages
        flat = torch.cat([value.float().flatten() for value in wanted.values()]).cpu()
        parts = flat.split([value.numel() for value in wanted.values()])
        return {name: part.view(wanted[name].shape).numpy() for name, part in zip(wanted, parts, strict=True)}


class Gr00tN1d6(nn.Module, OnTheHub):
    """The whole model. `config.use_sheaf_streams=False` is plain GR00T N1.6: `svms` is then None.

    With `memory_only` a memory stands there without streams.
    """

    def __init__(self, config: Gr00tN1d6Config) -> None:
        super().__init__()
        self.config = config
        self.base: str | None = None
        self.hub = Hub()
        self.backbone = EagleBackbone(config)
        self.svms: SheafStreams | MemoryAlone | None = None
        if config.use_sheaf_streams:
            self.svms = _alone(config) if config.memory_only else _streams(config)
        self.action_head = ActionHead(config)

    @property
    def target_heads(self) -> TargetHeads | None:
        """What tells the grounded targets in training; None without them."""
        return self.svms.targets if isinstance(self.svms, SheafStreams) else None

    def observe(self, inputs: ModelInputs) -> Features:
        """What the backbone says, from pictures or from cached hidden states."""
        if inputs.hidden is None:
            return self.backbone(inputs.images, inputs.input_ids, inputs.attention_mask, inputs.layout)
        hidden = inputs.hidden.to(self.backbone.model.language_model.model.norm.weight.dtype)
        ids, mask, layout = inputs.input_ids, inputs.attention_mask, inputs.layout
        return self.backbone.suffix(hidden, ids, mask, inputs.hidden_layer, layout)

    def encode(self, inputs: ModelInputs, *, losses: bool = True) -> tuple[Features, StreamStates | None]:
        """The features that the action head reads, and what SVMS did to them."""
        return self.between(self.observe(inputs), inputs, losses=losses)

    def between(
        self, features: Features, inputs: ModelInputs, *, losses: bool = True
    ) -> tuple[Features, StreamStates | None]:
        """What stands between backbone and action head: SVMS, the memory alone, or nothing."""
        if self.svms is None:
            return features, None
        if isinstance(self.svms, MemoryAlone):
            return self.svms(features, state=inputs.state, past=self._past(inputs)), None
        states = self.through_streams(features, inputs, losses=losses)
        return replace(features, tokens=states.tokens, recalled=states.recalled), states

    def through_streams(self, features: Features, inputs: ModelInputs, *, losses: bool = True) -> StreamStates:
        """What SVMS does to the features of these inputs."""
        assert isinstance(self.svms, SheafStreams)
        return self.svms(
            features,
            labels=inputs.labels,
            label_mask=inputs.label_mask,
            label_weight=inputs.label_weight,
            state=inputs.state,
            past=self._past(inputs),
            targets=inputs.targets,
            losses=losses,
        )

    def _past(self, inputs: ModelInputs) -> Past | Moments | None:
        return self.moments(inputs.past) if isinstance(inputs.past, Earlier) else inputs.past

    def moments(self, earlier: Earlier) -> Moments:
        """What memory keeps of earlier steps: the backbone sees each of them once, without gradient."""
        assert self.svms is not None, "the plain model keeps nothing"
        tokens, mask = self.glance(earlier.steps)
        seen = torch.ones_like(mask[:, :1])
        once = Past(tokens=tokens[:, None], mask=mask[:, None], state=earlier.steps.state[:, None], valid=seen)
        return Moments(values=self.svms.moments(once)[:, 0][earlier.place], valid=earlier.valid)

    @torch.no_grad()
    def glance(self, inputs: ModelInputs) -> tuple[Float[Tensor, "B _P M"], Bool[Tensor, "B _P"]]:
        """What memory reads of a step: features of its pictures' tokens, left-aligned, and which are real.

        Without gradient: earlier steps pass the backbone as it is.
        """
        features = self.observe(inputs)
        assert features.layout is not None, "the backbone tells where its tokens stand"
        chosen = choose(features.tokens, features.image_mask, features.layout.image)
        real = features.layout.image.real
        return chosen.values, torch.ones_like(chosen.values[..., 0], dtype=torch.bool) if real is None else real

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
        flow = self.action_head.loss(features, inputs, noise=noise, time=time, generator=generator)
        recall = self._recall(features, inputs)
        return ModelOutput(
            terms={"flow": flow.loss}
            | (states.terms if states is not None else {})
            | {name: _mean(error, inputs.action_mask) for name, error in recall.items()},
            states=states,
            features=features,
            errors={"flow": flow.per_element} | recall,
            real=inputs.action_mask,
        )

    def _recall(self, features: Features, inputs: ModelInputs) -> dict[str, Float[Tensor, "B H Da"]]:
        """The squared errors behind the recall loss of a model with memory, 0 where a chunk is padded."""
        if features.recalled is None or inputs.action is None:
            return {}
        assert self.svms is not None
        assert self.svms.memory is not None
        error = (self.svms.memory.tells(features.recalled.present) - inputs.action).square()
        return {"recall": error if inputs.action_mask is None else error * inputs.action_mask.to(error.dtype)}

    @torch.no_grad()
    def sample(
        self,
        inputs: ModelInputs,
        *,
        noise: Float[Tensor, "B H Da"] | None = None,
        generator: torch.Generator | None = None,
    ) -> SampleOutput:
        """An action chunk by Euler steps from noise, with the evidence of the streams."""
        seen = self.observe(inputs)
        features, states = self.between(seen, inputs, losses=False)
        action = self.action_head.sample(features, inputs.state, inputs.embodiment_id, noise=noise, generator=generator)
        return SampleOutput(action=action, seen=seen, features=features, states=states)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        source: Path | str,
        *,
        base: Path | str | None = None,
        config: Gr00tN1d6Config | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: Path | str | None = None,
        local_files_only: bool = False,
        check: bool = True,
    ) -> "Gr00tN1d6":
        """Load a folder or a hub id; `config` may switch SVMS on for a plain checkpoint (it then starts fresh).

        `revision` is of a hub id, not of a delta's base; `token`, `cache_dir` and `local_files_only` hold for both.
        A delta finds its base where it was saved from, or at `base`. All weights get `dtype`, or else the type that
        most numbers of the checkpoint (of the base) have: N1.6 fine-tunings are saved in two types.
        Weights stream from the files into a model without storage, so memory peaks near the size of what is kept.
        Raises CheckpointError for missing, unexpected or misshapen tensors, for a wrong base, for other GR00T
        versions, and, unless `check` is off, for weights that are not finite.
        """
        hub = Hub(revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only)
        folder = locate(source, hub=hub)
        config = config or read_config(folder)
        whole, overlay, name = base_and_delta(folder, base, hub=hub)
        files = weight_files(whole)
        check_layers(config, files | overlay, folder)
        with torch.device("meta"):
            model = cls(config)
        dtype = dtype or _usual_type(files)
        load_weights(model, whole, config, dtype=dtype, device=device, fresh=FRESH, overlay=overlay, check=check)
        left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
        if left:
            hint = "Check that config.json and the weights belong together"
            raise CheckpointError(folder, got=f"no values for {left[0]}", want="every tensor", hint=hint)
        model.base, model.hub = name or str(source), hub.at(commit_of(whole))
        return model.eval()

    def save_pretrained(  # type: ignore[override]
        self, folder: Path | str, *, config: None = None, model_card_kwargs: dict[str, str] | None = None
    ) -> Path:
        """Write `config.json` and safetensors, atomically, under the names that `from_pretrained` reads.

        The keywords are those with which huggingface_hub's `push_to_hub` asks for the card too.
        """
        with checkpoint_folder(folder) as partial:
            self.write(partial)
            write_card(partial, model_card_kwargs)
        return Path(folder)

    def model_card(self, repo_id: str, *, entry: str = "model") -> str:
        """README.md of a repository: what the model is, its base and its licence; no results."""
        base = self.base if self.base is not None and is_hub_id(self.base) else UNKNOWN
        c = self.config
        facts = CardFacts(
            name=repo_id,
            base=base,
            svms=c.has_streams,
            streams=tuple(c.stream_names),
            d_stream=c.d_stream,
            d_overlap=c.d_overlap,
            parameters=sum(p.numel() for p in self.parameters()),
            entry=entry,
        )
        return plain_card(facts)

    def write(self, folder: Path) -> None:
        """The files of `save_pretrained` in a folder that the caller makes, to be one with other files."""
        write_checkpoint(self, self.config, folder)

    def save_delta(
        self, folder: Path | str, *, base: Path | str | None = None, extra: Callable[[Path], object] | None = None
    ) -> Delta:
        """Write what differs from `base`, by default the checkpoint that this model was loaded from.

        `extra` may write more files into the folder before it appears. Raises CheckpointError when there is no base, or
        when it is not the base of this model.
        """
        chosen = base if base is not None else self.base
        if chosen is None:
            hint = "Pass base=, a checkpoint folder or a hub id"
            raise CheckpointError(folder, got="a model that was not loaded from a checkpoint", want="a base", hint=hint)
        hub = self.hub if base is None else self.hub.at(None)
        return save_delta(self.state_dict(), self.config, folder, base=chosen, hub=hub, extra=extra)


def _mean(
    errors: Float[Tensor, "B H Da"], mask: Float[Tensor, "B H Da"] | None, over: tuple[int, ...] | None = None
) -> Float[Tensor, "*b"]:
    """Mean over the real elements of these axes, or of all; 0 where there is none."""
    real = torch.ones_like(errors) if mask is None else mask.to(errors.dtype)
    return errors.sum(over) / (real.sum(over) + 1e-6)


def _streams(config: Gr00tN1d6Config) -> SheafStreams:
    """SVMS as the configuration wants it, its memory connected to this model's state and chunk."""
    memory = None
    if config.memory_offsets:
        memory = _memory(config, tuple(config.stream_names.index(name) for name in config.memory_streams))
    return SheafStreams.from_config(config, config.backbone_embedding_dim, memory=memory)


def _alone(config: Gr00tN1d6Config) -> MemoryAlone:
    return MemoryAlone(config.backbone_embedding_dim, _memory(config, (0,)))


def _memory(config: Gr00tN1d6Config, streams: tuple[int, ...]) -> MemorySize:
    return MemorySize(
        steps=len(config.memory_offsets),
        streams=streams,
        d_stream=config.d_stream,
        moments=config.memory_moments,
        layers=config.memory_layers,
        dropout_p=config.memory_dropout_p,
        state_dim=config.max_state_dim,
        state_width=config.input_embedding_dim,
        chunk=(config.action_horizon, config.max_action_dim),
    )


def _usual_type(files: dict[str, Stored]) -> torch.dtype | None:
    numbers: Counter[torch.dtype] = Counter()
    for stored in files.values():
        numbers[stored.dtype] += stored.size if stored.dtype.is_floating_point else 0
    return max(numbers, key=lambda kind: numbers[kind], default=None)


def tensor_shapes(config: Gr00tN1d6Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint of this configuration holds, without making one."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Gr00tN1d6(config).state_dict().items()}
