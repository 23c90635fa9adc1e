"""Token labels: the readings that context decides, coverage of the lexicon, and the annotated set when it is here."""

import json
from pathlib import Path

import pytest

from svms_gr00t.data.labels import STREAMS, Labeler, load_lexicon
from svms_gr00t.data.lemmas import base_forms


def read(text: str) -> dict[str, str]:
    """Word -> letters of its labels."""
    return {
        text[a:b]: "".join(n[0] for n, v in zip(STREAMS, values, strict=True) if v) for a, b, values in Labeler()(text)
    }


@pytest.mark.parametrize(
    ("text", "word", "label"),
    [
        ("turn on the stove", "on", "s"),
        ("turn the front left burner off", "off", "s"),
        ("place the apple on the counter", "on", "v"),
        ("open the left drawer", "open", "t"),
        ("put it in the open drawer", "open", "s"),
        ("open the left drawer", "left", "v"),
        ("move the cup to the sink", "to", "v"),
        ("take the pan to wash it", "to", "t"),
        ("put the cutting board away", "cutting", "v"),
        ("pick up two strawberrys", "strawberrys", "v"),
        ("pick up two strawberrys", "two", "s"),
        ("press the start button", "start", "v"),
        ("grab the frobnicator", "frobnicator", "v"),
        ("the plate sitting on the table", "sitting", "vs"),
    ],
)
def test_context_decides_the_reading(text: str, word: str, label: str) -> None:
    assert read(text)[word] == label


def test_function_words_have_no_label() -> None:
    labels = read("pick the apple and place it with a fork")
    assert [labels[word] for word in ("the", "and", "it", "with", "a")] == [""] * 5


def test_the_lexicon_is_as_large_as_it_promises() -> None:
    lexicon = load_lexicon()
    sizes = {kind: len(getattr(lexicon, kind)) for kind in STREAMS}
    assert sizes["visual"] >= 250
    assert sizes["temporal"] >= 150
    assert sizes["state"] >= 100


def test_spans_cover_every_word_in_order() -> None:
    text = "slowly pick up the red bowl next to the kettle then turn off the stove"
    spans = Labeler()(text)
    assert [text[a:b] for a, b, _ in spans] == text.split()


def test_inflections_come_back_to_their_base() -> None:
    for word, base in (("placing", "place"), ("stirred", "stir"), ("berries", "berry"), ("tomatos", "tomato")):
        assert base in base_forms(word)


def test_annotated_instructions(shared: Path) -> None:
    counts = {key: [0, 0, 0] for key in "VTS"}
    for line in (shared / "labels" / "gold_dev.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        spans = Labeler()(row["formalized"])
        for word in row["words"]:
            touching = [values for a, b, values in spans if a < word["fend"] and b > word["fstart"]]
            for k, key in enumerate("VTS"):
                guess, truth = any(values[k] for values in touching), bool(word[key])
                counts[key][0] += guess and truth
                counts[key][1] += guess
                counts[key][2] += truth
    scores = {key: 2 * hit / (guessed + real) for key, (hit, guessed, real) in counts.items()}
    assert sum(scores.values()) / 3 > 0.93, scores
    assert min(scores.values()) > 0.88, scores
