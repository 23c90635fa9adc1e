"""The readings of words that context decides, as a table (readings.txt); every rule shows at least two of them."""

from pathlib import Path

import pytest

from svms_gr00t.data.labels.labeler import STREAMS, Labeler
from svms_gr00t.data.labels.rules import RULES

LINES = [line for line in Path(__file__).with_name("readings.txt").read_text().splitlines() if line.strip()]
READINGS = [line for line in LINES if not line.startswith("#")]


def marked(line: str) -> tuple[str, dict[int, str]]:
    """The sentence, and the labels of its marked words by place."""
    words = [word.partition("/") for word in line.split()]
    return " ".join(word for word, _, _ in words), {i: label for i, (_, mark, label) in enumerate(words) if mark}


@pytest.mark.parametrize("line", READINGS)
def test_reading(line: str) -> None:
    text, expected = marked(line)
    labels = [
        "".join(n[0] for n, v in zip(STREAMS, values, strict=True) if v) or "-" for _, _, values in Labeler()(text)
    ]
    assert {i: labels[i] for i in expected} == expected


def test_every_word_with_a_rule_stands_in_the_table() -> None:
    seen: dict[str, set[str]] = {}
    for text, expected in map(marked, READINGS):
        for i, label in expected.items():
            seen.setdefault(text.split()[i], set()).add(label)
    of_rule: dict[str, set[str]] = {}
    for word, rule in RULES.items():
        of_rule.setdefault(rule.__name__, set()).update(seen.get(word, set()))
    one_sided = [name for name, labels in of_rule.items() if len(labels) < 2]
    assert not one_sided
