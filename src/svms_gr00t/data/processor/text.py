"""Instructions to prompt tokens: formalised, tokenised once, kept.

Axes: T tokens of the prompt.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from svms_gr00t.data.processor.prompt import build_prompt, formalize_language, instruction_spans
from svms_gr00t.data.processor.tokenizer import TextTokenizer

CACHE_LIMIT = 4096


@dataclass(frozen=True, kw_only=True)
class PromptText:
    """A tokenised prompt, shared by every sample with this instruction and these image sizes."""

    instruction: str
    """As it stands in the prompt."""
    ids: Int[Tensor, " T"]
    """Tokens of the whole prompt."""
    mask: Bool[Tensor, " T"]
    """True on tokens of the instruction."""
    spans: tuple[tuple[int, int], ...]
    """Characters of the instruction that each token covers; empty ranges elsewhere."""


class PromptEncoder:
    """Raw instruction and tokens of each image -> `PromptText`; the same object for the same question."""

    def __init__(self, tokenizer: TextTokenizer, *, formalize: bool) -> None:
        self.tokenizer, self.formalize = tokenizer, formalize
        self._known: dict[tuple[str, tuple[int, ...]], PromptText] = {}

    def __call__(self, instruction: str, image_tokens: tuple[int, ...]) -> PromptText:
        """The prompt. Raises DataError when the instruction holds special tokens."""
        key = (instruction, image_tokens)
        if key not in self._known:
            if len(self._known) >= CACHE_LIMIT:
                self._known.clear()
            self._known[key] = self._tokenise(*key)
        return self._known[key]

    def _tokenise(self, raw: str, image_tokens: tuple[int, ...]) -> PromptText:
        prompt = build_prompt(formalize_language(raw) if self.formalize else raw, image_tokens)
        encoding = self.tokenizer.encode(prompt.text)
        spans = instruction_spans(prompt, encoding.offsets)
        mask = [bool(prompt.instruction[a:b].strip()) for a, b in spans]
        return PromptText(
            instruction=prompt.instruction, ids=torch.tensor(encoding.ids), mask=torch.tensor(mask), spans=spans
        )
