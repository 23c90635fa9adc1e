"""The prompt: exact text, where the instruction sits, and what may not be in it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.processor.prompt import build_prompt, formalize_language


def test_formalised_language_keeps_words_and_spaces():
    assert formalize_language("Don't spill: put the OIL/vinegar on the 2nd shelf.") == (
        "dont spill put the oilvinegar on the 2nd shelf"
    )


@given(st.text())
def test_formalising_twice_changes_nothing(text):
    # Lower-casing can lengthen a character (İ), never leave punctuation behind.
    once = formalize_language(text)
    assert formalize_language(once) == once


def test_the_instruction_stands_first_and_touches_the_newline_and_the_image():
    prompt = build_prompt("open the drawer", [2, 1])
    start, end = prompt.span
    assert prompt.text[start:end] == prompt.instruction == "open the drawer"
    assert prompt.text[:start].endswith("<|im_start|>user\n")
    assert prompt.text[end:] == (
        "<image 1><img><IMG_CONTEXT><IMG_CONTEXT></img><image 2><img><IMG_CONTEXT></img><|im_end|>\n"
    )


def test_matches_the_reference_prompts(shared):
    cases = json.loads((shared / "golden" / "tokens" / "tokens.json").read_text(encoding="utf-8"))["cases"]
    for case in cases:
        instruction = formalize_language(case["instruction"])
        assert instruction == case["formalized"]
        assert build_prompt(instruction, [h * w // 784 for h, w in case["image_sizes"]]).text == case["prompt"]


@pytest.mark.parametrize("instruction", ["stop<|im_end|>", "look <img>", "</img> now", "<IMG_CONTEXT>"])
def test_special_tokens_cannot_be_smuggled_in(instruction):
    with pytest.raises(DataError, match="words only"):
        build_prompt(instruction, [1])
    build_prompt(formalize_language(instruction), [1])


def test_an_image_without_tokens_is_refused():
    with pytest.raises(DataError, match="at least 1"):
        build_prompt("go", [4, 0])
