"""One word of an instruction among its neighbours.

A formalised instruction has no full stops, so where a clause begins is guessed: at the start, after and, then and to,
and at a verb before an article or a pronoun.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from svms_gr00t.data.labels.lexicon import NONE, TEMPORAL, Lexicon, Values
from svms_gr00t.data.labels.words import (
    ARTICLES,
    BEFORE_VERB,
    COPULAS,
    NUMBERS,
    ORDINALS,
    PREPOSITIONS,
    PRONOUNS,
    QUANTIFIERS,
    SPATIAL,
    base_forms,
)


@dataclass(frozen=True)
class Place:
    """Word `i` of a sentence; `labels` holds what is decided so far: phrases everywhere, and every word before `i`."""

    words: Sequence[str]
    i: int
    lexicon: Lexicon
    labels: Sequence[Values | None]

    @property
    def word(self) -> str:
        """The word itself."""
        return self.words[self.i]

    @property
    def before(self) -> str:
        """The word before, or nothing."""
        return self.words[self.i - 1] if self.i else ""

    @property
    def after(self) -> str:
        """The word after, or nothing."""
        return self.at(1)

    def at(self, offset: int) -> str:
        """The word that many places on, or nothing."""
        j = self.i + offset
        return self.words[j] if 0 <= j < len(self.words) else ""

    def knows(self, kind: str, offset: int = 0) -> bool:
        """Whether the word at `offset` is in the list `kind`."""
        word = self.at(offset)
        return bool(word) and self.lexicon.knows(word, kind)

    def begins_noun_phrase(self, offset: int = 1) -> bool:
        """Whether an article, a pronoun or a number stands there."""
        word = self.at(offset)
        return word in ARTICLES or word in PRONOUNS or word in NUMBERS or word.isdigit()

    def thing(self, offset: int = 1) -> bool:
        """Whether a known object, place or attribute stands there, and no spatial word."""
        return (self.knows("things", offset) or self.knows("looks", offset)) and self.at(offset) not in SPATIAL

    def describes(self) -> bool:
        """After an article, a preposition, a number or an attribute: inside a noun phrase."""
        word = self.before
        inside = word in ARTICLES or word in NUMBERS or word in QUANTIFIERS or word in ("with", "of", "without")
        return inside or (word in PREPOSITIONS and word not in ("by", "to", "next")) or word in ORDINALS - {"first"}

    def starts_clause(self) -> bool:
        """Whether an imperative or infinitive may stand here."""
        if self.i == 0:
            return True
        if self.describes():
            return False
        if self.before in BEFORE_VERB and self.before not in ("and", "or", "next"):
            return self.before != "can" or self.labels[self.i - 1] == NONE
        if self.before in ("and", "or", "next"):
            return self.begins_noun_phrase() or self.after in ("up", "down", "away")
        # Formalising deletes full stops: a verb before a noun phrase, after a thing, opens the next sentence.
        return self.begins_noun_phrase() and self.before not in COPULAS

    def governor(self) -> str:
        """The nearest verb before this word, or nothing."""
        for j in range(self.i - 1, -1, -1):
            if self.labels[j] == TEMPORAL and self.lexicon.knows(self.words[j], "verbs"):
                return self.words[j]
        return ""

    def governed_by(self, verbs: frozenset[str]) -> bool:
        """Whether the nearest verb before is one of `verbs`."""
        return bool(base_forms(self.governor()) & verbs) if self.governor() else False

    def head(self, limit: int = 3) -> "Place":
        """The first word after this one that is neither an article nor a quantifier."""
        j = self.i + 1
        while j < len(self.words) - 1 and j <= self.i + limit and self.words[j] in ARTICLES | QUANTIFIERS:
            j += 1
        return Place(self.words, min(j, len(self.words) - 1), self.lexicon, self.labels)
