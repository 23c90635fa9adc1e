"""Between LeRobot's columns and the model's inputs.

Axes: B robots, T frames of an observation (memory's, oldest first, the present last), H horizon, D numbers of a column.

    observation.images.*, observation.state, task, action -> samples -> ModelInputs          chunk -> action (B, H, D)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.history import NOW
from svms_gr00t.core.types import ModelInputs
from svms_gr00t.data.labels.tokens import TokenLabels
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.loading.collate import collate
from svms_gr00t.data.processor.observation import Observation, by_key
from svms_gr00t.data.processor.processor import Processor, Sample

ACTION, TASK = "action", "task"
Batch = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Encodes LeRobot's batches for one robot and puts its chunks together."""

    processor: Processor
    modality: Modality
    width: int
    """Numbers of the action."""
    frames: int
    """T of an observation with memory; 1 without."""

    def check(self, chunk: int) -> None:
        """Raises ConfigError for a robot that LeRobot's columns cannot carry, or whose chunk has another length."""
        robot = self.processor.config.embodiment
        if robot.action.delta_indices != tuple(range(chunk)):
            want = f"{robot.action.horizon}, as in the base's chunk of {robot.action.delta_indices}"
            raise ConfigError("policy.chunk_size", got=chunk, want=want, hint="The base fixes it")
        for kind in ("video", "state"):
            if (steps := getattr(robot, kind).delta_indices) != NOW:
                hint = "Remember by --policy.memory_frames, from a base that looks at the present"
                raise ConfigError(f"{kind} delta_indices", got=steps, want="(0,)", hint=hint)
        if lost := [i for i in range(self.width) if i not in self._written()]:
            hint = "Name them in the dataset's meta/modality.json, or take another --policy.embodiment_tag"
            raise ConfigError("action", got=f"no key for its numbers {lost}", want="a key for each", hint=hint)

    def _written(self) -> set[int]:
        """Numbers of the action that some key writes. Raises ConfigError for a key in another column."""
        found: set[int] = set()
        for key in self.processor.config.embodiment.action.modality_keys:
            if (name := self.modality.column("action", key)) != ACTION:
                hint = "LeRobot trains on one column of actions"
                raise ConfigError(f"action {key}", got=f"column {name}", want=ACTION, hint=hint)
            part = self.modality.action[key]
            found |= set(range(part.start, part.end))
        return found

    def inputs(
        self,
        batch: Batch,
        *,
        learn: bool = False,
        augment: bool = False,
        labels: TokenLabels | None = None,
        label_weight: Float[Tensor, " S"] | None = None,
    ) -> ModelInputs:
        """A batch as the model reads it; `learn` takes the recorded chunks, `augment` draws from torch's generator.

        Raises DataError for a batch that lacks a column or has another shape.
        """
        seen = self.seen(batch)
        seeds = torch.randint(2**62, (len(seen),)).tolist() if augment else None
        chunk, pad = self._chunk(batch) if learn else (None, None)
        samples = self.processor.encode_each(seen, chunk, pad, _draws(seeds), labels)
        windows = self._windows(batch)
        if any(frames.shape[1] > 1 for frames in windows.values()):
            samples = self._remembering(samples, batch, windows, seen.language, seeds)
        return collate(samples, label_weight)

    def seen(self, batch: Batch) -> Observation:
        """What the robots see now. Raises DataError as `inputs` does."""
        texts = batch.get(TASK)
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            hint = "LeRobot puts it there from the dataset's tasks"
            raise DataError(f"batch {TASK}", got=type(texts).__name__, want="an instruction for each robot", hint=hint)
        now = {name: frames[:, -1] for name, frames in self._windows(batch).items()}
        return Observation.from_columns(now, self.modality, texts)

    def _windows(self, batch: Batch) -> dict[str, Tensor]:
        """Every column of the robot with its axis of frames."""
        robot, found = self.processor.config.embodiment, {}
        places = [("video", key, 4) for key in robot.video.modality_keys]
        places += [("state", key, 2) for key in robot.state.modality_keys]
        for kind, key, axes in places:
            name = self.modality.column(kind, key)  # type: ignore[arg-type]
            if name not in batch:
                got, hint = f"no {name}", "A --rename_map gives a column another name"
                raise DataError("batch", got=got, want=f"the column of {kind}.{key}", hint=hint)
            value = batch[name]
            value = value[:, None] if value.ndim == axes else value
            if value.ndim != axes + 1 or value.shape[1] not in (1, self.frames):
                want = f"{axes} axes, or one more with {self.frames} frames"
                raise DataError(name, got=f"shape {tuple(batch[name].shape)}", want=want, hint="See memory_frames")
            found[name] = value
        return found

    def _chunk(self, batch: Batch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Recorded actions by key, and which lie beyond the end of the episode."""
        action = batch[ACTION]
        pad = batch.get(f"{ACTION}_is_pad", torch.zeros(action.shape[:2], dtype=torch.bool))
        return by_key(batch, self.modality, "action"), pad.cpu().numpy()

    def _remembering(
        self,
        samples: Sequence[Sample],
        batch: Batch,
        windows: Mapping[str, Tensor],
        texts: Sequence[str],
        seeds: Sequence[int] | None,
    ) -> list[Sample]:
        """The samples with what was seen before, None where the episode had not begun."""
        padded = torch.zeros(len(samples), self.frames, dtype=torch.bool)
        for name in windows:
            padded |= batch.get(f"{name}_is_pad", padded).cpu()
        before: list[list[Sample | None]] = []
        for frame in range(self.frames - 1):
            there = [i for i in range(len(samples)) if not padded[i, frame]]
            encoded: dict[int, Sample] = {}
            if there:
                columns = {name: frames[there, frame] for name, frames in windows.items()}
                seen = Observation.from_columns(columns, self.modality, [texts[i] for i in there])
                draws = _draws(None if seeds is None else [seeds[i] for i in there])
                encoded = dict(zip(there, self.processor.encode_each(seen, rngs=draws), strict=True))
            before.append([encoded.get(i) for i in range(len(samples))])
        return [replace(one, earlier=tuple(rows[i] for rows in before)) for i, one in enumerate(samples)]

    def joined(self, chunks: Mapping[str, Float[np.ndarray, "B H _d"]]) -> Float[Tensor, "B H D"]:
        """A chunk's keys in the places of LeRobot's action."""
        first = next(iter(chunks.values()))
        action = np.zeros((*first.shape[:2], self.width), np.float32)
        for key, values in chunks.items():
            part = self.modality.action[key]
            action[..., part.start : part.end] = values
        return torch.from_numpy(action)


def _draws(seeds: Sequence[int] | None) -> list[np.random.Generator] | None:
    """One augmentation for all pictures of a sample, those before it too."""
    return None if seeds is None else [np.random.default_rng(seed) for seed in seeds]
