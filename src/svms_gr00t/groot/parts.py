"""Sizes of the three towers of N1.6, as plain values: SigLIP2 vision, Qwen3 language, diffusion transformer.

Every field is a key of the corresponding section of `config.json`. A key that this code does not need (such as
`use_cache`) is kept in `extra`, so that what was read is what is written.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from svms_gr00t.core.errors import ConfigError, near
from svms_gr00t.core.files.documents import filled

Section = TypeVar("Section", bound="Part")


def words(text: str) -> frozenset[str]:
    """The blank-separated names in `text`."""
    return frozenset(text.split())


@dataclass(frozen=True, kw_only=True)
class Part:
    """A section of `config.json`: known fields checked, harmless others carried along."""

    SECTION: ClassVar[str]
    CARRIED: ClassVar[frozenset[str]] = frozenset()
    FIXED: ClassVar[dict[str, Any]] = {}
    """Carried keys that would change the arithmetic, with the one value that is implemented."""

    extra: dict[str, Any] = field(default_factory=dict, repr=False)
    """Keys of the file that this code does not read; written back unchanged."""

    @classmethod
    def from_dict(cls: type[Section], values: dict[str, Any]) -> Section:
        """The section from its JSON object; `ConfigError` for an unknown key, `DataError` for another type of value."""
        if not isinstance(values, dict):
            raise ConfigError(cls.SECTION, got=values, want="a JSON object", hint="see the released config.json")
        known = {f.name for f in fields(cls)} - {"extra"}
        for name in values.keys() & cls.FIXED.keys():
            if values[name] != cls.FIXED[name]:
                where, want = f"{cls.SECTION}.{name}", repr(cls.FIXED[name])
                raise ConfigError(
                    where, got=values[name], want=want, hint="N1.6 uses no other, so it is not built here"
                )
        for name in values.keys() - known - cls.CARRIED - cls.FIXED.keys():
            where, hint = f"{cls.SECTION}.{name}", near(name, sorted(known))
            raise ConfigError(where, got=values[name], want="a key of GR00T N1.6", hint=hint)
        extra = {k: v for k, v in values.items() if k not in known}
        given = {k: v for k, v in values.items() if k in known}
        return filled(cls, given | {"extra": extra}, cls.SECTION, hint="take the value of the released config.json")

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that `from_dict` reads."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"} | self.extra

    def require(self, name: str, fine: bool, want: str, hint: str) -> None:
        """Raise `ConfigError` for field `name` unless `fine`."""
        if not fine:
            raise ConfigError(f"{self.SECTION}.{name}", got=getattr(self, name), want=want, hint=hint)


@dataclass(frozen=True, kw_only=True)
class VisionConfig(Part):
    """SigLIP2 tower: pre-norm encoder with full attention inside each image."""

    SECTION: ClassVar[str] = "vision_config"
    CARRIED: ClassVar[frozenset[str]] = words(
        "attention_dropout window_size full_attention_indexes model_type image_size _attn_implementation torch_dtype "
        "dtype initializer_factor initializer_range use_rope_2d auto_map architectures vision_use_head"
    )

    hidden_size: int = 1152
    """Token width."""
    intermediate_size: int = 4304
    """Width inside the MLP."""
    num_hidden_layers: int = 27
    """Encoder layers."""
    num_attention_heads: int = 16
    """Heads; must divide the width."""
    num_channels: int = 3
    """Colour channels."""
    num_patches: int = 256
    """Learned positions: a square grid, resized to each image."""
    patch_size: int = 14
    """Pixels on a patch's side."""
    hidden_act: str = "gelu_pytorch_tanh"
    """MLP activation."""
    layer_norm_eps: float = 1e-6
    """LayerNorm epsilon."""
    use_rope: bool = False
    """Rotary positions: off in N1.6, not implemented."""
    use_windows_attn: bool = False
    """Window attention: off in N1.6, not implemented."""

    def __post_init__(self) -> None:
        fits = self.hidden_size % self.num_attention_heads == 0
        self.require("num_attention_heads", fits, f"a divisor of hidden_size = {self.hidden_size}", "N1.6 has 16")
        side = round(self.num_patches**0.5)
        self.require("num_patches", side * side == self.num_patches > 0, "a square number", "N1.6 has 256 = 16 x 16")
        self.require("use_rope", not self.use_rope, "False", "N1.6 learns its positions; this is another tower")
        self.require("use_windows_attn", not self.use_windows_attn, "False", "N1.6 has full attention")


@dataclass(frozen=True, kw_only=True)
class TextConfig(Part):
    """Qwen3 tower: causal, grouped queries, rotary positions; only its first `select_layer` layers are built."""

    SECTION: ClassVar[str] = "text_config"
    CARRIED: ClassVar[frozenset[str]] = words(
        "attention_dropout use_cache bos_token_id eos_token_id pad_token_id initializer_range max_window_layers "
        "model_type sliding_window torch_dtype dtype layer_types architectures "
        "_attn_implementation transformers_version tie_word_embeddings"
    )
    FIXED: ClassVar[dict[str, Any]] = {"rope_scaling": None, "use_sliding_window": False}

    hidden_size: int = 2048
    """Token width M."""
    intermediate_size: int = 6144
    """Width inside the gated MLP."""
    num_hidden_layers: int = 28
    """Layers of the original; those above `select_layer` are never built."""
    num_attention_heads: int = 16
    """Query heads."""
    num_key_value_heads: int = 8
    """Key and value heads; must divide the query heads."""
    head_dim: int = 128
    """Width of a head."""
    vocab_size: int = 151680
    """Rows of the embedding."""
    hidden_act: str = "silu"
    """Activation of the gate."""
    rms_norm_eps: float = 1e-6
    """RMSNorm epsilon."""
    rope_theta: float = 1e6
    """Base of the rotary frequencies."""
    max_position_embeddings: int = 40960
    """Longest sequence the original was built for."""
    attention_bias: bool = False
    """Biases on the attention projections."""

    def __post_init__(self) -> None:
        fits = self.num_attention_heads % self.num_key_value_heads == 0
        self.require("num_key_value_heads", fits, f"a divisor of {self.num_attention_heads} heads", "N1.6 has 8")
        self.require("head_dim", self.head_dim % 2 == 0, "an even width", "rotary positions turn pairs; N1.6 has 128")


@dataclass(frozen=True, kw_only=True)
class DiTConfig(Part):
    """Diffusion transformer of the action head; its width is heads x head width."""

    SECTION: ClassVar[str] = "diffusion_model_cfg"
    CARRIED: ClassVar[frozenset[str]] = words(
        "cross_attention_dim max_num_positional_embeddings num_embeds_ada_norm upcast_attention compute_dtype"
    )
    FIXED: ClassVar[dict[str, Any]] = {
        "norm_elementwise_affine": False,
        "norm_eps": 1e-5,
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
    }

    num_layers: int = 32
    """Blocks."""
    num_attention_heads: int = 32
    """Heads."""
    attention_head_dim: int = 48
    """Width of a head."""
    output_dim: int = 1024
    """Width handed to the action decoder."""
    dropout: float = 0.2
    """Dropout in attention and MLP while training."""
    final_dropout: bool = True
    """Also drop after attention and after the MLP's second layer."""
    interleave_self_attention: bool = True
    """Odd blocks attend the action sequence itself; off, every block attends the observation."""
    norm_type: str = "ada_norm"
    """How the time enters; only the AdaLN of N1.6 is implemented."""
    positional_embeddings: str | None = None
    """Positions inside the blocks; N1.6 has none."""

    def __post_init__(self) -> None:
        self.require("num_layers", self.num_layers >= 1, "at least 1 block", "N1.6 has 32")
        self.require("dropout", 0 <= self.dropout < 1, "0 <= dropout < 1", "N1.6 has 0.2")
        self.require("norm_type", self.norm_type == "ada_norm", "'ada_norm'", "N1.6 uses no other")
        self.require("positional_embeddings", self.positional_embeddings is None, "None", "N1.6 has none")

    @property
    def width(self) -> int:
        """Width of the action sequence."""
        return self.num_attention_heads * self.attention_head_dim
