"""Hidden states of the frozen part of the backbone, computed once and read instead of images: format and key.

Axes: T tokens of a step's prompt (no padding), M model width, N steps of an episode.

    FOLDER/key.json                     what the states depend on; a cache with another key is refused
    FOLDER/v00/episode_000007.npy       (sum of T, M), all steps of the episode one after the other
    FOLDER/v00/episode_000007.json      T and CRC-32 of each step, image tokens; written last: a mark of completeness

v00 holds the plain pictures, v01 ... vK the same steps under K draws of the training augmentation for each episode:
one draw for all of its steps, so that what a sample remembers was seen as it sees now. bfloat16 is stored
as its 16 bits. Causal attention with relative positions makes a state independent of the padding on its left, so states
are stored without it. Every read compares its step with the CRC-32: half a millisecond for 1.2 MB of N1.6.
"""

import hashlib
import json
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor

from svms_gr00t.core.device import DTYPES, Dtype
from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.arrays import map_array, save_array
from svms_gr00t.core.files.documents import dump_json, read_json
from svms_gr00t.core.files.lock import NAME as LOCK
from svms_gr00t.core.files.whole import whole_file
from svms_gr00t.data.processor.config import ProcessorConfig
from svms_gr00t.data.processor.prompt import build_prompt, formalize_language
from svms_gr00t.data.processor.tokenizer import TextTokenizer

PIPELINE_VERSION = 2
"""Raise it when the same image settings give other pixels."""
_OPEN = 128
_REBUILD = "Build one for this run: svms-gr00t data cache build"


class CacheKey(BaseModel):
    """Everything that the states depend on."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dataset: str
    """Fingerprint of the demonstrations."""
    checkpoint: str
    """Fingerprint of the weights below the cut."""
    layer: int
    """Language layers that the states have been through."""
    prompt: str
    """Fingerprint of the tokenizer and the prompt around an instruction."""
    images: str
    """Fingerprint of the cameras and the image pipeline."""
    dtype: Dtype
    """Stored number type."""
    variants: int
    """Augmented copies K beside the plain one."""
    seed: int
    """Seed of the augmentation draws."""


class _Episode(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    tokens: Annotated[list[PositiveInt], Field(min_length=1)]
    """T of each step."""
    image_tokens: list[int]
    """Tokens of each image, the same at every step."""
    width: PositiveInt
    blocks: list[int]
    """CRC-32 of the stored bytes of each step."""
    check: int
    """CRC-32 of the fields above: a flipped bit in this file would make other steps of the same bytes."""

    @model_validator(mode="after")
    def _intact(self) -> "_Episode":
        if len(self.blocks) != len(self.tokens) or self.check != _crc(self.model_dump(exclude={"check"})):
            raise ValueError("fields that fit their checksum")
        return self


@dataclass(frozen=True, kw_only=True)
class CacheSize:
    """What a cache will take on disk."""

    steps: int
    """Steps of all episodes."""
    tokens: float
    """Mean tokens a step."""
    bytes_a_step: float
    """Mean bytes a step, one copy."""
    total: int
    """Bytes of all copies."""


def cache_size(tokens: Sequence[int], counts: Sequence[int], *, width: int, dtype: Dtype, variants: int) -> CacheSize:
    """`counts[i]` steps have `tokens[i]` tokens: bytes = sum of tokens x width x bytes of the type x (1 + variants)."""
    steps = sum(counts)
    rows = sum(t * n for t, n in zip(tokens, counts, strict=True))
    size = DTYPES[dtype].itemsize * width
    mean = rows / max(steps, 1)
    return CacheSize(steps=steps, tokens=mean, bytes_a_step=mean * size, total=rows * size * (1 + variants))


def prompt_fingerprint(tokenizer: TextTokenizer, config: ProcessorConfig) -> str:
    """Changes with the vocabulary, the chat prompt and the treatment of instructions."""
    probe = "Pick up the red mug, then place it on the counter's left side."
    text = build_prompt(formalize_language(probe) if config.formalize_language else probe, (2, 3)).text
    return _digest([text, tokenizer.encode(text).ids, tokenizer.vocab_size])


def image_fingerprint(config: ProcessorConfig) -> str:
    """Changes with the cameras, their past steps and every setting of the image pipeline."""
    video = config.embodiment.video
    return _digest([PIPELINE_VERSION, asdict(config.images), list(video.modality_keys), list(video.delta_indices)])


def _block(rows: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(rows).data)


def _crc(fields: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


class FeatureCache:
    """A cache folder whose key has been checked. Copies may go to other processes."""

    def __init__(self, root: Path, key: CacheKey) -> None:
        self.root, self.key = root, key
        self._open: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._episodes: dict[tuple[int, int], tuple[_Episode, np.ndarray]] = {}

    @classmethod
    def create(cls, root: Path, key: CacheKey) -> "FeatureCache":
        """A new cache, or one to go on with. Raises DataError when the folder holds a cache with another key."""
        path = root / "key.json"
        if path.is_file():
            return cls.open(root, key)
        if root.is_dir() and any(entry.name != LOCK for entry in root.iterdir()):
            raise DataError(root, got="a folder with other files", want="an empty or new folder", hint="Choose another")
        with whole_file(path) as partial:
            dump_json(partial, key.model_dump())
        return cls(root, key)

    @classmethod
    def open(cls, root: Path, key: CacheKey | None = None) -> "FeatureCache":
        """The cache at `root`; with a key, it must be that one. Raises DataError naming the first difference."""
        found = read_json(CacheKey, root / "key.json", want="a feature cache", hint=_REBUILD)
        for name in CacheKey.model_fields if key is not None else ():
            mine, theirs = getattr(key, name), getattr(found, name)
            if mine != theirs:
                raise DataError(f"{root}: {name}", got=f"{theirs!r}", want=f"{mine!r} of this run", hint=_REBUILD)
        return cls(root, found)

    def _stem(self, variant: int, episode: int) -> Path:
        return self.root / f"v{variant:02d}" / f"episode_{episode:06d}"

    def has(self, variant: int, episode: int) -> bool:
        """Whether that episode is complete: an index that is whole, and a file of its size."""
        stem = self._stem(variant, episode)
        try:
            entry, first = self._episode(variant, episode)
            stored = stem.with_suffix(".npy").stat().st_size
        except (DataError, OSError):
            return False
        return stored >= int(first[-1]) * entry.width * DTYPES[self.key.dtype].itemsize

    def missing(self, episodes: Sequence[int]) -> list[tuple[int, int]]:
        """(variant, episode) pairs that are not complete yet, in building order."""
        pairs = [(variant, episode) for variant in range(self.key.variants + 1) for episode in episodes]
        return [pair for pair in pairs if not self.has(*pair)]

    def write(self, variant: int, episode: int, states: Sequence[Tensor], image_tokens: Sequence[int]) -> None:
        """Store one episode: a (T, M) tensor for each step. Complete or not there at all."""
        rows = torch.cat([state.detach().to("cpu", DTYPES[self.key.dtype]) for state in states])
        array = rows.view(torch.int16).numpy() if self.key.dtype == "bfloat16" else rows.numpy()
        stem = self._stem(variant, episode)
        save_array(self._states(variant, episode), array)
        tokens = [len(state) for state in states]
        ends = np.cumsum([0, *tokens])
        fields = {
            "tokens": tokens,
            "image_tokens": list(image_tokens),
            "width": array.shape[1],
            "blocks": [_block(array[first:last]) for first, last in pairwise(ends)],
        }
        with whole_file(stem.with_suffix(".json")) as partial:
            dump_json(partial, fields | {"check": _crc(fields)})
        self._episodes.pop((variant, episode), None)
        self._open.pop((variant, episode), None)

    def _episode(self, variant: int, episode: int) -> tuple[_Episode, np.ndarray]:
        """The entry and the first row of each step."""
        key = (variant, episode)
        if key not in self._episodes:
            path = self._stem(variant, episode).with_suffix(".json")
            entry = read_json(_Episode, path, want=f"episode {episode} in the cache", hint=_REBUILD)
            self._episodes[key] = entry, np.cumsum([0, *entry.tokens])
        return self._episodes[key]

    def image_tokens(self, variant: int, episode: int) -> tuple[int, ...]:
        """Tokens of each image of a step. Raises DataError for an episode that is not in the cache."""
        return tuple(self._episode(variant, episode)[0].image_tokens)

    def ensure(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Nothing to do: a cache that was built holds every (copy, episode). `GrowingCache` fills what is missing."""

    def read(self, variant: int, episode: int, step: int) -> Float[Tensor, "T M"]:
        """States of one step. Raises DataError for a step or an episode that is not in the cache."""
        entry, first = self._episode(variant, episode)
        if not 0 <= step < len(entry.tokens):
            path = self._states(variant, episode)
            raise DataError(path, got=f"{len(entry.tokens)} steps", want=f"step {step}", hint=_REBUILD)
        rows = np.array(self._mapped(variant, episode, entry)[first[step] : first[step + 1]])
        if _block(rows) != entry.blocks[step]:
            got, want = f"other bytes at step {step}", "what was stored"
            hint = "Run data cache verify, delete the damaged episodes and build again"
            raise DataError(self._states(variant, episode), got=got, want=want, hint=hint)
        tensor = torch.from_numpy(rows)
        return tensor.view(torch.bfloat16) if self.key.dtype == "bfloat16" else tensor

    def _states(self, variant: int, episode: int) -> Path:
        return self._stem(variant, episode).with_suffix(".npy")

    def _mapped(self, variant: int, episode: int, entry: _Episode) -> np.ndarray:
        key = (variant, episode)
        if key not in self._open:
            path = self._states(variant, episode)
            array = map_array(path, want="cached states", hint=_REBUILD)
            if array.shape != (sum(entry.tokens), entry.width):
                want = f"({sum(entry.tokens)}, {entry.width})"
                raise DataError(path, got=f"shape {array.shape}", want=want, hint=_REBUILD)
            self._open[key] = array
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return self._open[key]

    def damaged(self, variant: int, episode: int) -> bool:
        """Whether the stored states differ from their checksum, or cannot be read."""
        entry, first = self._episode(variant, episode)
        try:
            array = self._mapped(variant, episode, entry)
        except DataError:
            return True
        return [_block(array[a:b]) for a, b in pairwise(first)] != entry.blocks

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}  # mapped arrays would travel as copies
