"""Parity with NVIDIA's N1.6: run a recorded case through our modules and compare every recorded tensor.

A case is a folder with `config.json`, `model.safetensors`, `inputs.safetensors` and `outputs.safetensors`, made by the
reference in float32. Hidden states of padding depend on the attention kernel there, so only valid positions count.
"""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.types import Features, ModelInputs
from svms_gr00t.groot.action_head import ActionHead, Shortcuts, on_path
from svms_gr00t.groot.backbone import EagleBackbone
from svms_gr00t.groot.checkpoint.loading import load_weights, read_config
from svms_gr00t.groot.config import Gr00tN1d6Config

BY_TOKEN = ("backbone.hidden_states.", "backbone_features", "vlln_features")
NEEDED = (
    "input_ids",
    "attention_mask",
    "state",
    "embodiment_id",
    "action",
    "action_mask",
    "noise",
    "time",
    "sample_noise",
)


_CASE = "a case holds config.json, model, inputs and outputs.safetensors"


class PlainGr00t(nn.Module):
    """Backbone and action head under the checkpoint's names, nothing between them."""

    def __init__(self, config: Gr00tN1d6Config) -> None:
        super().__init__()
        self.backbone = EagleBackbone(config)
        self.action_head = ActionHead(config)


def load_case(folder: Path | str) -> tuple[PlainGr00t, dict[str, Tensor], dict[str, Tensor]]:
    """Model in eval mode, inputs and recorded outputs of a case. Raises `CheckpointError` when a part is missing."""
    folder = Path(folder)
    config = replace(read_config(folder), mask_padding=False)  # the reference's plain DiT reads padding
    model = PlainGr00t(config)
    load_weights(model, folder, config)
    inputs, recorded = (_tensors(folder / f"{name}.safetensors") for name in ("inputs", "outputs"))
    if missing := [name for name in NEEDED if name not in inputs]:
        got = f"no {', '.join(missing)}"
        raise CheckpointError(folder / "inputs.safetensors", got=got, want=", ".join(NEEDED), hint=_CASE)
    if not recorded:
        want = "recorded tensors"
        raise CheckpointError(folder / "outputs.safetensors", got="nothing to compare", want=want, hint=_CASE)
    return model.eval(), inputs, recorded


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        got = "no such file" if not file.is_file() else f"a broken file ({error})"
        raise CheckpointError(file, got=got, want="a golden case", hint=_CASE) from error


def compare(folder: Path | str, *, shortcuts: Shortcuts | None = None) -> dict[str, float]:
    """Largest absolute difference of each recorded tensor, at valid positions; infinity when a shape differs."""
    model, inputs, recorded = load_case(folder)
    model.action_head.shortcuts = shortcuts or Shortcuts()
    with torch.no_grad():
        ours = run_case(model, inputs)
    valid = inputs["attention_mask"].bool()
    return {name: _difference(name, ours.get(name), value, valid) for name, value in sorted(recorded.items())}


def _difference(name: str, ours: Tensor | None, recorded: Tensor, valid: Tensor) -> float:
    if ours is None or ours.numel() != recorded.numel():
        return float("inf")
    ours, recorded = ours.reshape(recorded.shape).double(), recorded.double()
    if name.startswith(BY_TOKEN):
        ours, recorded = ours[valid], recorded[valid]
    gap = (ours - recorded).abs().nan_to_num(nan=float("inf"))
    return float(gap.max()) if gap.numel() else 0.0


def run_case(model: PlainGr00t, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor a case may record, computed by our modules."""
    order = sorted((name for name in inputs if name.startswith("pixel_values.")), key=lambda name: int(name[13:]))
    batch = ModelInputs(
        images=tuple(image for name in order for image in inputs[name]),
        input_ids=inputs["input_ids"].long(),
        attention_mask=inputs["attention_mask"].bool(),
        state=inputs["state"],
        embodiment_id=inputs["embodiment_id"].long(),
        action=inputs["action"],
        action_mask=inputs["action_mask"].to(inputs["action"].dtype),
    )
    out, features = _backbone(model.backbone, batch)
    return (
        out | _flow(model.action_head, features, batch, inputs) | _sampler(model.action_head, features, batch, inputs)
    )


def _backbone(backbone: EagleBackbone, batch: ModelInputs) -> tuple[dict[str, Tensor], Features]:
    out: dict[str, Tensor] = {}
    if batch.images:
        states = [backbone.model.vision_model(image[None])[0] for image in batch.images]
        out["vision.last_hidden_state"] = torch.cat(states)
        out["vision.image_tokens"] = backbone.image_tokens(batch.images)
    features = backbone(batch.images, batch.input_ids, batch.attention_mask)
    last = backbone.config.select_layer
    for layer in range(last):
        hidden = backbone.prefix(batch.images, batch.input_ids, batch.attention_mask, layer)
        out[f"backbone.hidden_states.{layer}"] = hidden
    out |= {f"backbone.hidden_states.{last}": features.tokens, "backbone_features": features.tokens}
    return out | {"backbone_attention_mask": features.mask, "image_mask": features.image_mask}, features


def _flow(head: ActionHead, features: Features, batch: ModelInputs, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The training forward, block by block, and its loss."""
    observation = head.observe(features, batch.state, batch.embodiment_id)
    time, noise, action = inputs["time"], inputs["noise"], inputs["action"]
    timing = head.timing((time * head.config.num_timestep_buckets).long(), observation.rows)
    x = head.encode_actions(on_path(noise, action, time)[0], timing, observation.rows)
    out = {"vlln_features": head.vlln(features.tokens), "state_features": observation.state, "action_features": x}
    x = head.sequence(observation, x)
    parts = zip(head.model.transformer_blocks, timing.modulation.blocks, observation.context, strict=True)
    for i, (block, halves, source) in enumerate(parts):
        x = out[f"dit_block.{i}"] = block(x, halves, source)
    out["dit_output"] = head.model.project(x, timing.modulation)
    out["decoder_output"] = head.action_decoder(out["dit_output"], observation.rows)
    flow = head.loss(features, batch, noise=noise, time=time)
    return out | {"action_loss": flow.per_element, "loss": flow.loss}


def _sampler(head: ActionHead, features: Features, batch: ModelInputs, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The chunk, and what the decoder said at each Euler step."""
    decoded: list[Tensor] = []
    hook = head.action_decoder.register_forward_hook(lambda _module, _inputs, output: decoded.append(output))
    try:
        actions = head.sample(features, batch.state, batch.embodiment_id, noise=inputs["sample_noise"])
    finally:
        hook.remove()
    return {"sampled_actions": actions} | {f"sampler_decoder_output.{k}": v for k, v in enumerate(decoded)}
