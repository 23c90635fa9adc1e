"""The backbone equals transformers' own forward passes, row by row, whatever the padding and the image sizes."""

import pytest
import torch
import torch.nn.functional as F
from groot_tiny import IMAGE
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3Model
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.types import Layout
from svms_gr00t.groot.backbone import RMSNorm, fuse_norms, rotation
from svms_gr00t.groot.vision import by_size, patchify, position_weights, unshuffle

EXACT = {"atol": 1e-12, "rtol": 1e-12}


def run(model, batch):
    with torch.no_grad():
        return model.backbone(batch.images, batch.input_ids, batch.attention_mask)


def test_language_tower_is_qwen3(build, batch):
    tower = build().backbone.model.language_model
    rope = {"rope_type": "default", "rope_theta": 1e6}
    oracle = Qwen3Model(Qwen3Config(**tower.model.config.to_dict() | {"rope_parameters": rope})).double().eval()
    oracle.load_state_dict(tower.model.state_dict())
    hidden = torch.randn(*batch.input_ids.shape, 16, dtype=torch.float64)
    mask = batch.attention_mask
    with torch.no_grad():
        ours = tower.model.norm(tower(hidden, mask, 0, 3))
        positions = torch.arange(hidden.shape[1])[None]
        theirs = oracle(inputs_embeds=hidden, attention_mask=mask, position_ids=positions).last_hidden_state
        assert not torch.allclose(tower.model.norm(tower(hidden, mask | True, 0, 3))[mask], theirs[mask])
    # transformers keeps its angles in float32
    torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 0.0), (torch.bfloat16, 2**-7)])
def test_our_norm_is_transformers_own(dtype, near):
    theirs, x = Qwen3RMSNorm(16, 1e-6).to(dtype), torch.randn(5, 7, 16).to(dtype)
    torch.nn.init.normal_(theirs.weight)
    holder = torch.nn.ModuleDict({"norm": theirs})
    fuse_norms(holder)
    ours = holder["norm"].to(dtype)
    ours.load_state_dict(theirs.state_dict())
    assert isinstance(ours, RMSNorm)
    truth = theirs.double()(x.double())
    theirs.to(dtype)
    # In bfloat16 we round once, they twice: at most one unit of the last place apart, and nearer to the truth.
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-30, rtol=near)
    assert (ours(x) - truth).abs().mean() <= (theirs(x) - truth).abs().mean()
    assert not torch.equal(ours(x), theirs(2 * x + 1))
    mixed = ours.float()(x)  # weights that train are float32 beside bfloat16 states
    torch.testing.assert_close(mixed, theirs.float()(x), atol=1e-30, rtol=0)


def test_the_plain_tower_runs_every_layer_and_the_lm_head_for_the_same_features(build, batch):
    """The plain form: all 4 layers, logits, a list of hidden states. Ours stops after the third, exactly equal."""
    model = build()
    tower = model.backbone.model.language_model
    settings = tower.model.config.to_dict() | {"num_hidden_layers": 4, "layer_types": None}
    whole = Qwen3ForCausalLM(Qwen3Config(**settings)).double().eval()
    assert whole.model.load_state_dict(tower.model.state_dict(), strict=False).unexpected_keys == []

    class Angles(torch.nn.Module):
        """Our angles, in float64; transformers' own stay in float32."""

        def forward(self, hidden, position_ids):
            return rotation(hidden.shape[1], 4, 1e6, hidden.dtype, hidden.device)

    whole.model.rotary_emb = Angles()
    fuse_norms(whole.model)  # transformers' own go through float32
    whole.double().model.load_state_dict(tower.model.state_dict(), strict=False)
    mask = batch.attention_mask
    with torch.no_grad():
        hidden = model.backbone.embed(batch.images, batch.input_ids)
        plain = whole(inputs_embeds=hidden, attention_mask=mask, output_hidden_states=True)
        theirs = tower.model.norm(plain.hidden_states[3])[mask]
        assert not torch.allclose(plain.hidden_states[4][mask], theirs)
    assert plain.logits.shape[-1] == 100
    torch.testing.assert_close(run(model, batch).tokens[mask], theirs, **EXACT)


@pytest.mark.parametrize("size", [(28, 28), (56, 84), (252, 28)])
def test_vision_tower_is_siglip2(build, size):
    tower = build().backbone.model.vision_model
    pixels = torch.rand(2, 3, *size, dtype=torch.float64) * 2 - 1
    patches = patchify(pixels, 14)
    shape = torch.tensor([[size[0] // 14, size[1] // 14]] * 2)
    with torch.no_grad():
        theirs = tower.vision_model(patches, torch.ones(patches.shape[:2], dtype=torch.long), shape).last_hidden_state
        torch.testing.assert_close(tower(pixels), theirs, atol=1e-6, rtol=1e-6)


def test_patches_and_unshuffle_follow_their_definitions():
    image = torch.arange(3 * 28 * 42.0).view(1, 3, 28, 42)
    expected = image[0, :, 14:28, 28:42].permute(1, 2, 0).flatten()  # last patch of the 2 x 3 grid, channel-last
    assert torch.equal(patchify(image, 14)[0, 5], expected)
    grid = torch.randn(2, 4 * 6, 5)
    by_torch = F.pixel_unshuffle(grid.view(2, 4, 6, 5).permute(0, 3, 1, 2), 2).flatten(2).transpose(1, 2)
    assert torch.equal(unshuffle(grid, 6), by_torch)
    assert not torch.equal(unshuffle(grid, 4), by_torch)


@pytest.mark.parametrize("size", [(18, 18), (4, 4), (16, 16), (40, 2)])
def test_position_weights_are_the_antialiased_resize(size):
    weights = position_weights(16, *size, torch.device("cpu"))
    table = torch.randn(1, 7, 16, 16)
    resized = F.interpolate(table, size=size, mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(weights @ table.flatten(2)[0].T, resized.flatten(2)[0].T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))


def test_a_ragged_batch_is_its_rows_one_by_one(build, batch):
    model = build()
    features = run(model, batch)
    images = [batch.images[:2], batch.images[2:], ()]
    for row, mine in enumerate(images):
        real = batch.attention_mask[row]
        ids = batch.input_ids[row, real][None]
        with torch.no_grad():
            alone = model.backbone(mine, ids, torch.ones_like(ids, dtype=torch.bool))
        # RoPE is relative, so a row without its padding has the same features.
        torch.testing.assert_close(features.tokens[row, real], alone.tokens[0], atol=1e-6, rtol=1e-6)
        assert torch.equal(features.image_mask[row, real], ids[0] == IMAGE)


def test_padding_ids_change_nothing(build, batch):
    model, mask = build(), batch.attention_mask
    before = run(model, batch).tokens[mask]
    other = torch.where(mask, batch.input_ids, 5)
    with torch.no_grad():
        after = model.backbone(batch.images, other, mask).tokens[mask]
    assert torch.equal(before, after)


def test_images_of_different_sizes_keep_their_order(build, batch):
    backbone = build().backbone
    images = (batch.images[2], batch.images[0], batch.images[2].flip(-1), batch.images[1])
    with torch.no_grad():
        together = backbone.image_tokens(images)
        apart = torch.cat([backbone.image_tokens((image,)) for image in images])
    torch.testing.assert_close(together, apart, **EXACT)
    assert by_size(images, 28) == {(28, 28): [0, 2], (28, 56): [1], (56, 56): [3]}


@pytest.mark.parametrize("layer", range(4))
def test_cutting_the_tower_anywhere_gives_the_same_bits(build, batch, layer):
    model = build()
    inputs = (batch.input_ids, batch.attention_mask)
    with torch.no_grad():
        hidden = model.backbone.prefix(batch.images, *inputs, layer)
        assert torch.equal(model.backbone.suffix(hidden, *inputs, layer).tokens, run(model, batch).tokens)


def test_wrong_images_are_refused(build, batch):
    backbone = build().backbone
    with pytest.raises(DataError, match="6 image tokens from 2 images"):
        backbone(batch.images[:2], batch.input_ids, batch.attention_mask)
    with pytest.raises(DataError, match="30 x 28 pixels"):
        backbone.image_tokens((torch.zeros(3, 30, 28, dtype=torch.float64),))


def test_a_known_layout_leaves_every_value_unread(build, batch, monkeypatch):
    """What `collate` knows gives the bits that reading gives, and then nothing is read."""
    model, noise = build(), torch.randn(3, 4, 5, dtype=torch.float64)

    def act(layout: Layout | None) -> torch.Tensor:
        with torch.no_grad():
            features = model.backbone(batch.images, batch.input_ids, batch.attention_mask, layout)
        return model.action_head.sample(features, batch.state, batch.embodiment_id, noise=noise)

    read = act(None)
    known = Layout.of(batch.input_ids, batch.attention_mask, IMAGE, tuple(batch.embodiment_id.tolist()))
    for reader in ("tolist", "item", "cpu", "__bool__", "__int__", "nonzero"):
        monkeypatch.setattr(torch.Tensor, reader, None)
    with pytest.raises(TypeError):
        act(None)
    found = act(known)
    monkeypatch.undo()
    assert torch.equal(found, read)


def test_unused_parts_are_never_built(build):
    names = build().backbone.state_dict().keys()
    assert not [n for n in names if "lm_head" in n or ".head." in n or "layers.3." in n]
    assert "model.language_model.model.layers.2.mlp.gate_proj.weight" in names
    assert not list(build().backbone.buffers())


def test_every_parameter_learns(build, batch):
    model = build().train()
    features = model.backbone(batch.images, batch.input_ids, batch.attention_mask)
    model.action_head.loss(features, batch).loss.backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []
