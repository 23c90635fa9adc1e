"""Observation to action: what evaluation and serving call. One object for the plain model and for SVMS.

Axes: B observations, T tokens, S streams, E edges, H horizon, D numbers of an action key.

A checkpoint folder holds the weights (`config.json`, safetensors) and the processor's files, so it is a whole policy.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.collate import collate
from svms_gr00t.data.observation import Observation
from svms_gr00t.data.processor import Processor, Sample
from svms_gr00t.groot.saving import whole_folder
from svms_gr00t.model import Gr00tN1d6


class Policy:
    """A model with its processor. Noise comes from the given seeds, so the same call gives the same actions."""

    def __init__(self, model: Gr00tN1d6, processor: Processor, *, device: torch.device | str = "cpu") -> None:
        self.model, self.processor, self.device = model.to(device).eval(), processor, device

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, embodiment_tag: str | None = None, device: torch.device | str = "cpu"
    ) -> "Policy":
        """Load a checkpoint folder. Raises CheckpointError or DataError when a file is missing or does not fit."""
        model = Gr00tN1d6.from_pretrained(folder, dtype=torch.float32 if str(device) == "cpu" else None)
        return cls(model, Processor.load(folder, embodiment_tag=embodiment_tag), device=device)

    def save_pretrained(self, folder: Path | str) -> Path:
        """Write model and processor as one folder that appears when it is complete."""
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as partial:
            self.model.save_pretrained(partial / "model")
            for file in (partial / "model").iterdir():
                file.rename(partial / file.name)
            (partial / "model").rmdir()
            self.processor.save(partial)
        return folder

    def reset(self, seed: int = 0) -> None:
        """A new episode begins. The policy keeps no memory of the last one."""

    def act(
        self, observations: Sequence[Mapping[str, Any]], *, seeds: Sequence[int]
    ) -> tuple[list[dict[str, np.ndarray]], dict[str, Any]]:
        """One chunk (H, D) in physical units for each flat observation of one robot, and the evidence of the streams.

        Evidence of an SVMS policy: "rho" (B, T, E), "weights" (B, T, S), "mask" and "image_mask" (B, T), "tokens"
        (token texts of each row, left-padding included). Raises DataError for observations that do not fit.
        """
        seen = [single(observation) for observation in observations]
        inputs = collate([self.processor.encode(one) for one in seen]).to(self.device)
        sampled = self.model.sample(inputs, noise=self._noise(inputs, seeds))
        decoded = [self.processor.decode(sampled.action[i : i + 1], one) for i, one in enumerate(seen)]
        chunks = [{key: value[0] for key, value in one.items()} for one in decoded]
        if sampled.states is None:
            return chunks, {}
        states, features = sampled.states, sampled.features
        evidence = {"rho": states.rho, "weights": states.weights, "mask": features.mask}
        evidence["image_mask"] = features.image_mask
        texts = [[self.processor.tokenizer.decode([i]) for i in row] for row in inputs.input_ids.tolist()]
        return chunks, {name: value.float().cpu().numpy() for name, value in evidence.items()} | {"tokens": texts}

    @torch.no_grad()
    def flow_loss(
        self,
        observations: Sequence[Mapping[str, Any]],
        chunks: Sequence[Mapping[str, np.ndarray]],
        *,
        seeds: Sequence[int],
    ) -> Float[np.ndarray, " B"]:
        """Flow-matching loss of recorded chunks at the noise and the flow time that each seed fixes."""
        pairs = zip(observations, chunks, strict=True)
        samples = [self._recorded(single(observation), chunk) for observation, chunk in pairs]
        inputs = collate(samples).to(self.device)
        features, _ = self.model.encode(inputs, losses=False)
        generators = [torch.Generator().manual_seed(seed + 1) for seed in seeds]
        time = torch.cat([self.model.action_head.draw_time(1, generator=g) for g in generators]).to(self.device)
        flow = self.model.action_head.loss(features, inputs, noise=self._noise(inputs, seeds), time=time)
        assert inputs.action_mask is not None
        return (flow.per_element.sum((1, 2)) / inputs.action_mask.sum((1, 2)).clamp(min=1)).float().cpu().numpy()

    def _recorded(self, observation: Observation, chunk: Mapping[str, np.ndarray]) -> Sample:
        horizon = len(self.processor.config.embodiment.action.delta_indices)
        length = min(horizon, len(next(iter(chunk.values()))))
        padded = {key: value[np.minimum(np.arange(horizon), length - 1)] for key, value in chunk.items()}
        return self.processor.encode(observation, padded, np.arange(horizon) >= length)

    def _noise(self, inputs: ModelInputs, seeds: Sequence[int]) -> Float[Tensor, "B H Da"]:
        """Standard normal noise of each row from its own seed, whatever the batch around it."""
        size = (self.model.config.action_horizon, self.model.config.max_action_dim)
        rows = [torch.randn(size, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        return torch.stack(rows).to(inputs.state.device)


def single(flat: Mapping[str, Any]) -> Observation:
    """A flat observation of one robot: "video.<key>" (H, W, 3), "state.<key>" (D,), "annotation.<key>" text."""
    texts = [value for key, value in flat.items() if key.startswith("annotation.")]
    return Observation.single(
        video={key.removeprefix("video."): value for key, value in flat.items() if key.startswith("video.")},
        state={key.removeprefix("state."): value for key, value in flat.items() if key.startswith("state.")},
        language=str(texts[0]) if texts else "",
    )
