"""Labels of an instruction's words on the tokens that somebody else's tokenizer made of it, and how rare each label is.

Axes: B batch, T tokens of a prompt, n tokens of an instruction, S labelled streams.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from svms_gr00t import Labeler
from svms_gr00t.core.errors import DataError
from svms_gr00t.data.labels.tokens import TokenLabels
from svms_gr00t.data.loading.samples import negatives_over_positives
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.data.processor.text import PromptText

Labeled = Callable[[str], Float[Tensor, "n S"]]
"""Labels of the tokens of an instruction's words."""


class PromptLabels:
    """Finds an instruction in the tokens of its prompt and labels it there, for any fast tokenizer of transformers.

    A prompt holds the tokens of the instruction alone wherever special tokens stand around it, as in Qwen's chats.
    """

    def __init__(self, tokenizer: Any, labeler: Labeler | None = None) -> None:
        self.tokenizer, self.labeler = tokenizer, labeler or Labeler()
        self._labels = TokenLabels(self.labeler)

    def __call__(
        self, ids: Int[Tensor, "B T"], texts: Sequence[str]
    ) -> tuple[Float[Tensor, "B T S"], Bool[Tensor, "B T"]]:
        """Labels of every token, and which tokens have any. Raises DataError for a prompt without its instruction."""
        labels = torch.zeros(*ids.shape, len(self.labeler.streams), device=ids.device)
        mask = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        for row, (prompt, text) in enumerate(zip(ids, texts, strict=True)):
            own = self._words(text)
            if not len(own.ids):
                continue
            place = _last(prompt.cpu(), own.ids)
            if place is None:
                got, hint = f"a prompt without the tokens of {text!r}", "Labels need the tokenizer of the prompts"
                raise DataError("input_ids", got=got, want="the instruction in its prompt", hint=hint)
            there = slice(place, place + len(own.ids))
            labels[row, there] = self._labels(own).to(ids.device)
            mask[row, there] = own.mask.to(ids.device)
        return labels, mask

    def of_words(self, text: str) -> Float[Tensor, "n S"]:
        """Labels of the instruction's words alone."""
        own = self._words(text)
        return self._labels(own)[own.mask]

    def _words(self, text: str) -> PromptText:
        told = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans = tuple((a, b) for a, b in told["offset_mapping"])
        mask = torch.tensor([bool(text[a:b].strip()) for a, b in spans], dtype=torch.bool)
        ids = torch.tensor(told["input_ids"], dtype=torch.long)
        return PromptText(instruction=text.lower(), ids=ids, mask=mask, spans=spans)


def _last(prompt: Int[Tensor, " T"], part: Int[Tensor, " n"]) -> int | None:
    """Where `part` stands last in the prompt."""
    if len(part) > len(prompt):
        return None
    found = (prompt.unfold(0, len(part), 1) == part).all(1).nonzero()
    return int(found[-1]) if len(found) else None


def label_weight(meta: Any, labeled: Labeled, streams: int) -> Float[Tensor, " S"]:
    """Negatives over positives of each stream over a dataset's instructions, each as often as it has steps."""
    steps: Counter[str] = Counter()
    for tasks, length in zip(meta.episodes["tasks"], meta.episodes["length"], strict=True):
        steps.update(dict.fromkeys(tasks, length))
    positives, total = torch.zeros(streams), 0.0
    for text, count in steps.items():
        own = labeled(text)
        positives, total = positives + own.sum(0) * count, total + len(own) * count
    return negatives_over_positives(positives, total)


def by_processor(processor: Processor, labeler: Labeler) -> Labeled:
    """What `label_weight` reads, from the processor of an N1.6 checkpoint."""
    labels = TokenLabels(labeler)

    def labeled(text: str) -> Float[Tensor, "n S"]:
        prompt = processor.text(text, (1,))
        return labels(prompt)[prompt.mask]

    return labeled
