"""The policy that LeRobot trains, saves, loads and asks for actions."""

from collections import deque
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor

from lerobot_policy_svms_gr00t.clock import Clock
from lerobot_policy_svms_gr00t.columns import Batch, Columns
from lerobot_policy_svms_gr00t.configuration_svms_gr00t import SvmsGr00tConfig
from lerobot_policy_svms_gr00t.kept import Kept, begin
from lerobot_policy_svms_gr00t.labelling import by_processor, label_weight
from svms_gr00t import Gr00tN1d6, Labeler, Policy
from svms_gr00t.core.arrays import refuse_not_finite
from svms_gr00t.core.device import DTYPES
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.labels.tokens import TokenLabels
from svms_gr00t.groot.checkpoint.hub import Hub, locate
from svms_gr00t.memories import Ring
from svms_gr00t.train.loop.step import arithmetic
from svms_gr00t.train.losses import total_loss
from svms_gr00t.train.trainable import prepare, to_training_mode


class SvmsGr00tPolicy(PreTrainedPolicy):
    """GR00T N1.6 with SVMS, or without; what trains is what the phase says."""

    config_class = SvmsGr00tConfig
    name = "svms_gr00t"
    config: SvmsGr00tConfig
    label_weight: Tensor

    def __init__(
        self, config: SvmsGr00tConfig, *, dataset_meta: Any = None, dataset_stats: Any = None, kept: Kept | None = None
    ) -> None:
        """From a dataset's metadata and the base that `config` names, or what a saved policy has `kept`.

        Statistics are those of the metadata; `dataset_stats` is what LeRobot passes beside it.
        Raises ConfigError, DataError or CheckpointError, one sentence, for what does not fit.
        """
        super().__init__(config)
        config.validate_features()
        dtype, plain = DTYPES[config.dtype], not config.use_sheaf_streams
        labeler = Labeler()
        weight = torch.ones(len(labeler.streams))
        if kept is None:
            kept, ready = begin(config, dataset_meta)
            seed = int(torch.randint(2**31, ()))  # LeRobot has seeded torch with --seed
            model = ready.model(use_sheaf_streams=not plain, dtype=dtype, seed=seed)
            kept = Kept(processor=kept.processor, modality=kept.modality, model=model.config)
            weight = label_weight(dataset_meta, by_processor(kept.processor, labeler), len(weight))
        else:
            _check_kept(config, kept)
            model = Gr00tN1d6(kept.model).to(dtype)
        if kept.model.grounded_targets:
            hint = "svms-gr00t train --grounded-targets trains them"
            raise ConfigError("policy.svms", got="grounded_targets", want="none of them here", hint=hint)
        self.model, self.kept, self.clock = model, kept, Clock(config.phase)
        self.register_buffer("label_weight", weight)
        self.labels = TokenLabels(labeler) if kept.model.has_streams and kept.model.use_aux_losses else None
        self.columns = Columns(
            processor=kept.processor,
            modality=kept.modality,
            width=config.action_feature.shape[0],
            frames=len(kept.model.remembered) + 1,
        )
        self.columns.check(config.chunk_size)
        prepare(self.model, config.chosen_phase)
        self.reset()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_name_or_path: str | Path, *, config: SvmsGr00tConfig | None = None, **rest: Any
    ) -> "SvmsGr00tPolicy":
        """A saved policy, from a folder or the hub; neither its base nor its dataset is needed.

        Every tensor must be there. Raises CheckpointError, DataError or ConfigError for what is missing or broken.
        """
        rest.pop("strict", None)
        ways = {name: rest.pop(name, None) for name in ("revision", "token", "cache_dir")}
        folder = locate(pretrained_name_or_path, hub=Hub(**ways, local_files_only=rest.pop("local_files_only", False)))
        policy: SvmsGr00tPolicy = super().from_pretrained(
            folder, config=config, strict=True, kept=Kept.load(folder), **rest
        )
        policy.clock.enter(policy.config.phase)
        return policy

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        super()._save_pretrained(save_directory, state_dict=state_dict)
        self.kept.save(save_directory)

    def as_policy(self) -> Policy:
        """The same model for everything that svms-gr00t does with a policy: evaluate, serve, save for N1.6."""
        return Policy(self.model, self.kept.processor, device=self.config.device)

    def get_optim_params(self) -> list[torch.nn.Parameter]:
        """What the phase trains."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def train(self, mode: bool = True) -> "SvmsGr00tPolicy":
        """Frozen parts stay in eval mode: LeRobot calls this before every step."""
        super().train(mode)
        if mode and hasattr(self, "model"):
            to_training_mode(self.model)
        return self

    def forward(self, batch: Batch, reduction: str = "mean") -> tuple[Tensor, dict[str, float]]:
        """The weighted sum of the losses, or that of each sample ("none"), and every loss by name.

        Losses of the batch as a whole, such as the balance of the routes, count in each sample alike.
        """
        weight = self.label_weight.cpu()
        with self.clock.randomness(self._device) if self.training else nullcontext():
            augment = self.training and self.config.augment
            inputs = self._inputs(batch, learn=True, augment=augment, labels=self.labels, label_weight=weight)
            labels, model = inputs.labels is not None, self.model
            weights = self.clock.weights(model.config, model.svms, self.config.chosen_phase, labels=labels)
            with self._arithmetic():
                output = self.model(inputs)
        loss = total_loss(output.terms, weights)
        told = {name: float(term.detach()) for name, term in output.terms.items()}
        if self.training:
            self.clock.hear(told["flow"])
        if reduction == "none":
            own = output.by_sample
            each = {name: weights[name] for name in own}
            mean = total_loss({name: output.terms[name] for name in each}, each)
            loss = total_loss(own, each) + (loss - mean)
        return loss, told | {f"weight.{name}": weight for name, weight in weights.items()}

    def update(self) -> None:
        """LeRobot calls it after every optimiser step."""
        self.clock.tick(self.model.config, self.config.chosen_phase)

    def reset(self) -> None:
        """An episode begins, for every robot of the batch: what was planned and what is remembered are dropped."""
        self._planned: deque[Tensor] = deque()
        self._step = 0
        self._memories = Ring(self.kept.model.remembered)

    def select_action(self, batch: Batch, *, noise: Float[Tensor, "B Hm Dm"] | None = None) -> Float[Tensor, "B D"]:
        """The action of this step; every `n_action_steps` calls plan a new chunk, and remember what they saw."""
        if not self._planned:
            chunk = self._plan(batch, noise, step=self._step)
            self._planned.extend(chunk[:, : self.config.n_action_steps].unbind(1))
        self._step += 1
        return self._planned.popleft()

    def predict_action_chunk(
        self, batch: Batch, *, noise: Float[Tensor, "B Hm Dm"] | None = None
    ) -> Float[Tensor, "B H D"]:
        """Chunks in physical units. With memory a batch of all `memory_frames` frames is what is remembered; of the
        present alone nothing is, for nobody says which step it is. `noise` is what sampling starts from."""
        return self._plan(batch, noise, step=None)

    @torch.no_grad()
    def _plan(self, batch: Batch, noise: Tensor | None, *, step: int | None) -> Float[Tensor, "B H D"]:
        self.eval()
        inputs = self._inputs(batch)
        robots = [("", row) for row in range(len(inputs.state))]
        steps = [step] * len(robots) if step is not None and self._memories.offsets else []
        if steps:
            inputs = replace(inputs, past=self._memories.past(robots, steps))
        with self._arithmetic():
            sampled = self.model.sample(inputs, noise=noise)
        if steps:
            assert sampled.features.recalled is not None
            self._memories.keep(robots, steps, sampled.features.recalled.moments)
        chunk = sampled.action.float().cpu().numpy()
        refuse_not_finite({"the model's output": chunk})
        actions = self.kept.processor.decode(chunk, self.columns.seen(batch))
        refuse_not_finite(actions)
        return self.columns.joined(actions).to(inputs.state.device)

    def _inputs(self, batch: Batch, **how: Any) -> ModelInputs:
        return self.columns.inputs(batch, **how).to(self._device)

    def _arithmetic(self) -> Any:
        return arithmetic(self._device, "bf16" if self.config.dtype == "bfloat16" else "fp32")

    @property
    def _device(self) -> torch.device:
        return next(self.model.action_head.parameters()).device


def _check_kept(config: SvmsGr00tConfig, kept: Kept) -> None:
    """A saved policy keeps its own streams and memory. Raises ConfigError for flags that say another."""
    rules = {
        "policy.use_sheaf_streams": (config.use_sheaf_streams, kept.model.use_sheaf_streams),
        "policy.memory_frames and memory_stride": (config.memory_offsets, kept.model.remembered),
    }
    for name, (asked, own) in rules.items():
        if asked != own:
            hint = "Leave it as it was trained, or begin with --policy.base_model_path"
            raise ConfigError(name, got=asked, want=f"the saved policy's, {own}", hint=hint)
