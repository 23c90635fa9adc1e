"""Model sizes by name: `tiny` runs on a laptop, `n1d6` is the released model. The same code, other numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.data.processor.config import ProcessorConfig
from svms_gr00t.data.processor.embodiment import EMBODIMENT_IDS, EmbodimentConfig
from svms_gr00t.data.processor.images import ColorJitter, ImagePipeline
from svms_gr00t.data.processor.tokenizer import TextTokenizer, load_tokenizer
from svms_gr00t.groot.checkpoint.loading import read_config
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.recipes.training import budget
from svms_gr00t.recipes.training.budget import Budget
from svms_gr00t.train.loop.step import Precision

_SIZE = ("backbone_embedding_dim", "input_embedding_dim", "hidden_size", "select_layer")
TINY_IMAGE = 84
TINY_EMBODIMENTS = {"robocasa_panda_omron": 0, "gr1": 1, "new_embodiment": 2}
"""Rows of the tiny embodiment banks; the released model has 32."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A size: how to configure the model and the processor for an embodiment."""

    name: str
    config: Callable[..., Gr00tN1d6Config]
    """(tokenizer, **changes) -> model configuration."""
    images: ImagePipeline
    """Frame sizes and augmentation."""
    tokenizer: str
    """What `load_tokenizer` takes."""
    embodiment_ids: dict[str, int]
    """Bank row of each embodiment tag."""
    budget: Budget
    """Steps, learning rates and batch sizes that suit the size."""
    precision: Precision
    """Of the forward pass in training."""
    save_steps: int
    """Steps between checkpoints: phase 3 of the released size writes 15 GiB each time."""

    def processor_config(self, tag: str, embodiment: EmbodimentConfig, model: Gr00tN1d6Config) -> ProcessorConfig:
        """The processor that fits a model of this preset."""
        return ProcessorConfig(
            embodiment_tag=tag,
            embodiments={tag: embodiment},
            embodiment_ids=self.embodiment_ids,
            images=self.images,
            max_state_dim=model.max_state_dim,
            max_action_dim=model.max_action_dim,
            max_action_horizon=model.action_horizon,
        )


def tiny_config(tokenizer: TextTokenizer, **changes: Any) -> Gr00tN1d6Config:
    """About three million parameters: every part of N1.6 and of SVMS, small.

    Dropout is off: on a CPU its random numbers cost a fifth of a training step.
    """
    values: dict[str, Any] = {
        "vision_config": {
            "hidden_size": 64,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
        "text_config": {
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "vocab_size": tokenizer.vocab_size,
        },
        "diffusion_model_cfg": {
            "num_layers": 8,
            "num_attention_heads": 4,
            "attention_head_dim": 32,
            "output_dim": 128,
            "dropout": 0.0,
        },
        "use_sheaf_streams": True,
        "image_token_index": tokenizer.image_token_id,
        "select_layer": 3,
        "backbone_embedding_dim": 128,
        "hidden_size": 128,
        "input_embedding_dim": 128,
        "max_state_dim": 44,
        "max_action_dim": 44,
        "action_horizon": 16,
        "max_num_embodiments": len(TINY_EMBODIMENTS),
        "max_seq_len": 16,
        "d_stream": 64,
        "d_overlap": 32,
        "adapter_rank": 16,
    }
    return Gr00tN1d6Config.from_dict(values | changes)


def released_config(tokenizer: TextTokenizer, **changes: Any) -> Gr00tN1d6Config:
    """The released N1.6, 3.3 billion parameters."""
    return Gr00tN1d6Config(image_token_index=tokenizer.image_token_id, **changes)


_JITTER = ColorJitter(brightness=0.15, contrast=0.15, saturation=0.15)
PRESETS = {
    "tiny": Preset(
        name="tiny",
        config=tiny_config,
        images=ImagePipeline.cheap(TINY_IMAGE, jitter=_JITTER),
        tokenizer="tiny",
        embodiment_ids=TINY_EMBODIMENTS,
        budget=budget.TINY,
        precision="fp32",
        save_steps=100,
    ),
    "n1d6": Preset(
        name="n1d6",
        config=released_config,
        images=ImagePipeline(),
        tokenizer="qwen",
        embodiment_ids=EMBODIMENT_IDS,
        budget=budget.RELEASED,
        precision="bf16",
        save_steps=1000,
    ),
}


def preset(name: str) -> Preset:
    """The preset of that name. Raises ConfigError, listing what there is."""
    if name not in PRESETS:
        hint = "tiny runs on a laptop; n1d6 is the released size"
        raise ConfigError("--preset", got=name, want=f"one of {', '.join(PRESETS)}", hint=hint)
    return PRESETS[name]


def preset_for(name: str | None, base: Path | None) -> Preset:
    """The preset of that name, which must not contradict the base; without a name the base's own, or tiny without one.

    A base of neither size goes with the preset that is named. Raises ConfigError.
    """
    if base is None:
        return preset(name or "tiny")
    own = size_of(read_config(base))
    if name is None and own is None:
        got, hint = f"none, for {base}, which is of a size of its own", "It says rates, steps and precision"
        raise ConfigError("--preset", got=got, want=f"one of {', '.join(PRESETS)}", hint=hint)
    found = preset(name or own or "")
    if own not in (None, found.name):
        hint = "Leave --preset out: it follows the base"
        raise ConfigError("--preset", got=found.name, want=f"{own}, the size of {base}", hint=hint)
    return found


def size_of(config: Gr00tN1d6Config) -> str | None:
    """Name of the preset whose widths and depth these are."""
    wanted = [getattr(config, name) for name in _SIZE]
    for one in PRESETS.values():
        known = one.config(load_tokenizer("tiny"))  # the vocabulary is no part of a size
        if [getattr(known, name) for name in _SIZE] == wanted:
            return one.name
    return None
