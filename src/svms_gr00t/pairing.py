"""Model and processor of one policy: what they must have in common."""

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.groot.config import Gr00tN1d6Config


def check_pairing(config: Gr00tN1d6Config, processor: Processor) -> None:
    """Raise CheckpointError when the processor was made for a model of other sizes."""
    codec = processor.codec
    rules = {
        "max_state_dim": (codec.max_state_dim, config.max_state_dim, codec.max_state_dim == config.max_state_dim),
        "action width": (codec.action_dim, config.max_action_dim, codec.action_dim <= config.max_action_dim),
        "action horizon": (codec.horizon, config.action_horizon, codec.horizon <= config.action_horizon),
        "embodiment row": (
            processor.config.embodiment_id,
            f"a row below {config.max_num_embodiments}",
            processor.config.embodiment_id < config.max_num_embodiments,
        ),
        "image token": (
            processor.tokenizer.image_token_id,
            config.image_token_index,
            processor.tokenizer.image_token_id == config.image_token_index,
        ),
    }
    for name, (got, want, fits) in rules.items():
        if not fits:
            hint = "take model and processor from one checkpoint"
            raise CheckpointError(f"processor {name}", got=got, want=f"the model's, {want}", hint=hint)
