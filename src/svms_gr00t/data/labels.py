"""Weak token labels: which words of an instruction speak of things (Visual), actions and order (Temporal), or state.

Works on the *formalised* instruction (lower case, no punctuation), as the model reads it. In order:

    1. phrases of the lexicon, longest first, label all their words
    2. context rules decide words that have two readings (turn *on* / *on* the counter; *open* the / the *open* drawer)
    3. the lexicon, after taking inflections off
    4. words that nothing knows: an object after a determiner or preposition, an action at the start of a clause
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from svms_gr00t.data.lemmas import base_forms

STREAMS = ("visual", "temporal", "state")
Values = tuple[float, float, float]
Span = tuple[int, int, Values]

VISUAL, TEMPORAL, STATE, NONE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)
ARRANGED: Values = (1.0, 0.0, 1.0)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_DETERMINERS = _set("the a an this that these those its their his her each every any some all both another")
_PREPOSITIONS = _set("in on at into onto from off under below above over behind beside between near by inside of with")
_SWITCHING = frozenset(("turn", "switch", "keep", "power", "leave"))
_WINDOW = 6
"""Words between a switching verb and its on or off: "turn the front left burner of the stove on"."""


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """Word lists by label; base forms."""

    visual: frozenset[str]
    temporal: frozenset[str]
    state: frozenset[str]
    both: frozenset[str]
    """Visual and State."""
    none: frozenset[str]
    phrases: tuple[tuple[tuple[str, ...], Values], ...]
    """Longest first."""

    def knows(self, word: str, kind: str) -> bool:
        """Whether the word, or what it is inflected from, is in the list `kind`."""
        entries: frozenset[str] = getattr(self, kind)
        return any(form in entries for form in base_forms(word))


@cache
def load_lexicon() -> Lexicon:
    """The lexicon that ships with the package."""
    table = tomllib.loads(files("svms_gr00t.data").joinpath("lexicon.toml").read_text(encoding="utf-8"))
    values = {"visual": VISUAL, "temporal": TEMPORAL, "state": STATE}
    phrases = [
        (tuple(phrase.split()), value)
        for kind, value in values.items()
        for phrase in table[kind]["phrases"].replace("\n", " ").split(";")
    ]
    phrases.sort(key=lambda entry: -len(entry[0]))
    words = {kind: frozenset(table[kind]["words"].split()) for kind in ("visual", "temporal", "state", "both", "none")}
    return Lexicon(phrases=tuple(phrases), **words)


class Labeler:
    """Formalised instruction -> (start, end, (visual, temporal, state)) for each word; deterministic."""

    def __init__(self, lexicon: Lexicon | None = None) -> None:
        self.lexicon = lexicon or load_lexicon()

    def __call__(self, text: str) -> list[Span]:
        """One span for each word, in order."""
        matches = list(re.finditer(r"\w+", text))
        words = [match.group() for match in matches]
        labels = self._phrases(words)
        return [
            (m.start(), m.end(), self._word(words, i) if labels[i] is None else labels[i] or NONE)
            for i, m in enumerate(matches)
        ]

    def _phrases(self, words: list[str]) -> list[Values | None]:
        """Labels of words inside phrases; a phrase matches its plural too."""
        labels: list[Values | None] = [None] * len(words)
        for phrase, value in self.lexicon.phrases:
            for start in range(len(words) - len(phrase) + 1):
                span = range(start, start + len(phrase))
                if any(labels[i] is not None for i in span):
                    continue
                if all(p == words[i] or p in base_forms(words[i]) for p, i in zip(phrase, span, strict=True)):
                    for i in span:
                        labels[i] = value
        return labels

    def _word(self, words: list[str], i: int) -> Values:
        word = words[i]
        if word in ("on", "off"):
            return STATE if self._switched(words, i) else VISUAL
        if word in ("to", "for", "by"):
            return self._marker(words, i)
        if word in self.lexicon.none:
            return NONE
        if self.lexicon.knows(word, "both"):
            return ARRANGED
        known = [kind for kind in STREAMS if self.lexicon.knows(word, kind)]
        if len(known) > 1:
            known = [self._reading(words, i, known)]
        if known:
            return {"visual": VISUAL, "temporal": TEMPORAL, "state": STATE}[known[0]]
        return self._unknown(words, i)

    def _switched(self, words: list[str], i: int) -> bool:
        """Whether this on or off belongs to turn, switch or keep, and not to a place that follows."""
        before = [j for j in range(max(0, i - _WINDOW), i) if set(base_forms(words[j])) & _SWITCHING]
        if not before:
            return False
        between = words[before[-1] + 1 : i]
        if not between:
            return True
        followed_by_place = i + 1 < len(words) and words[i + 1] in _DETERMINERS
        return not followed_by_place

    def _marker(self, words: list[str], i: int) -> Values:
        """to + verb is purpose; to, by + thing is a place; for + thing serves nothing."""
        following = words[i + 1] if i + 1 < len(words) else ""
        if self.lexicon.knows(following, "temporal") and following not in _DETERMINERS:
            return TEMPORAL
        if words[i] == "for":
            return TEMPORAL if following.isdigit() or self.lexicon.knows(following, "state") else NONE
        if words[i] == "to" and self.lexicon.knows(following, "state"):
            return NONE
        return VISUAL

    def _reading(self, words: list[str], i: int, kinds: list[str]) -> str:
        """One of several readings: an action where a clause starts, else a quality or a thing."""
        before, after = words[i - 1] if i else "", words[i + 1] if i + 1 < len(words) else ""
        if "temporal" in kinds and self._starts_clause(words, i) and after:
            return "temporal"
        rest = [kind for kind in kinds if kind != "temporal"] or kinds
        if len(rest) > 1:
            thing_follows = self.lexicon.knows(after, "visual")
            return "state" if before in ("to", "is", "are") or not thing_follows else "visual"
        return rest[0]

    def _starts_clause(self, words: list[str], i: int) -> bool:
        """First word, or after and, then, to and the like, or after another marker of time."""
        if i == 0:
            return True
        before = words[i - 1]
        if before in ("and", "then", "to", "finally", "next", "by", "once", "after", "before", "please"):
            return True
        # Formalising deletes full stops: a verb before a determiner, after a thing, opens the next sentence.
        after = words[i + 1] if i + 1 < len(words) else ""
        return after in _DETERMINERS and before not in _DETERMINERS and before not in _PREPOSITIONS

    def _unknown(self, words: list[str], i: int) -> Values:
        if words[i].isdigit():
            return STATE
        if words[i].endswith("ly"):
            return TEMPORAL
        if self._starts_clause(words, i):
            return TEMPORAL
        return VISUAL
