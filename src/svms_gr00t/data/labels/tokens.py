"""Word labels on the tokens that the model reads: a token takes every label of every word that it overlaps.

Axes: T tokens of the prompt, S labels.

Offsets are those of the tokenizer on the *full prompt* (a word splits differently at the start of a text), cut to the
instruction. Special, image and padding tokens cover no character of it, so they have no label and are masked.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import read_jsonl
from svms_gr00t.data.processor.prompt import build_prompt, formalize_language, instruction_spans
from svms_gr00t.data.processor.text import CACHE_LIMIT, PromptText
from svms_gr00t.data.processor.tokenizer import TextTokenizer

Span = tuple[int, int, Sequence[float]]
"""Characters [start, end) of the instruction, and 0 or 1 for each stream (visual, temporal, state)."""
Labeler = Callable[[str], Sequence[Span]]
"""Labels a formalised instruction."""
N_LABELS = 3
_IMAGE_TOKENS = (81,)
"""One view of N1.6; instruction tokens do not depend on it."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    text: str


@dataclass(frozen=True, kw_only=True)
class LabeledToken:
    """One token of the instruction."""

    start: int
    """First character in the formalised instruction; a leading space belongs to the token."""
    end: int
    """One past the last character."""
    piece: str
    """Its characters."""
    visual: int
    """1 when a Visual word overlaps."""
    temporal: int
    """1 when a Temporal word overlaps."""
    state: int
    """1 when a State word overlaps."""


class TokenLabels:
    """A labeler's words on the tokens of a prompt, computed once for each prompt. Two labelers never share a cache."""

    def __init__(self, labeler: Labeler) -> None:
        self.labeler = labeler
        self._known: dict[tuple[str, int], Float[Tensor, "T S"]] = {}

    def __call__(self, text: PromptText) -> Float[Tensor, "T S"]:
        """Labels of every token. Raises DataError for labels outside the instruction."""
        key = (text.instruction, len(text.ids))  # images follow the instruction, so nothing else moves its tokens
        if key not in self._known:
            if len(self._known) >= CACHE_LIMIT:
                self._known.clear()
            self._known[key] = project(self.labeler(text.instruction), text)
        return self._known[key]


def project(spans: Sequence[Span], text: PromptText) -> Float[Tensor, "T S"]:
    """Character labels on tokens: a token takes every label of every span that it overlaps."""
    labels = torch.zeros(len(text.ids), len(spans[0][2]) if spans else N_LABELS)
    for start, end, _ in spans:
        if not 0 <= start < end <= len(text.instruction):
            got, want = f"characters {start}:{end}", f"a range within 0:{len(text.instruction)}"
            raise DataError("labels", got=got, want=want, hint="Label the formalised instruction")
    for token, (first, last) in enumerate(text.spans):
        if values := overlapping(spans, first, last):
            labels[token] = torch.tensor(values, dtype=torch.float32).amax(0)
    return labels


def overlapping(spans: Sequence[Span], first: int, last: int) -> list[Sequence[float]]:
    """Labels of the words that share a character with [first, last)."""
    return [values for start, end, values in spans if first < end and last > start and first < last]


def label_tokens(text: str, tokenizer: TextTokenizer, labeler: Labeler) -> tuple[str, list[LabeledToken]]:
    """The formalised instruction, and each of its tokens in the model's prompt; blank tokens are left out.

    Raises DataError when the text holds special tokens.
    """
    prompt = build_prompt(formalize_language(text), _IMAGE_TOKENS)
    words = labeler(prompt.instruction)
    tokens = []
    for first, last in instruction_spans(prompt, tokenizer.encode(prompt.text).offsets):
        piece = prompt.instruction[first:last]
        if piece.strip():
            values = overlapping(words, first, last)
            v, t, s = (int(any(value[k] for value in values)) for k in range(3))
            tokens.append(LabeledToken(start=first, end=last, piece=piece, visual=v, temporal=t, state=s))
    return prompt.instruction, tokens


def label_file(path: Path, tokenizer: TextTokenizer, labeler: Labeler) -> Iterator[dict[str, Any]]:
    """{"formalized": ..., "tokens": [{"start", "end", "piece", "visual", "temporal", "state"}]} for each {"text": ...}.

    Raises DataError, naming the line, for a file of another form.
    """
    for row in read_jsonl(_Line, path, want="instructions", hint='Lines look like {"text": "Turn on the stove."}'):
        formalized, tokens = label_tokens(row.text, tokenizer, labeler)
        yield {"formalized": formalized, "tokens": [asdict(token) for token in tokens]}
