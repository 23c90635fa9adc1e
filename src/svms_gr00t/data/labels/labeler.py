"""Weak token labels: which words of an instruction speak of things (Visual), actions and order (Temporal), or state.

Works on the *formalised* instruction (lower case, no punctuation), as the model reads it. In order, for each word:

    1. phrases of the lexicon, longest first, label all their words
    2. context rules decide words that have two readings (turn *on* / *on* the counter)
    3. words of the grammar have no label; spatial ones are Visual, numbers State
    4. the lexicon, after taking inflections off; an action or a condition where a word may be both
    5. words that nothing knows: glued words are split, then prefix, ending and neighbours decide
"""

import re

from svms_gr00t.data.labels.lexicon import (
    ARRANGED,
    NONE,
    STATE,
    STREAMS,
    TEMPORAL,
    VISUAL,
    Lexicon,
    Values,
    load_lexicon,
)
from svms_gr00t.data.labels.place import Place
from svms_gr00t.data.labels.rules import RULES
from svms_gr00t.data.labels.words import (
    ARTICLES,
    BEFORE_GERUND,
    CONJUNCTIONS,
    CONTAINERS,
    COPULAS,
    LETTING,
    MODALS,
    NOTHING,
    NUMBERS,
    PREPOSITIONS,
    PRONOUNS,
    SPATIAL,
    base_forms,
)

Span = tuple[int, int, Values]
__all__ = ["STREAMS", "Labeler", "Lexicon", "Span", "load_lexicon"]


class Labeler:
    """Formalised instruction -> (start, end, (visual, temporal, state)) for each word; deterministic."""

    streams = STREAMS

    def __init__(self, lexicon: Lexicon | None = None) -> None:
        self.lexicon = lexicon or load_lexicon()
        self._in_phrases = {word for phrase, _ in self.lexicon.phrases for word in phrase}

    def __call__(self, text: str) -> list[Span]:
        """One span for each word, in order."""
        matches = list(re.finditer(r"\w+", text))
        words = [match.group() for match in matches]
        labels = self._phrases(words)
        for i in range(len(words)):
            if labels[i] is None:
                labels[i] = self._word(Place(words, i, self.lexicon, labels))
        return [(m.start(), m.end(), value or NONE) for m, value in zip(matches, labels, strict=True)]

    def knows(self, word: str) -> bool:
        """Whether the lexicon or the grammar lists the word; other words are labelled by spelling and neighbours."""
        grammar = word in RULES or word in NUMBERS or word in NOTHING or word in SPATIAL or word[:1].isdigit()
        kinds = ("visual", "temporal", "state", "both", "none")
        return grammar or any(self.lexicon.knows(word, kind) for kind in kinds) or word in self._in_phrases

    def _phrases(self, words: list[str]) -> list[Values | None]:
        """Labels of words inside phrases; a phrase matches its plural too."""
        labels: list[Values | None] = [None] * len(words)
        for phrase, value in self.lexicon.phrases:
            for start in range(len(words) - len(phrase) + 1):
                span = range(start, start + len(phrase))
                if any(labels[i] is not None for i in span):
                    continue
                same = all(p == words[i] for p, i in zip(phrase[:-1], span, strict=False))
                if same and phrase[-1] in base_forms(words[span[-1]]):
                    for i in span:
                        labels[i] = value
        return labels

    def _word(self, p: Place) -> Values:
        if p.word in RULES:
            return RULES[p.word](p)
        if p.word in NUMBERS or p.word[0].isdigit():
            return STATE
        if p.word in NOTHING or p.word in self.lexicon.none:
            return NONE
        if p.word in SPATIAL:
            return VISUAL if p.word != "next" else TEMPORAL
        if p.knows("both"):
            return ARRANGED
        return self._known(p) or self._unknown(p)

    def _known(self, p: Place) -> Values | None:
        """The lexicon's reading, or None."""
        verb, state, thing = p.knows("verbs"), p.knows("state"), p.knows("visual")
        if verb and p.before in ("be", "being") and p.word.endswith(("ed", "en")):
            return TEMPORAL
        if verb and self._acts(p, noun=thing, condition=state):
            return TEMPORAL
        if state and not (thing and p.thing() and not p.word.endswith("ed")):
            return STATE
        if thing:
            return VISUAL
        if verb:
            return self._participle(p)
        return TEMPORAL if p.knows("temporal") else None

    def _acts(self, p: Place, *, noun: bool, condition: bool) -> bool:
        """Whether a word that may be a verb is one here."""
        if p.word.endswith("ing") and p.before in BEFORE_GERUND:
            return not (p.after in CONTAINERS and p.before == "of")
        if not noun and not condition:
            return not p.word.endswith(("ing", "ed", "en")) or p.word in ("open",)
        if p.describes() or p.before in COPULAS:
            return False
        if condition and p.word not in self.lexicon.state and not noun:  # the kettle heats
            return True
        if p.before in PRONOUNS and p.governed_by(LETTING):
            return True
        return p.starts_clause()

    def _participle(self, p: Place) -> Values:
        """The -ing or -ed of a verb: serving plate | chopped onion | can be washed | stacking them"""
        inside = p.describes()
        if p.word.endswith("ing"):
            return VISUAL if inside and (p.after in CONTAINERS or p.thing()) else TEMPORAL
        if p.before in COPULAS or p.before in MODALS:
            return TEMPORAL
        if inside or (p.before in ("and", "or") and p.thing()):
            return STATE
        return TEMPORAL

    def _unknown(self, p: Place) -> Values:
        """What spelling and neighbours say about a word in no list."""
        return self._spelled(p) or self._glued(p.word) or self._placed(p)

    def _spelled(self, p: Place) -> Values | None:
        word = p.word
        for prefix in ("re", "un", "pre", "non", "over", "de", "dis"):
            stem = word.removeprefix(prefix)
            if stem != word and len(stem) > 2:
                if self.lexicon.knows(stem, "state") or (word.endswith("ed") and self.lexicon.knows(stem, "verbs")):
                    return STATE
                if self.lexicon.knows(stem, "verbs"):
                    return TEMPORAL
        if word.endswith("ly"):
            return TEMPORAL
        if word.endswith(("able", "ible", "less")) and (p.thing() or p.before in COPULAS):
            return STATE
        if word.endswith("ing"):
            return VISUAL if p.describes() and (p.thing() or p.after in CONTAINERS) else TEMPORAL
        if word.endswith("ed") and len(word) > 4:
            return STATE if p.before in COPULAS and p.before != "be" else self._participle(p)
        if word.endswith("est") and p.describes():
            return VISUAL
        return None

    def _glued(self, word: str) -> Values | None:
        """Punctuation between letters leaves words glued: saltpepper, secondhighest, stovemake."""
        for cut in range(3, len(word) - 2):
            parts = [self._alone(word[:cut]), self._alone(word[cut:])]
            if None not in parts:
                merged = [max(values) for values in zip(*(part for part in parts if part), strict=True)]
                if merged[0] and merged[2]:
                    return parts[1]
                return (merged[0], merged[1], merged[2])
        endings = (self._alone(word[cut:]) for cut in range(3, len(word) - 4))
        return next((value for value in endings if value is not None), None)

    def _alone(self, word: str) -> Values | None:
        """The label of a word without neighbours, or None."""
        for kind, value in (("things", VISUAL), ("where", VISUAL), ("state", STATE), ("verbs", TEMPORAL)):
            if self.lexicon.knows(word, kind):
                return value
        return None

    def _placed(self, p: Place) -> Values:
        if p.before in COPULAS and (not p.after or p.after in CONJUNCTIONS | PREPOSITIONS):
            return STATE
        if p.i == 0 or (p.before in ("then", "to") and p.before != ""):
            return TEMPORAL
        if p.starts_clause() and (p.begins_noun_phrase() or p.after in ARTICLES):
            return TEMPORAL
        return VISUAL
