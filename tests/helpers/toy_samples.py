"""The toy dataset as training steps, and batches compared bit for bit."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import torch

from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.data.processor.config import ProcessorConfig
from svms_gr00t.data.processor.embodiment import from_modality
from svms_gr00t.data.processor.images import ColorJitter, ImagePipeline
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.data.processor.statistics import compute_statistics
from svms_gr00t.data.processor.tokenizer import load_tokenizer

HORIZON = 4


def labeler(text: str) -> list[tuple[int, int, tuple[float, float, float]]]:
    """Every word that starts with "d" is visual."""
    return [
        (text.index(word), text.index(word) + len(word), (float(word[0] == "d"), 0.0, 0.0)) for word in text.split()
    ]


def build(
    root: Path, *, offsets: Mapping[str, tuple[int, ...]] | None = None, **changes
) -> tuple[LeRobotDataset, SampleDataset]:
    """`offsets` are delta_indices other than those of the present, by modality."""
    dataset = LeRobotDataset.open(root)
    robot = from_modality(dataset.modality, horizon=HORIZON)
    past = {kind: replace(getattr(robot, kind), delta_indices=deltas) for kind, deltas in (offsets or {}).items()}
    config = ProcessorConfig(
        embodiment_tag="new_embodiment",
        embodiments={"new_embodiment": replace(robot, **past)},
        images=ImagePipeline.cheap(28, jitter=ColorJitter(brightness=0.3)),
        max_state_dim=6,
        max_action_dim=6,
        max_action_horizon=HORIZON,
    )
    processor = Processor(config, load_tokenizer("tiny"), compute_statistics(dataset))
    return dataset, SampleDataset(dataset, processor, **({"episodes": [0, 1, 2], "labeler": labeler} | changes))


def equal(a: ModelInputs, b: ModelInputs) -> bool:
    """Bit for bit."""
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)]
    tensors = [(x, y) for x, y in pairs if isinstance(x, torch.Tensor)] + list(zip(a.images, b.images, strict=True))
    return all(torch.equal(x, y) for x, y in tensors)
