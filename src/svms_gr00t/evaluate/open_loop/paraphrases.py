"""Other words for the same instruction, and instructions that mean something else.

Paraphrases come from a short table of kitchen English, applied once from left to right; a sentence without any of its
words becomes a polite one. They are a probe, not a benchmark: give your own where you have them.
"""

import re
from collections.abc import Iterable

_OTHER_WORDS: dict[str, str] = {
    "pick up": "grab",
    "pick": "take",
    "grab": "pick up",
    "lift": "raise",
    "put": "place",
    "place": "put",
    "move": "bring",
    "turn on": "switch on",
    "turn off": "switch off",
    "switch on": "turn on",
    "switch off": "turn off",
    "start": "switch on",
    "press": "push",
    "push": "press",
    "pull": "draw",
    "open": "pull open",
    "close": "shut",
    "shut": "close",
    "counter": "countertop",
    "faucet": "tap",
    "stove": "cooker",
    "burner": "hob",
    "fridge": "refrigerator",
    "cabinet": "cupboard",
    "bowl": "dish",
    "cup": "mug",
}
_PATTERN = re.compile(rf"\b({'|'.join(sorted(map(re.escape, _OTHER_WORDS), key=len, reverse=True))})\b", re.IGNORECASE)
_SMALL = frozenset(("a", "an", "and", "at", "from", "in", "into", "it", "of", "off", "on", "out", "the", "to"))


def paraphrase(instruction: str) -> str:
    """The instruction in other words; never the instruction itself."""
    changed = _PATTERN.sub(lambda found: _OTHER_WORDS[found.group().lower()], instruction)
    return changed if changed != instruction else f"please {instruction}"


def other_instructions(instruction: str, among: Iterable[str]) -> list[str]:
    """The half of the instructions that share the fewest words with this one, sorted.

    Datasets word one task in several ways; a swap between those would change nothing.
    """
    own = _content(instruction)
    others = sorted(set(among) - {instruction})

    def alike(other: str) -> float:
        words = _content(other)
        return len(own & words) / max(1, len(own | words))

    ranked = sorted(others, key=alike)
    return sorted(ranked[: (len(ranked) + 1) // 2])


def _content(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower())) - _SMALL
