"""LeRobot's GR00T N1.7 with SVMS between its backbone and its action head.

Axes: B batch, T tokens, M 2048 in the released size.

    pictures, instruction -> backbone -> (B, T, M) -> SVMS -> (B, T, M) -> vlln and action head -> actions
"""

from pathlib import Path
from typing import Any

from lerobot.configs import PreTrainedConfig
from lerobot.policies.groot.configuration_groot import is_raw_groot_n1_7_checkpoint
from lerobot.policies.groot.modeling_groot import GrootPolicy
from safetensors.torch import load_model
from torch import Tensor, nn

from lerobot_policy_svms_gr00t.inserted import Inserted
from lerobot_policy_svms_gr00t.n1d7 import delta
from lerobot_policy_svms_gr00t.n1d7.configuration_n1d7 import SvmsGr00tN1d7Config
from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.checkpoint.hub import Hub, locate
from svms_gr00t.groot.checkpoint.loading import some, weight_files
from svms_gr00t.train.phases import Phase
from svms_gr00t.train.trainable import to_training_mode

_HEAD = "_groot_model.action_head."
_BLOCK = f"{_HEAD}model.transformer_blocks."
_LAYER = "_groot_model.backbone.model.model.language_model.layers."


class SvmsGr00tN1d7Policy(GrootPolicy):
    """LeRobot's policy and its tensors under their own names, and `svms.*`; what trains is what the phase says."""

    config_class = SvmsGr00tN1d7Config
    name = "svms_gr00t_n1d7"
    config: SvmsGr00tN1d7Config

    def __init__(self, config: SvmsGr00tN1d7Config, **rest: Any) -> None:
        super().__init__(config, **rest)
        model = self._groot_model
        self.svms = Inserted(config.streams, model.config.backbone_embedding_dim, phase=config.phase)
        model.backbone.register_forward_hook(self._through)
        blocks, layers = len(model.action_head.model.transformer_blocks), len(model.backbone.language_model.layers)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(trains(config.chosen_phase, name, blocks=blocks, layers=layers))

    def _through(self, backbone: nn.Module, inputs: Any, output: Any) -> Any:
        """A forward hook: the backbone's features, with the streams' say."""
        mask, images = output["backbone_attention_mask"], output["image_mask"]
        output["backbone_features"] = self.svms(output["backbone_features"], mask, images)
        return output

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum of N1.7's own loss and ours, and each of them by name."""
        return self.svms.learn(
            lambda: super(SvmsGr00tN1d7Policy, self).forward(batch)[0], batch, self.config.chosen_phase
        )

    def train(self, mode: bool = True) -> "SvmsGr00tN1d7Policy":
        """Frozen parts stay in eval mode: LeRobot calls this before every step."""
        super().train(mode)
        if mode and hasattr(self, "svms"):
            to_training_mode(self._groot_model)
        return self

    def update(self) -> None:
        """LeRobot calls it after every optimiser step."""
        self.svms.clock.tick(self.config.streams, self.config.chosen_phase)

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        if delta.is_delta(save_directory) and not self.config.delta:
            hint = "Choose another folder"
            raise CheckpointError(save_directory, got="a delta", want="a new folder", hint=hint)
        if not self.config.delta:
            super()._save_pretrained(save_directory, state_dict=state_dict)
            return
        delta.save(save_directory, self.state_dict() if state_dict is None else state_dict, self.config.base_model_path)
        self.config._save_pretrained(save_directory)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_name_or_path: str | Path, *, config: PreTrainedConfig | None = None, **rest: Any
    ) -> "SvmsGr00tN1d7Policy":
        """A saved policy, whole or a delta, or LeRobot's plain N1.7, whose SVMS is then fresh.

        Raises CheckpointError for tensors that are missing or unknown, and for another base than a delta's.
        """
        ways = {name: rest.get(name) for name in ("revision", "token", "cache_dir")}
        hub = Hub(**ways, local_files_only=rest.get("local_files_only", False))
        folder = locate(pretrained_name_or_path, hub=hub)
        if is_raw_groot_n1_7_checkpoint(folder):
            hint = "Name it by --policy.base_model_path"
            raise CheckpointError(folder, got="NVIDIA's own files", want="a policy that LeRobot saved", hint=hint)
        config = PreTrainedConfig.from_pretrained(folder) if config is None else config
        if not isinstance(config, SvmsGr00tN1d7Config):
            config = SvmsGr00tN1d7Config.behind(config)
        if delta.is_delta(folder):
            delta.check(folder, config.base_model_path)
        policy = cls(config)
        _fill(policy, folder)
        policy.svms.clock.enter(config.phase)
        return policy.to(config.device).eval()


def trains(phase: Phase, name: str, *, blocks: int, layers: int) -> bool:
    """Whether the phase trains the parameter: as in N1.6, but for the names of N1.7's language layers."""
    if name.startswith(delta.OURS):
        return phase.svms
    if name.startswith(_BLOCK):
        return int(name.removeprefix(_BLOCK).split(".")[0]) < round(phase.dit_share * blocks)
    if name.startswith(_LAYER):
        return int(name.removeprefix(_LAYER).split(".")[0]) >= layers - phase.llm_layers(layers)
    return phase.projectors and name.startswith(_HEAD)


def _fill(policy: SvmsGr00tN1d7Policy, folder: Path) -> None:
    """The tensors of a saved policy, checked by name and shape. The plain one's are all but `svms.*`."""
    shapes = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items() if name != delta.TIED}
    ours = {name for name in shapes if name.startswith(delta.OURS)}
    alone = delta.is_delta(folder)
    held = {name: stored.shape for name, stored in weight_files(folder, delta.STEM if alone else "model").items()}
    if delta.TIED in held:  # LeRobot saves the two names of one tensor under one of them
        held.setdefault(delta.EMBEDDING, held.pop(delta.TIED))
    wanted = ours if alone or any(name in held for name in ours) else set()
    wanted |= set() if alone else shapes.keys() - ours
    parts = {
        "missing": wanted - held.keys(),
        "unknown": held.keys() - shapes.keys(),
        "of another shape": {name for name in held.keys() & shapes.keys() if held[name] != shapes[name]},
    }
    if any(parts.values()):
        got = "; ".join(f"{len(names)} {what}: {some(sorted(names))}" for what, names in parts.items() if names)
        raise CheckpointError(folder, got=got, want="the tensors of this policy", hint="Check --policy.svms")
    if alone:
        policy.load_state_dict(delta.load(folder), strict=False)
    else:
        load_model(policy, folder / delta.WHOLE, strict=False)
