"""A user's lexicon: any streams, any language, longest entry first, nothing misread in silence."""

from pathlib import Path

import pytest
import torch
from toy_dataset import write_toy

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.doctor.examine import examine
from svms_gr00t.data.labels.coverage import coverage
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.labels.own import OwnLabeler, load_labeler
from svms_gr00t.data.labels.tokens import TokenLabels, label_tokens, streams_of
from svms_gr00t.data.processor.prompt import formalize_language
from svms_gr00t.data.processor.text import PromptEncoder
from svms_gr00t.data.processor.tokenizer import load_tokenizer

GERMAN = """
[ding]
words = "Kiste regal rohr*"
phrases = "rote kiste; links vom"
[tun]
words = "heb* stell* greif"
[gefahr]
words = ["Vorsicht", "langsam", "heb*"]
"""


def said(labeler: OwnLabeler, text: str) -> dict[str, str]:
    """Word or phrase -> first letters of its streams."""
    formal = formalize_language(text)
    return {
        formal[a:b]: "".join(n[0] for n, v in zip(labeler.streams, values, strict=True) if v)
        for a, b, values in labeler(formal)
    }


def test_words_of_another_language_in_streams_of_ones_own() -> None:
    labeler = OwnLabeler.parse(GERMAN)
    assert labeler.streams == ("ding", "tun", "gefahr")
    assert said(labeler, "Vorsicht: hebe die rote Kiste langsam links vom Rohrlager!") == {
        "vorsicht": "g",
        "hebe": "tg",
        "die": "",
        "rote kiste": "d",
        "langsam": "g",
        "links vom": "d",
        "rohrlager": "d",
    }
    assert said(labeler, "erhebe die kisten") == {"erhebe": "", "die": "", "kisten": ""}, (
        "whole words, no stems unasked"
    )


def test_scripts_without_spaces_are_matched_inside() -> None:
    labeler = OwnLabeler.parse('[visual]\nphrases = "红色 箱子; 箱子; 架子"\n[temporal]\nwords = "放 拿起"')
    found = said(labeler, "拿起箱子放架子")
    assert {word: streams for word, streams in found.items() if streams} == {
        "拿起": "t", "箱子": "v", "放": "t", "架子": "v",
    }  # fmt: skip


def test_extending_english_keeps_its_readings_and_adds_a_stream() -> None:
    labeler = OwnLabeler.parse('extends = "english"\n[visual]\nwords = "turn"\n[safety]\nwords = "carefully stove"')
    assert labeler.streams == ("visual", "temporal", "state", "safety")
    assert said(labeler, "carefully turn on the stove then wash the pan") == {
        "carefully": "s",
        "turn": "v",
        "on": "s",
        "the": "",
        "stove": "s",
        "then": "t",
        "wash": "t",
        "pan": "v",
    }
    plain = OwnLabeler.parse('extends = "english"\n[safety]\nwords = "nothing"')
    for text in ("turn on the stove", "place the mug on the second shelf"):
        assert [(a, b, v[:3]) for a, b, v in plain(text)] == Labeler()(text)
    assert plain.knows("stove")
    assert not OwnLabeler.parse(GERMAN).knows("stove")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[visual", "broken TOML"),
        (
            "[visual]\nword = 'a'\n[b]\nwords='c'",
            r"\[visual\]: found \['word'\], but need a table of words and phrases",
        ),
        ("[visual]\nwords = 'a'", "1 streams, but need words of at least two"),
        ("[visual]\n[b]", "words of at least two"),
        ("visual = 'a'\nb='c'", r"\[visual\]: found 'a'"),
        ("extends='german'\n[a]\nwords='b'", "'english'"),
        ("[a]\nwords = ['x', 3]\n[b]\nwords = 'y'", "found 3, but need words"),
        ("[a]\nwords = '*x'\n[b]\nwords = 'y'", "a \\* may end one"),
    ],
)
def test_what_is_no_lexicon_is_named(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "l.toml").write_text(text)
    with pytest.raises(DataError, match=fault):
        load_labeler(tmp_path / "l.toml")
    with pytest.raises(ConfigError, match="but need a TOML file"):
        load_labeler(tmp_path / "none.toml")


def test_tokens_take_the_labels_of_as_many_streams() -> None:
    labeler, tokenizer = OwnLabeler.parse(GERMAN), load_tokenizer("tiny")
    _, tokens = label_tokens("Hebe die Kiste", tokenizer, labeler)
    assert {name for token in tokens for name in token.labels} == set(labeler.streams)
    lifting = [t.labels for t in tokens if t.end <= len("hebe")]
    assert lifting
    assert all(labels == {"ding": 0, "tun": 1, "gefahr": 1} for labels in lifting)
    encoder = PromptEncoder(tokenizer, formalize=True)
    assert TokenLabels(labeler)(encoder("Hebe die Kiste", (4,))).shape[1] == 3
    assert TokenLabels(labeler)(encoder("", (4,))).shape[1] == 3, "no word, and yet a column for each stream"
    with pytest.raises(DataError, match="2 of one word, but need 3"):
        TokenLabels(lambda text: [(0, 4, (1.0, 0.0))])(encoder("Hebe die Kiste", (4,)))
    assert streams_of(lambda text: []) == ("visual", "temporal", "state")
    found = coverage({"Hebe die Kiste": 2, "Greif zu": 1}, labeler)
    assert found.shares == pytest.approx({"ding": 2 / 8, "tun": 3 / 8, "gefahr": 2 / 8, "none": 3 / 8})
    assert torch.equal(torch.tensor(found.known_share), torch.tensor(5 / 8))


def test_the_doctor_judges_the_words_by_the_lexicon_that_will_label_them(tmp_path: Path) -> None:
    root = write_toy(tmp_path / "toy")  # "open the drawer", "open the door"
    told = {finding.found for finding in examine(root).findings if finding.check == "labels"}
    assert told == {"no word carries the state label"}
    own = OwnLabeler.parse("[ding]\nwords = 'drawer'\n[tun]\nwords = 'hebe'")
    told = {finding.found for finding in examine(root, labeler=own).findings if finding.check == "labels"}
    assert "no word carries the tun label" in told
    assert any("knows 22% of the words (not open, the, door)" in found for found in told), told
