"""SVMS inside the language model of LeRobot's SmolVLA (tiny, random weights), against the plain policy."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("lerobot")
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.common.vla_utils import make_att_2d_masks
from lerobot.policies.smolvla import smolvlm_with_expert
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot_policy_svms_gr00t.smolvla import insert
from torch.nn import functional as F
from transformers import SmolVLMConfig

from svms_gr00t import SvmsConfig
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.train.phases import COUPLE

SMALL = {"d_stream": 16, "d_overlap": 8, "adapter_rank": 4, "use_aux_losses": False}
LAYERS, CHUNK, WIDTH = 4, 6, 48


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> SmolVLAPolicy:
    """LeRobot's own classes on a language model of four layers; its tokenizer's numbers stand in for the tokenizer."""
    folder = tmp_path_factory.mktemp("vlm")
    SmolVLMConfig(
        text_config={
            **{"model_type": "llama", "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": LAYERS},
            **{
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "head_dim": 12,
                "vocab_size": 100,
                "pad_token_id": 0,
            },
        },
        vision_config={
            **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
            **{"image_size": 32, "patch_size": 8},
        },
        scale_factor=2,
        image_token_id=99,
    ).save_pretrained(folder)
    words = SimpleNamespace(tokenizer=SimpleNamespace(fake_image_token_id=1, global_image_token_id=2))
    features = {
        "observation.images.front": PolicyFeature(type=FeatureType.VISUAL, shape=(3, 32, 32)),
        "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(4,)),
    }
    config = SmolVLAConfig(
        **{"vlm_model_name": str(folder), "load_vlm_weights": False, "num_vlm_layers": LAYERS, "device": "cpu"},
        **{"chunk_size": CHUNK, "n_action_steps": CHUNK, "resize_imgs_with_padding": (32, 32), "num_steps": 3},
        **{"max_state_dim": 6, "max_action_dim": 6, "input_features": features, "push_to_hub": False},
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(4,))},
    )
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smolvlm_with_expert.AutoProcessor, "from_pretrained", lambda _name: words)
        return SmolVLAPolicy(config).eval()


def behind(plain: SmolVLAPolicy, layer: int, *, moved: bool) -> SmolVLAPolicy:
    policy = copy.deepcopy(plain)
    svms = insert(policy, layer, SvmsConfig(**SMALL)).train()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in svms.parameters() if moved else ():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return policy.eval()


def batch(seed: int = 2) -> dict[str, Any]:
    """Two robots; the second's instruction is shorter."""
    draw = torch.Generator().manual_seed(seed)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    return {
        "observation.images.front": torch.rand(2, 3, 32, 32, generator=draw),
        "observation.state": torch.randn(2, 4, generator=draw),
        "observation.language.tokens": torch.randint(3, 90, (2, 5), generator=draw) * mask,
        "observation.language.attention_mask": mask,
        "action": torch.randn(2, CHUNK, 4, generator=draw),
    }


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    return torch.randn(2, CHUNK, 6, generator=draw), torch.rand(2, generator=draw)


@pytest.mark.parametrize("layer", [0, 1, LAYERS - 2])
def test_fresh_streams_change_no_bit_and_moved_ones_do(plain: SmolVLAPolicy, layer: int) -> None:
    noise, time = drawn()
    fresh, moved = (behind(plain, layer, moved=m) for m in (False, True))
    losses = [p.forward(batch(), noise, time)[0] for p in (plain, fresh, moved)]
    chunks = [p.predict_action_chunk(batch(), noise) for p in (plain, fresh, moved)]
    for own, same, other in (losses, chunks):
        assert torch.equal(own, same)
        assert not torch.allclose(own, other)
    missing, unknown = fresh.load_state_dict(plain.state_dict(), strict=False)
    assert not unknown
    assert all(name.startswith("svms.") for name in missing)


@pytest.mark.parametrize("layer", [0, 1])
def test_the_cached_path_says_what_the_training_path_says(plain: SmolVLAPolicy, layer: int) -> None:
    """The velocity at one noise and time: prefix and suffix in one pass, or the suffix on the prefix's cache."""
    policy = behind(plain, layer, moved=True)
    model, (noise, time), given = policy.model, drawn(), batch()
    images, masks = policy.prepare_images(given)
    words = given["observation.language.tokens"], given["observation.language.attention_mask"]
    state, action = policy.prepare_state(given), policy.prepare_action(given)
    whole = model.forward(images, masks, *words, state, action, noise, time)
    at = time[:, None, None]
    with torch.no_grad():
        prefix, pad, order = model.embed_prefix(images, masks, *words, state=state)
        _, cache = model.vlm_with_expert.forward(
            attention_mask=make_att_2d_masks(pad, order),
            position_ids=pad.cumsum(1) - 1,
            inputs_embeds=[prefix, None],
            use_cache=True,
        )
        v = model.denoise_step(pad, cache, at * noise + (1 - at) * action, time)
    gap = (F.mse_loss(noise - action, v, reduction="none") - whole).abs().max()
    assert gap < 1e-5, gap  # float32; the two paths multiply matrices of other shapes


def test_losses_and_gradients_are_ours_too(plain: SmolVLAPolicy) -> None:
    policy, (noise, time) = behind(plain, 1, moved=True), drawn()
    policy.requires_grad_(False)
    policy.svms.requires_grad_(True)
    loss, told = policy.svms.learn(lambda: policy.forward(batch(), noise, time)[0], batch(), COUPLE)
    assert told["flow"] == policy.forward(batch(), noise, time)[0].item()
    assert {"flow", "sheaf", "collapse", "balance"} < set(told)
    loss.backward()
    reached = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {f"svms.{n}" for n, _ in policy.svms.named_parameters() if not n.startswith("streams.labels.")}


def test_what_stands_in_padding_reaches_no_loss(plain: SmolVLAPolicy) -> None:
    policy, (noise, time), given = behind(plain, 1, moved=True), drawn(), batch()

    def told() -> dict[str, float]:
        return policy.svms.learn(lambda: policy.forward(given, noise, time)[0], given, COUPLE)[1]

    before = told()
    given["observation.language.tokens"][1, 3:] = 77
    assert told() == before
    given["observation.language.tokens"][1, 0] = 77
    assert told() != before


def test_what_does_not_fit_is_one_sentence(plain: SmolVLAPolicy) -> None:
    with pytest.raises(ConfigError, match=f"layer = {LAYERS - 1}, but need 0 to {LAYERS - 2}"):
        insert(copy.deepcopy(plain), LAYERS - 1, SvmsConfig(**SMALL))
    with pytest.raises(ConfigError, match="no labels come by here"):
        insert(copy.deepcopy(plain), 0, SvmsConfig())
