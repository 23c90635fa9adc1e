"""Word labels on the tokens that the model reads: a token takes every label of every word that it overlaps.

Axes: T tokens of the prompt, S labels.

Offsets are those of the tokenizer on the *full prompt* (a word splits differently at the start of a text), cut to the
instruction. Special, image and padding tokens cover no character of it, so they have no label and are masked.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from svms_gr00t.data.files import read_jsonl
from svms_gr00t.data.processor.prompt import Prompt, build_prompt, formalize_language
from svms_gr00t.data.processor.tokenizer import TextTokenizer

Span = tuple[int, int, Sequence[float]]
"""Characters [start, end) of the instruction, and 0 or 1 for each stream (visual, temporal, state)."""
Labeler = Callable[[str], Sequence[Span]]
"""Labels a formalised instruction."""
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


def instruction_spans(prompt: Prompt, offsets: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Characters of the instruction that each token covers; empty ranges for tokens outside it."""
    start, end = prompt.span
    return tuple((max(a, start) - start, max(min(b, end), start) - start) for a, b in offsets)


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
