"""One object between the world and the model: it encodes for training, evaluation and serving alike, and decodes.

Axes: T tokens, n past states, H horizon, Ds and Da the model's state and action widths, S labels, h and w pixels.

    frames + instruction -> pixels, token ids      state -> normalised, padded      actions -> normalised, padded, mask

Beside a checkpoint it is `processor_config.json`, `statistics.json`, `embodiment_id.json` and `tokenizer.json`.
Source: processor of GR00T N1.6.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import RootModel
from torch import Tensor

from svms_gr00t.core.errors import CheckpointError, DataError
from svms_gr00t.core.files.documents import dump_json, named, read_raw, validate
from svms_gr00t.core.history import check_past
from svms_gr00t.core.types import Pictures
from svms_gr00t.data.processor.config import ProcessorConfig
from svms_gr00t.data.processor.images import CELL
from svms_gr00t.data.processor.lowdim import LowDimCodec, only
from svms_gr00t.data.processor.observation import Observation
from svms_gr00t.data.processor.text import PromptEncoder, PromptText
from svms_gr00t.data.processor.tokenizer import TextTokenizer, load_tokenizer

Statistics = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""By robot, kind and key."""
TokenLabels = Callable[[PromptText], Float[Tensor, "T S"]]
"""What is said of each token of a prompt; see `data/labels/tokens.py`."""
_FILES_HINT = "Give the folder of a checkpoint: an N1.6 release or one saved by this package"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One encoded step; `collate` turns a list of them into `ModelInputs`."""

    images: Pictures
    """Every image in prompt order."""
    input_ids: Int[Tensor, " T"]
    """Prompt tokens."""
    instruction_mask: Bool[Tensor, " T"]
    """True on tokens of the instruction."""
    instruction: str
    """The instruction as it stands in the prompt."""
    state: Float[Tensor, "n Ds"]
    """Normalised, zero-padded."""
    embodiment_id: int
    """Row of the embodiment-specific weights."""
    pad_id: int
    """Token that pads shorter prompts."""
    image_id: int
    """Token that stands where an image's tokens go."""
    action: Float[Tensor, "H Da"] | None = None
    """Normalised, zero-padded chunk; absent at inference."""
    action_mask: Float[Tensor, "H Da"] | None = None
    """1 on real steps and dimensions."""
    labels: Float[Tensor, "T S"] | None = None
    """Token labels; absent where none were asked for."""
    label_mask: Bool[Tensor, " T"] | None = None
    """True where a label counts: the instruction's tokens."""
    hidden: Float[Tensor, "T M"] | None = None
    """Cached hidden states of the tokens, in place of the images."""
    hidden_layer: int = 0
    """Language layers that `hidden` has been through."""
    targets: Float[Tensor, " G"] | None = None
    """Grounded targets, physical units; absent where none were asked for."""
    earlier: "tuple[Sample | None, ...]" = ()
    """What was seen at the memory's offsets, oldest first, None before the episode began; () without memory."""


class Processor:
    """Encodes observations of one embodiment and decodes actions.

    `statistics` is {"state": {key: {...}}, "action": {...}} of this embodiment, or {tag: ...} of several.
    Raises DataError when the statistics do not fit the configuration, ConfigError for an observation of the future.
    """

    def __init__(self, config: ProcessorConfig, tokenizer: TextTokenizer, statistics: Mapping[str, Any]) -> None:
        self.config, self.tokenizer = config, tokenizer
        for kind in ("video", "state"):
            check_past(getattr(config.embodiment, kind).delta_indices, f"{config.embodiment_tag} {kind} delta_indices")
        self.statistics: dict[str, Any] = (
            {config.embodiment_tag: dict(statistics)} if "action" in statistics else dict(statistics)
        )
        self.statistics = config.by_range(self.statistics)
        if config.embodiment_tag not in self.statistics:
            hint = "Compute them over the dataset that you train on"
            raise DataError("statistics", got=only(self.statistics), want=config.embodiment_tag, hint=hint)
        self.codec = LowDimCodec(
            config.embodiment,
            self.statistics[config.embodiment_tag],
            max_state_dim=config.max_state_dim,
            max_action_dim=config.max_action_dim,
            max_action_horizon=config.max_action_horizon,
            use_percentiles=config.use_percentiles,
            clip_outliers=config.clip_outliers,
            apply_sincos_state_encoding=config.apply_sincos_state_encoding,
            use_relative_action=config.use_relative_action,
        )
        self._real = torch.zeros(config.max_action_horizon, config.max_action_dim)
        self._real[: self.codec.horizon, : self.codec.action_dim] = 1.0
        self.text = PromptEncoder(tokenizer, formalize=config.formalize_language)

    def encode(
        self,
        observation: Observation,
        actions: Mapping[str, np.ndarray] | None = None,
        action_pad: Bool[np.ndarray, " h"] | None = None,
        rng: np.random.Generator | None = None,
        labels: TokenLabels | None = None,
        image_tokens: tuple[int, ...] | None = None,
    ) -> Sample:
        """One robot's observation as a sample; `rng` switches the training augmentation on.

        `actions` are physical, key -> (horizon, D), with `action_pad` True on steps beyond the episode's end.
        `image_tokens` are the tokens of each image when a feature cache stands for the pictures: none is encoded.
        Raises DataError for missing keys, wrong shapes, NaN or a batch of several robots.
        """
        if len(observation) != 1:
            got, hint = f"{len(observation)} robots", "Encode observation.split() one by one, then collate"
            raise DataError("observation", got=got, want="one", hint=hint)
        observation.check(self.config.embodiment, video=image_tokens is None)
        images = self._images(observation, rng) if image_tokens is None else Pictures.joined(())
        counts = image_tokens or tuple(height * width // CELL**2 for height, width in images.sizes)
        text = self.text(observation.language[0], counts)
        state = {key: numbers[0] for key, numbers in observation.state.items()}
        action = None if actions is None else torch.from_numpy(self.codec.encode_action(actions, state)).float()
        return Sample(
            images=images,
            input_ids=text.ids,
            instruction_mask=text.mask,
            instruction=text.instruction,
            state=self._timed(torch.from_numpy(self.codec.encode_state(state)).float(), observation.step),
            embodiment_id=self.config.embodiment_id,
            pad_id=self.tokenizer.pad_id,
            image_id=self.tokenizer.image_token_id,
            action=action,
            action_mask=None if action is None else self._action_mask(action_pad),
            labels=None if labels is None else labels(text),
            label_mask=None if labels is None else text.mask,
        )

    def encode_each(
        self,
        observation: Observation,
        actions: Mapping[str, np.ndarray] | None = None,
        action_pad: Bool[np.ndarray, "B h"] | None = None,
        rngs: Sequence[np.random.Generator] | None = None,
        labels: TokenLabels | None = None,
    ) -> list[Sample]:
        """`encode` for B robots: a sample each, for `collate`. Actions are (B, horizon, D), `rngs` one for each."""
        seen = observation.split()
        chunks = [None if actions is None else {key: v[i] for key, v in actions.items()} for i in range(len(seen))]
        pads = [None] * len(seen) if action_pad is None else list(action_pad)
        draws = [None] * len(seen) if rngs is None else list(rngs)
        rows = zip(seen, chunks, pads, draws, strict=True)
        return [self.encode(one, chunk, pad, rng, labels) for one, chunk, pad, rng in rows]

    def decode(
        self, actions: Tensor | np.ndarray, observation: Observation | None = None
    ) -> dict[str, Float[np.ndarray, "B _h _d"]]:
        """Normalised chunks (B, H, Da) as float32 physical actions (B, horizon, D) of each key.

        Relative actions need the observation that they were predicted from. Raises DataError otherwise.
        """
        chunks = actions.detach().float().cpu().numpy() if isinstance(actions, Tensor) else np.asarray(actions)
        if chunks.ndim != 3 or chunks.shape[1] < self.codec.horizon or chunks.shape[2] < self.codec.action_dim:
            want = f"(B, {self.codec.horizon} or more, {self.codec.action_dim} or more)"
            raise DataError("actions", got=f"shape {chunks.shape}", want=want, hint="Pass what the model sampled")
        if observation is not None and len(observation) != len(chunks):
            got, want = f"{len(chunks)} chunks for {len(observation)} robots", "one each"
            raise DataError("actions", got=got, want=want, hint="Pass the observation that was encoded")
        decoded = [
            self.codec.decode_action(
                chunk, None if observation is None else {key: rows[i] for key, rows in observation.state.items()}
            )
            for i, chunk in enumerate(chunks)
        ]
        return {key: np.stack([one[key] for one in decoded]) for key in self.config.embodiment.action.modality_keys}

    def _images(self, observation: Observation, rng: np.random.Generator | None) -> Pictures:
        draw = None if rng is None else self.config.images.draw(rng)
        views = [self.config.images(observation.video[k][0], draw) for k in self.config.embodiment.video.modality_keys]
        return Pictures.joined([view.only(step) for step in range(len(views[0])) for view in views])

    def _timed(self, state: Float[Tensor, "n Ds"], step: tuple[int, ...] | None) -> Float[Tensor, "n Ds"]:
        """The state with the clock in its last number, where the configuration wants one."""
        if not (full := self.config.clock_steps):
            return state
        if step is None:
            hint = "Say how many steps the episode has lasted"
            raise DataError("observation", got="no step", want="one, for a policy with a clock", hint=hint)
        state[:, -1] = min(step[0] / full, 1.0)
        return state

    def _action_mask(self, pad: Bool[np.ndarray, " h"] | None) -> Float[Tensor, "H Da"]:
        mask = self._real.clone()
        if pad is not None:
            if pad.shape != (self.codec.horizon,):
                got, want = f"shape {pad.shape}", f"({self.codec.horizon},)"
                raise DataError("action_pad", got=got, want=want, hint="One value for each step of the chunk")
            if pad.any():
                mask[: self.codec.horizon][torch.from_numpy(pad)] = 0.0
        return mask

    def keeping_range(self, names: Sequence[str]) -> "Processor":
        """The same with these keys ("action.base_motion") of the robot at work normalised by minimum and maximum.

        Raises ConfigError for keys that it does not have.
        """
        kept = self.config.min_max_embedding_keys | {self.config.embodiment_tag: tuple(names)}
        return Processor(replace(self.config, min_max_embedding_keys=kept), self.tokenizer, self.statistics)

    def save(self, folder: Path | str) -> None:
        """Write the four files into `folder`."""
        folder = Path(folder)
        dump_json(folder / "processor_config.json", self.config.to_dict())
        dump_json(folder / "statistics.json", self.statistics)
        dump_json(folder / "embodiment_id.json", self.config.embodiment_ids)
        self.tokenizer.save(folder)

    @classmethod
    def load(
        cls, folder: Path | str, *, embodiment_tag: str | None = None, tokenizer: TextTokenizer | None = None
    ) -> "Processor":
        """Read a checkpoint's files; without `tokenizer.json` (N1.6 ships none) the "qwen" one is taken.

        Raises CheckpointError or DataError for files that are missing or do not fit, MissingExtra without "qwen".
        """
        folder = Path(folder)
        file, ids_file = folder / "processor_config.json", folder / "embodiment_id.json"
        with named(file, want="processor settings of N1.6", hint=_FILES_HINT, fault=CheckpointError):
            config = ProcessorConfig.from_dict(
                _mapping(file),
                embodiment_tag=embodiment_tag,
                embodiment_ids=_mapping(ids_file) if ids_file.is_file() else None,
                where=file,
            )
        if tokenizer is None:
            tokenizer = load_tokenizer(folder if (folder / "tokenizer.json").is_file() else "qwen")
        statistics = read_statistics(folder)
        with named(folder, want="settings and statistics of one robot", hint=_FILES_HINT, fault=CheckpointError):
            return cls(config, tokenizer, statistics)


def read_statistics(folder: Path) -> Statistics:
    """statistics.json of a checkpoint: robot -> "state", "action", ... -> key -> numbers. Raises CheckpointError."""
    file = folder / "statistics.json"
    return validate(RootModel[Statistics], _mapping(file), file, hint=_FILES_HINT, fault=CheckpointError).root


def _mapping(path: Path) -> dict[str, Any]:
    return read_raw(path, want="a processor file", hint=_FILES_HINT, fault=CheckpointError)
