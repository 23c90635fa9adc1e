"""An example: SVMS inside the language model of LeRobot's SmolVLA.

Axes: B batch, P tokens of the prefix (pictures, instruction, state), M the language model's width.

SmolVLA's action expert reads the language model layer by layer, so no one place lies between the two. SVMS acts inside
the language model: h, what layer k says, becomes h', and every later layer goes on from it. Half of the expert may have
read the earlier layers by then, so this is not what SVMS is behind GR00T's backbone. LeRobot calls the layer's parts,
never the layer, so h' - h is added at its mlp:

    h = r + mlp(norm(r))        r: what `post_attention_layernorm` reads
    h' = r + mlp(norm(r)) + (SVMS(h) - h)
"""

from typing import Any

from jaxtyping import Float
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from torch import Tensor, nn

from lerobot_policy_svms_gr00t.inserted import Inserted
from svms_gr00t import SvmsConfig
from svms_gr00t.core.errors import ConfigError


def insert(policy: SmolVLAPolicy, layer: int, config: SvmsConfig) -> Inserted:
    """Put fresh streams behind language layer `layer`, as `policy.svms`: chunks and losses stay to the bit.

    `policy.svms.learn(lambda: policy.forward(batch)[0], batch, SPECIALISE)` is the loss with ours. What trains is the
    caller's choice. Raises ConfigError for the last layer, which nobody reads after, and for labels of words.
    """
    language = policy.model.vlm_with_expert.get_vlm_model().text_model
    last = len(language.layers) - 2
    if not 0 <= layer <= last:
        raise ConfigError("layer", got=layer, want=f"0 to {last}", hint="The expert reads what later layers make of it")
    if config.use_aux_losses:
        hint = "Pass SvmsConfig(use_aux_losses=False)"
        raise ConfigError("use_aux_losses", got=True, want="False: no labels come by here", hint=hint)
    svms = Inserted(config, language.config.hidden_size, phase=1)
    policy.svms = svms.to(language.norm.weight.device)
    _Place(svms, policy.model, language.layers[layer])
    return svms


class _Place:
    """The hooks of one layer, and the mask of the prefix that is on its way."""

    def __init__(self, svms: Inserted, model: Any, layer: Any) -> None:
        self.svms, self.embed = svms, model.embed_prefix
        model.embed_prefix = self._prefix
        layer.post_attention_layernorm.register_forward_pre_hook(self._before)
        layer.mlp.register_forward_hook(self._after)

    def _prefix(self, *given: Any, **named: Any) -> Any:
        embedded, self.mask, order = self.embed(*given, **named)
        return embedded, self.mask, order

    def _before(self, _norm: nn.Module, given: tuple[Float[Tensor, "B P M"]]) -> None:
        self.residual = given[0]

    def _after(self, _mlp: nn.Module, _given: Any, said: Float[Tensor, "B P M"]) -> Float[Tensor, "B P M"]:
        h = self.residual + said
        return said + (self.svms(h, self.mask) - h)
