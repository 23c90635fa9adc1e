"""Word labels on the tokens that the model reads: a token takes every label of every word that it overlaps.

Axes: T tokens of the prompt, S labels.

Offsets are those of the tokenizer on the *full prompt* (a word splits differently at the start of a text), cut to the
instruction. Special, image and padding tokens cover no character of it, so they have no label and are masked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import read_jsonl
from svms_gr00t.data.labels.lexicon import STREAMS
from svms_gr00t.data.processor.prompt import build_prompt, formalize_language, instruction_spans
from svms_gr00t.data.processor.text import CACHE_LIMIT, PromptText
from svms_gr00t.data.processor.tokenizer import TextTokenizer

Span = tuple[int, int, Sequence[float]]
"""Characters [start, end) of the instruction, and 0 or 1 for each labelled stream."""
_IMAGE_TOKENS = (81,)
"""One view of N1.6; instruction tokens do not depend on it."""


@runtime_checkable
class Labeler(Protocol):
    """Labels a formalised instruction; any function does.

    Its labels are those of `streams`, the first streams of the model in this order; a labeler without that attribute
    labels visual, temporal and state.
    """

    def __call__(self, text: str, /) -> Sequence[Span]:
        """Spans with as many labels each as there are streams."""
        ...


def streams_of(labeler: Labeler) -> tuple[str, ...]:
    """Names of the labelled streams."""
    return tuple(getattr(labeler, "streams", STREAMS))


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
    labels: dict[str, int]
    """For each stream 1 when one of its words overlaps."""


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
            self._known[key] = project(self.labeler(text.instruction), text, len(streams_of(self.labeler)))
        return self._known[key]


def project(spans: Sequence[Span], text: PromptText, width: int) -> Float[Tensor, "T S"]:
    """Character labels on tokens: a token takes every label of every span that it overlaps."""
    labels = torch.zeros(len(text.ids), width)
    for start, end, said in spans:
        if len(said) != width:
            hint = "A labeler of other streams names them in its attribute `streams`"
            raise DataError("labels", got=f"{len(said)} of one word", want=f"{width}, one a stream", hint=hint)
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
            labels = {name: int(any(value[k] for value in values)) for k, name in enumerate(streams_of(labeler))}
            tokens.append(LabeledToken(start=first, end=last, piece=piece, labels=labels))
    return prompt.instruction, tokens


def label_file(path: Path, tokenizer: TextTokenizer, labeler: Labeler) -> Iterator[dict[str, Any]]:
    """{"formalized": ..., "tokens": [{"start", "end", "piece", and 0 or 1 for each stream}]} for each {"text": ...}.

    Raises DataError, naming the line, for a file of another form.
    """
    for row in read_jsonl(_Line, path, want="instructions", hint='Lines look like {"text": "Turn on the stove."}'):
        formalized, tokens = label_tokens(row.text, tokenizer, labeler)
        rows = [{"start": t.start, "end": t.end, "piece": t.piece, **t.labels} for t in tokens]
        yield {"formalized": formalized, "tokens": rows}
