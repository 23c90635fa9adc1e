"""Scores a labeler against annotated instructions, token by token, as the auxiliary losses see them.

    F1 = 2 hits / (2 hits + false alarms + misses),  macro-F1 = mean over Visual, Temporal, State

Gold words carry V, T, S in {0, 1} and their characters in the formalised instruction (fstart, fend); a token is a true
member of a class when a gold word of that class overlaps it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import read_jsonl
from svms_gr00t.data.labels.tokens import Labeler, Span, label_tokens, overlapping, streams_of
from svms_gr00t.data.processor.tokenizer import TextTokenizer

CLASSES = ("visual", "temporal", "state")
_HINT = 'Lines look like {"text": ..., "formalized": ..., "words": [{"fstart": 0, "fend": 4, "V": 0, "T": 1, "S": 0}]}'


class GoldWord(BaseModel):
    """One annotated word."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    fstart: int
    fend: int
    V: int
    T: int
    S: int


class GoldInstruction(BaseModel):
    """One annotated instruction."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    text: str
    formalized: str
    words: list[GoldWord]

    def spans(self) -> list[Span]:
        """The annotation in the form that a labeler answers in."""
        return [(w.fstart, w.fend, (float(w.V), float(w.T), float(w.S))) for w in self.words]


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """Counts of one class over all tokens."""

    hits: int
    false_alarms: int
    misses: int

    @property
    def precision(self) -> float:
        """Share of the marked tokens that are right; 1 when none is marked."""
        marked = self.hits + self.false_alarms
        return self.hits / marked if marked else 1.0

    @property
    def recall(self) -> float:
        """Share of the true tokens that are marked; 1 when there are none."""
        true = self.hits + self.misses
        return self.hits / true if true else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; 1 when there is nothing to find and nothing was found."""
        total = 2 * self.hits + self.false_alarms + self.misses
        return 2 * self.hits / total if total else 1.0


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """What a labeler reaches on annotated instructions."""

    classes: dict[str, ClassScore]
    """By stream name."""
    tokens: int
    """Instruction tokens scored."""
    exact_tokens: int
    """Tokens with all three labels right."""
    sentences: int
    """Instructions scored."""
    exact_sentences: int
    """Instructions without a wrong token."""

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the three classes."""
        return sum(score.f1 for score in self.classes.values()) / len(self.classes)


def read_gold(path: Path) -> list[GoldInstruction]:
    """Annotated instructions, one a line. Raises DataError for a file of another form, or an empty one."""
    rows = read_jsonl(GoldInstruction, path, want="annotated instructions", hint=_HINT)
    if not rows:
        raise DataError(path, got="no lines", want="annotated instructions", hint=_HINT)
    return rows


def score_labels(gold: Sequence[GoldInstruction], tokenizer: TextTokenizer, labeler: Labeler) -> LabelScore:
    """Compare token by token. Raises DataError when a gold text formalises to something else than it says, and for a
    labeler of other streams.
    """
    if streams_of(labeler)[: len(CLASSES)] != CLASSES:
        hint = "Gold marks V, T and S of each word"
        raise DataError("gold", got=", ".join(streams_of(labeler)), want=", ".join(CLASSES), hint=hint)
    counts = {name: [0, 0, 0] for name in CLASSES}
    tokens = exact = whole = 0
    for row in gold:
        formalized, found = label_tokens(row.text, tokenizer, labeler)
        if formalized != row.formalized:
            hint = "Formalise it as the processor does: lower case, no punctuation"
            raise DataError("gold", got=repr(row.formalized), want=repr(formalized), hint=hint)
        right = 0
        for token in found:
            truth = overlapping(row.spans(), token.start, token.end)
            pairs = [(bool(token.labels[name]), any(values[k] for values in truth)) for k, name in enumerate(CLASSES)]
            for name, (guess, true) in zip(CLASSES, pairs, strict=True):
                counts[name][0] += guess and true
                counts[name][1] += guess and not true
                counts[name][2] += true and not guess
            right += all(guess == true for guess, true in pairs)
        tokens, exact, whole = tokens + len(found), exact + right, whole + (right == len(found))
    classes = {name: ClassScore(hits=c[0], false_alarms=c[1], misses=c[2]) for name, c in counts.items()}
    return LabelScore(classes=classes, tokens=tokens, exact_tokens=exact, sentences=len(gold), exact_sentences=whole)
