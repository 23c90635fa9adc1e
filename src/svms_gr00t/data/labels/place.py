"""One word of an instruction among its neighbours, and the closed word classes of English that surround it.

A formalised instruction has no full stops, so where a clause begins is guessed: at the start, after and, then and to,
and at a verb before an article or a pronoun.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from svms_gr00t.data.labels.lexicon import NONE, TEMPORAL, Lexicon, Values
from svms_gr00t.data.labels.words import base_forms


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


ARTICLES = words("the a an this that these those its their his her your my our any some each every all both either no")
PRONOUNS = words("it them they this that these those everything something him her you we he she i me us")
NUMBERS = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen twenty"
    " thirty forty fifty sixty seventy eighty ninety hundred dozen both half twice"
)
ORDINALS = words("first second third fourth fifth sixth last")
COPULAS = words(
    "is are theres theyre was were be been being am isnt arent gets become becomes becoming seems looks feels"
)
MODALS = words(
    "can could should would will may might must shall cannot cant has have had havent hasnt does did dont not"
)
CONJUNCTIONS = words("and or but nor as than with without of who which what whose whom that there if")
PREPOSITIONS = words(
    "in on at into onto from off out under underneath beneath below above over behind beside between near by inside"
    " outside to towards toward against across along alongside around among through within upon atop next"
)
SPATIAL = PREPOSITIONS | words("down away back together left right here there")
QUANTIFIERS = words("few several many much more most less least other another same different own enough only various")
NOTHING = (ARTICLES | PRONOUNS | COPULAS | MODALS | CONJUNCTIONS | QUANTIFIERS | words("please too also per")) - {
    "both",
    "if",
}
BEFORE_VERB = words("and then to finally next once please afterwards afterward lastly first now also or dont not can")
BEFORE_GERUND = words(
    "by for before after while when start starts begin begins continue finish finishes finished stop avoid keep done"
    " help begun started without of until prepare"
)
SWITCHING = words("turn switch keep power leave toggle shut flip twist set make put")
SETTING = words("set adjust turn change increase decrease raise lower reduce switch crank preheat heat cook toast dial")
LETTING = words("let help allow watch")
MOTION = words("lift raise move come slide push pull flip face point bring climb reach go hang")
CONTAINERS = words(
    "board bowl pan pot plate tray dish sheet rack table counter room area surface cup glass spoon knife platter"
    " utensil utensils tool tools station bin bag box container basket pin machine supplies cloth jug mat space zone"
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
