"""The configuration of GR00T N1.6 with SVMS: one frozen value, the same keys as NVIDIA's `config.json`.

Does not import torch. The vision and language towers are not described in the released file; their defaults here are
the released sizes, and they are written only when they differ. With `use_sheaf_streams=False` no SVMS key is written,
so the file is a plain N1.6 configuration.
"""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from svms_gr00t.core.errors import CheckpointError, ConfigError, near
from svms_gr00t.core.files.documents import filled, named, read_raw
from svms_gr00t.core.svms_config import SvmsConfig
from svms_gr00t.groot.bounds import check_config
from svms_gr00t.groot.parts import DiTConfig, TextConfig, VisionConfig, words

MODEL_TYPE = "Gr00tN1d6"
PARTS: dict[str, type[VisionConfig] | type[TextConfig] | type[DiTConfig]] = {
    "vision_config": VisionConfig,
    "text_config": TextConfig,
    "diffusion_model_cfg": DiTConfig,
}
_SVMS_KEYS = frozenset(f.name for f in fields(SvmsConfig))
_MEMORY_KEYS = frozenset(name for name in _SVMS_KEYS if name.startswith("memory_")) | {"lambda_recall"}
_TARGET_KEYS = frozenset({"grounded_targets", "target_streams", "lambda_targets"})

# Keys that N1.6 files carry for NVIDIA's trainer, processor and library; kept and written back.
CARRIED = words(
    "architectures model_dtype model_name model_revision backbone_model_type tune_top_llm_layers tune_llm tune_visual "
    "tune_projector tune_diffusion_model tune_vlln reproject_vision use_flash_attention load_bf16 eagle_collator "
    "gemma_collator collator_overwrite_image_inputs backbone_trainable_params_fp32 image_crop_size image_target_size "
    "shortest_image_edge crop_fraction random_rotation_angle color_jitter_params use_albumentations_transforms "
    "letter_box_transform extra_augmentation_config formalize_language apply_sincos_state_encoding use_relative_action "
    "use_percentiles use_mean_std attn_dropout attn_implementation _attn_implementation torch_dtype dtype auto_map "
    "transformers_version _name_or_path name_or_path return_dict output_hidden_states output_attentions id2label "
    "label2id problem_type chunk_size_feed_forward is_encoder_decoder tie_word_embeddings use_cache use_bfloat16"
)


@dataclass(frozen=True, kw_only=True)
class Gr00tN1d6Config(SvmsConfig):
    """Everything that fixes the shape and the arithmetic of the model. Defaults are the released sizes."""

    vision_config: VisionConfig = field(default_factory=VisionConfig)
    """SigLIP2 tower."""
    text_config: TextConfig = field(default_factory=TextConfig)
    """Qwen3 tower."""
    diffusion_model_cfg: DiTConfig = field(default_factory=DiTConfig)
    """Diffusion transformer."""
    image_token_index: int = 151669
    """Token id that is replaced by image tokens."""
    select_layer: int = 16
    """Language layers that are kept."""
    backbone_embedding_dim: int = 2048
    """Width M of the features; equals the language width."""
    use_vlln: bool = True
    """LayerNorm on the features before the action head."""
    use_alternate_vl_dit: bool = True
    """Cross blocks alternate between text and image tokens; off, each reads all tokens."""
    attend_text_every_n_blocks: int = 2
    """Among the cross blocks, every n-th reads text, the others images."""
    mask_padding: bool = True
    """Hide padding from the plain DiT. NVIDIA's plain DiT reads padding as if it were text; False reproduces that."""
    hidden_size: int = 1024
    """Width inside the state encoder and the action decoder."""
    input_embedding_dim: int = 1536
    """Width of the action sequence; equals the DiT's."""
    max_state_dim: int = 128
    """State width Ds after padding."""
    max_action_dim: int = 128
    """Action width Da after padding."""
    action_horizon: int = 50
    """Steps H in one action chunk."""
    max_num_embodiments: int = 32
    """Rows in each embodiment bank."""
    add_pos_embed: bool = True
    """Learned positions over the steps of the chunk."""
    max_seq_len: int = 1024
    """Longest chunk the learned positions cover."""
    state_dropout_prob: float = 0.0
    """Chance that training hides the state behind a learned mask token; the token exists only when above 0."""
    state_additive_noise_scale: float = 0.0
    """Standard deviation of noise added to the state features in training."""
    num_inference_timesteps: int = 4
    """Euler steps N of the sampler."""
    num_timestep_buckets: int = 1000
    """Resolution of the flow time given to the network."""
    noise_beta_alpha: float = 1.5
    """tau = (1 - Beta(alpha, beta)) * noise_s: more training near pure noise."""
    noise_beta_beta: float = 1.0
    """See `noise_beta_alpha`."""
    noise_s: float = 0.999
    """Largest flow time in training."""
    extra: dict[str, Any] = field(default_factory=dict, repr=False)
    """Keys of an N1.6 file that only NVIDIA's own code reads; written back unchanged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, part in PARTS.items():
            if not isinstance(value := getattr(self, name), part):
                hint = "Gr00tN1d6Config.from_dict takes plain JSON objects"
                raise ConfigError(name, got=value, want=f"a {part.__name__}", hint=hint)
        check_config(self)
        _check(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Gr00tN1d6Config":
        """The configuration in a `config.json` object; SVMS is off when the file names none of its keys.

        Raises `CheckpointError` for another GR00T, `ConfigError` for an unknown key or a value that cannot be,
        `DataError` for one of another type.
        """
        _refuse_other_models(values)
        known = {f.name for f in fields(cls)} - {"extra"}
        for name in values.keys() - known - CARRIED - {"model_type"}:
            hint = f"{near(name, sorted(known))}"
            raise ConfigError(name, got=values[name], want="a key of GR00T N1.6 or SVMS", hint=hint)
        given: dict[str, Any] = {k: v for k, v in values.items() if k in known}
        given |= {name: vars(PARTS[name].from_dict(given[name])) for name in PARTS.keys() & given.keys()}
        given.setdefault("use_sheaf_streams", bool(_SVMS_KEYS & given.keys()))
        extra = {k: v for k, v in values.items() if k in CARRIED and (k, v) != ("architectures", [MODEL_TYPE])}
        return filled(cls, given | {"extra": extra}, "config.json", hint="take the value of the released config.json")

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that `from_dict` reads and, with SVMS off, NVIDIA's code too."""
        out: dict[str, Any] = {"architectures": [MODEL_TYPE], "model_type": MODEL_TYPE, **self.extra}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "extra" or (f.name in _SVMS_KEYS and not self.use_sheaf_streams):
                continue
            if f.name in _MEMORY_KEYS and not self.memory_offsets:
                continue
            if f.name in _TARGET_KEYS and not self.grounded_targets:
                continue
            if f.name == "mask_padding" and value:
                continue
            if f.name in ("vision_config", "text_config") and value == PARTS[f.name]():
                continue
            out[f.name] = value.to_dict() if f.name in PARTS else value
        return out

    @classmethod
    def load(cls, file: Path | str) -> "Gr00tN1d6Config":
        """Read `config.json`. Raises `CheckpointError` when it is absent or no JSON object."""
        path = Path(file)
        want, hint = "a GR00T N1.6 config.json", "pass the folder that holds config.json and model*.safetensors"
        values = read_raw(path, want=want, hint=hint, fault=CheckpointError)
        with named(path, want=want, hint=hint, fault=CheckpointError):
            return cls.from_dict(values)

    def dumps(self) -> str:
        """The text of `config.json`, keys sorted."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"


def _refuse_other_models(values: dict[str, Any]) -> None:
    named = values.get("architectures")
    kind = values.get("model_type", named[0] if isinstance(named, list) and named else MODEL_TYPE)
    plain = str(kind).lower().replace("_", "").replace(".", "")
    want = "a GR00T N1.6 configuration (model_type Gr00tN1d6)"
    if "action_head_cfg" in values or "backbone_cfg" in values or plain in ("gr00tn1", "gr00tn15", "gr00tn1d5"):
        hint = "its weights do not fit N1.6; start from nvidia/GR00T-N1.6-3B"
        raise CheckpointError("config.json", got=f"GR00T N1 or N1.5 (model_type {kind})", want=want, hint=hint)
    if plain in ("gr00tn17", "gr00tn1d7"):
        hint = "N1.7 has another backbone (Cosmos-Reason2); start from nvidia/GR00T-N1.6-3B"
        raise CheckpointError("config.json", got=f"GR00T N1.7 (model_type {kind})", want=want, hint=hint)
    if kind != MODEL_TYPE:
        hint = "pass the folder of an N1.6 checkpoint, such as nvidia/GR00T-N1.6-3B"
        raise CheckpointError("config.json", got=f"model_type {kind!r}", want=want, hint=hint)


def _check(c: Gr00tN1d6Config) -> None:
    text, dit = c.text_config, c.diffusion_model_cfg
    n_layers = text.num_hidden_layers
    rules: list[tuple[str, bool, str, str]] = [
        ("select_layer", 1 <= c.select_layer <= n_layers, f"1 .. {n_layers} (num_hidden_layers)", "N1.6 keeps 16"),
        (
            "backbone_embedding_dim",
            c.backbone_embedding_dim == text.hidden_size,
            f"text_config.hidden_size = {text.hidden_size}",
            "set both alike",
        ),
        (
            "input_embedding_dim",
            c.input_embedding_dim == dit.width,
            f"the DiT's heads x head width = {dit.width}",
            "set both alike",
        ),
        (
            "image_token_index",
            0 <= c.image_token_index < text.vocab_size,
            f"an id below {text.vocab_size}",
            "N1.6 uses 151669",
        ),
        ("attend_text_every_n_blocks", c.attend_text_every_n_blocks >= 1, "at least 1", "N1.6 has 2"),
        (
            "use_alternate_vl_dit",
            dit.interleave_self_attention or not c.use_alternate_vl_dit,
            "False without interleaved self-attention",
            "the alternation counts cross blocks in pairs",
        ),
        (
            "max_seq_len",
            c.action_horizon <= c.max_seq_len or not c.add_pos_embed,
            f"at least action_horizon = {c.action_horizon}",
            "the learned positions must cover the chunk",
        ),
        ("num_inference_timesteps", c.num_inference_timesteps >= 1, "at least 1 step", "N1.6 takes 4"),
        ("num_timestep_buckets", c.num_timestep_buckets >= 1, "at least 1", "N1.6 has 1000"),
        ("noise_s", 0 < c.noise_s <= 1, "0 < noise_s <= 1", "N1.6 has 0.999"),
        ("noise_beta_alpha", c.noise_beta_alpha > 0, "above 0", "N1.6 has 1.5"),
        ("noise_beta_beta", c.noise_beta_beta > 0, "above 0", "N1.6 has 1.0"),
        ("state_dropout_prob", 0 <= c.state_dropout_prob <= 1, "0 .. 1", "0 always shows the state"),
        ("state_additive_noise_scale", c.state_additive_noise_scale >= 0, "0 or more", "0 adds no noise"),
    ]
    sizes = words("hidden_size max_state_dim max_action_dim action_horizon max_num_embodiments max_seq_len")
    rules += [(name, getattr(c, name) >= 1, "at least 1", "see the released config.json") for name in sorted(sizes)]
    for name, fine, want, hint in rules:
        if not fine:
            raise ConfigError(name, got=getattr(c, name), want=want, hint=hint)
