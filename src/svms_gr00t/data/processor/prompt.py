"""The chat prompt of GR00T N1.6: system line, then the user's instruction, then one block for each image.

Source: processor of N1.6 and the Eagle chat template. There is no space between the newline after "user" and the
instruction, nor between the instruction and the first image, so words at its ends are tokenised without one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.processor.tokenizer import IMAGE_TOKEN

SYSTEM = "You are a helpful assistant."
_NEITHER_WORD_NOR_SPACE = re.compile(r"[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Text for the tokenizer, and where the instruction sits in it."""

    text: str
    """The whole prompt."""
    instruction: str
    """The instruction as it stands in the text."""
    span: tuple[int, int]
    """Half-open character range of the instruction in the text."""


def formalize_language(text: str) -> str:
    """Lower case, without any character that is neither a word character nor white space."""
    return _NEITHER_WORD_NOR_SPACE.sub("", text.lower())


def build_prompt(instruction: str, tokens_per_image: Sequence[int]) -> Prompt:
    """The prompt around an instruction that is already formalised; image i stands for `tokens_per_image[i]` tokens.

    Raises DataError when an image has no tokens, or when the instruction itself holds special tokens.
    """
    if any(count < 1 for count in tokens_per_image):
        got = f"{list(tokens_per_image)} tokens for the images"
        raise DataError("prompt", got=got, want="at least 1 for each", hint="Images need 28 px or more a side")
    if re.search(r"<\|?\w+\|?>|</\w+>", instruction):
        raise DataError("instruction", got=repr(instruction), want="words only", hint="Remove the <...> markers")
    head = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
    images = (
        f"<image {number}><img>{IMAGE_TOKEN * count}</img>" for number, count in enumerate(tokens_per_image, start=1)
    )
    text = head + instruction + "".join(images) + "<|im_end|>\n"
    return Prompt(text=text, instruction=instruction, span=(len(head), len(head) + len(instruction)))


def instruction_spans(prompt: Prompt, offsets: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Characters of the instruction that each token covers; empty ranges for tokens outside it."""
    start, end = prompt.span
    return tuple((max(a, start) - start, max(min(b, end), start) - start) for a, b in offsets)
