"""The word lists behind the token labels, as one value that a test may thin out.

Labels are 0 or 1 for (visual, temporal, state). Entries are base forms; `base_forms` takes inflections off.
"""

import random
import tomllib
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

from svms_gr00t.data.labels.words import base_forms, singular_forms

STREAMS = ("visual", "temporal", "state")
Values = tuple[float, float, float]
VISUAL, TEMPORAL, STATE, NONE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)
ARRANGED: Values = (1.0, 0.0, 1.0)
"""Where and how at once: located, facing, upside down."""

_LISTS = ("things", "where", "looks", "verbs", "purposes", "markers", "state", "both", "none")
_PHRASES = {"visual": VISUAL, "temporal": TEMPORAL, "state": STATE, "both": ARRANGED}
Phrase = tuple[tuple[str, ...], Values]


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """Word lists by kind; base forms."""

    things: frozenset[str]
    """Objects, food, parts and places."""
    where: frozenset[str]
    """Spatial words."""
    looks: frozenset[str]
    """Colours, sizes, shapes and materials."""
    verbs: frozenset[str]
    """Actions and processes."""
    purposes: frozenset[str]
    """Nouns that name an activity after "for"."""
    markers: frozenset[str]
    """Order, time, cause and manner."""
    state: frozenset[str]
    """Conditions and quantities."""
    both: frozenset[str]
    """Arrangement and pose: Visual and State."""
    none: frozenset[str]
    """Words that say nothing to any stream, and that the grammar of label_place.py does not list."""
    phrases: tuple[Phrase, ...]
    """Longest first; they win over words."""

    @cached_property
    def visual(self) -> frozenset[str]:
        """All Visual words."""
        return self.things | self.where | self.looks

    @cached_property
    def temporal(self) -> frozenset[str]:
        """All Temporal words."""
        return self.verbs | self.purposes | self.markers

    def knows(self, word: str, kind: str) -> bool:
        """Whether the word, or what it is inflected from, is in the list `kind`; only verbs take -ing and -ed."""
        entries: frozenset[str] = getattr(self, kind)
        if kind in ("verbs", "temporal"):
            return word in entries or any(form in self.verbs for form in base_forms(word))
        return any(form in entries for form in singular_forms(word))

    def size(self, stream: str) -> int:
        """Entries of a stream: its words and its phrases."""
        value = _PHRASES[stream]
        return len(getattr(self, stream)) + sum(labels == value for _, labels in self.phrases)

    def without(self, share: float, seed: int) -> "Lexicon":
        """The lexicon after a random `share` of the entries of each list is lost: how a new kitchen's words look."""
        draw = random.Random(seed)
        kept = {
            name: frozenset(word for word in sorted(getattr(self, name)) if draw.random() >= share) for name in _LISTS
        }
        return Lexicon(phrases=tuple(phrase for phrase in self.phrases if draw.random() >= share), **kept)


@cache
def load_lexicon() -> Lexicon:
    """The lexicon that ships with the package."""
    table = tomllib.loads(files("svms_gr00t.data.labels").joinpath("lexicon.toml").read_text(encoding="utf-8"))
    phrases = [
        (tuple(phrase.split()), value)
        for kind, value in _PHRASES.items()
        for phrase in table[kind]["phrases"].replace("\n", " ").split(";")
        if phrase.strip()
    ]
    phrases.sort(key=lambda entry: -len(entry[0]))
    words = {name: text for kind in table.values() for name, text in kind.items() if name in _LISTS}
    words |= {kind: table[kind]["words"] for kind in ("state", "both", "none")}
    lists = {name: frozenset(_formal(text)) for name, text in words.items()}
    return Lexicon(phrases=tuple(dict.fromkeys(phrases)), **lists)


def _formal(text: str) -> list[str]:
    """Entries as they look in a formalised instruction."""
    return [word.replace("-", "").replace("'", "") for word in text.split()]
