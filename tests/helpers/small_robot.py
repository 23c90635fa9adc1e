"""A robot of two cameras and a few numbers, with a processor for it."""

from typing import Any

import numpy as np

from svms_gr00t.data.processor.config import ProcessorConfig
from svms_gr00t.data.processor.embodiment import ActionConfig, EmbodimentConfig, ModalityConfig
from svms_gr00t.data.processor.images import ImagePipeline
from svms_gr00t.data.processor.observation import Observation
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.data.processor.tokenizer import load_tokenizer

HORIZON = 4
WIDTHS = {"arm": 3, "gripper": 1}


def robot(*, arm: ActionConfig | None = None) -> EmbodimentConfig:
    return EmbodimentConfig(
        video=ModalityConfig(modality_keys=("front", "wrist")),
        state=ModalityConfig(modality_keys=("arm", "gripper")),
        action=ModalityConfig(
            delta_indices=tuple(range(HORIZON)),
            modality_keys=("arm", "gripper"),
            action_configs=(arm or ActionConfig(), ActionConfig()),
        ),
        language=ModalityConfig(modality_keys=("annotation.human.action.task_description",)),
    )


def summary(low: Any, high: Any) -> dict[str, Any]:
    low, high = np.asarray(low, float), np.asarray(high, float)
    middle, half = (low + high) / 2, (high - low) / 2
    columns = {"min": low, "max": high, "mean": middle, "std": half, "q01": low * 0.9, "q99": high * 0.9}
    return {name: column.tolist() for name, column in columns.items()}


def statistics() -> dict[str, Any]:
    state, action = ({key: summary([-2.0] * n, [2.0] * n) for key, n in WIDTHS.items()} for _ in range(2))
    steps = np.ones((HORIZON, 3)) * np.arange(1, HORIZON + 1)[:, None]
    return {"state": state, "action": action, "relative_action": {"arm": summary(-steps, steps)}}


def processor(*, arm: ActionConfig | None = None, **changes: Any) -> Processor:
    settings: dict[str, Any] = {
        "embodiment_tag": "new_embodiment",
        "embodiments": {"new_embodiment": robot(arm=arm)},
        "images": ImagePipeline.cheap(56),
        "max_state_dim": 6,
        "max_action_dim": 7,
        "max_action_horizon": 6,
    }
    return Processor(ProcessorConfig(**(settings | changes)), load_tokenizer("tiny"), statistics())


def observation(*, text: str = "Pick up the red cube.", seed: int = 0, size: int = 64) -> Observation:
    rng = np.random.default_rng(seed)
    return Observation.single(
        video={view: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for view in ("front", "wrist")},
        state={key: rng.uniform(-1, 1, width) for key, width in WIDTHS.items()},
        language=text,
    )


def chunk(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: rng.uniform(-1, 1, (HORIZON, width)) for key, width in WIDTHS.items()}
