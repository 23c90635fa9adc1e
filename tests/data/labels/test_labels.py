"""Token labels: the readings that context decides, and the size of the lexicon."""

import pytest

from svms_gr00t.data.labels.labeler import STREAMS, Labeler, load_lexicon
from svms_gr00t.data.labels.words import base_forms
from svms_gr00t.data.processor.prompt import formalize_language


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
    for stream, least in (("visual", 250), ("temporal", 150), ("state", 100)):
        assert lexicon.size(stream) >= least


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("clean the clean plate", "clean/t clean/s plate/v"),
        ("turn the lamp off and put the cup on the plate", "turn/t lamp/v off/s put/t cup/v on/v plate/v"),
        ("put the second cup on the second shelf", "put/t second/s cup/v on/v second/v shelf/v"),
        ("wait for two seconds", "wait/t for/t two/s seconds/t"),
        ("next place it next to the bowl", "next/t place/t next/v to/v bowl/v"),
        ("steam the steamed fish until the steam is gone", "steam/t steamed/s fish/v until/t steam/v"),
        ("set the oven to the highest setting", "set/t oven/v highest/s setting/s"),
        ("lower the lower shelf", "lower/t lower/v shelf/v"),
        ("press start to start the blender", "press/t start/v to/t start/t blender/v"),
        ("pick the can that can be washed", "pick/t can/v washed/t"),
        ("the bowl holding the waffle is hot", "bowl/v waffle/v hot/s"),
        ("brush the tray with the dish brush", "brush/t tray/v dish/v brush/v"),
        (
            "add the saltpepper and make sure the door is non-rotten",
            "add/t saltpepper/v make/t sure/t door/v nonrotten/s",
        ),
        ("frobnicate the blorp and gently zip it", "frobnicate/t blorp/v gently/t zip/t"),
        ("do not move the resting dough", "move/t resting/vs dough/v"),
    ],
)
def test_ambiguous_sentences(text: str, marked: str) -> None:
    formalized = formalize_language(text)
    found = [
        f"{formalized[a:b]}/{''.join(n[0] for n, v in zip(STREAMS, values, strict=True) if v)}"
        for a, b, values in Labeler()(formalized)
        if any(values)
    ]
    assert " ".join(found) == marked


def test_a_thinned_lexicon_is_smaller_and_the_same_for_the_same_seed() -> None:
    whole = load_lexicon()
    thin = whole.without(0.2, seed=1)
    assert 0.75 < len(thin.visual) / len(whole.visual) < 0.85
    assert thin == whole.without(0.2, seed=1)
    assert thin != whole.without(0.2, seed=2)


def test_spans_cover_every_word_in_order() -> None:
    text = "slowly pick up the red bowl next to the kettle then turn off the stove"
    spans = Labeler()(text)
    assert [text[a:b] for a, b, _ in spans] == text.split()


def test_inflections_come_back_to_their_base() -> None:
    for word, base in (("placing", "place"), ("stirred", "stir"), ("berries", "berry"), ("tomatos", "tomato")):
        assert base in base_forms(word)
