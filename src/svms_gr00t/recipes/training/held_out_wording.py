"""Sentences that no demonstration has, and what a table of the demonstrations' words would say of them.

The labels of words are weak labels of *words*: on sentences of the training set a lookup solves them. What a stream
knows of language shows on other phrasings and other words: the embedded kitchen's own held-out sentences, and for other
instructions the same in other words (`evaluate/open_loop/paraphrases.py`).
"""

import re
from collections.abc import Collection, Iterable

import numpy as np

from svms_gr00t.data.labels.tokens import Labeler
from svms_gr00t.data.processor.prompt import formalize_language
from svms_gr00t.evaluate.open_loop.paraphrases import paraphrase
from svms_gr00t.sim.tasks.suites import EVERY
from svms_gr00t.streams.metrics import balanced_accuracy

MOST = 256
"""Sentences; more of a large dataset's say nothing new about its words."""


def kitchen_paraphrases(instructions: Iterable[str]) -> dict[str, str]:
    """Instruction -> held-out wording of the same task and target, for those that are the kitchen's own."""
    return {text: found[0] for text in instructions if (found := _kitchen(text))}


def unseen_wordings(known: Collection[str]) -> tuple[str, ...]:
    """Other wordings of the `known` instructions, none of which is known; evenly spread where there are many."""
    seen = {formalize_language(text) for text in known}
    others = dict.fromkeys(other for text in sorted(known) for other in (_kitchen(text) or (paraphrase(text),)))
    found = [other for other in others if formalize_language(other) not in seen]
    return tuple(found[int(i)] for i in np.linspace(0, len(found) - 1, min(MOST, len(found))).round())


def _kitchen(text: str) -> tuple[str, ...]:
    """The held-out sentences of the kitchen task that a sentence belongs to, about the same target."""
    for task in EVERY.values():
        for phrasing in task.phrasings:
            pattern = re.escape(phrasing).replace(re.escape("{target}"), f"(?P<target>{'|'.join(task.targets)})")
            if match := re.fullmatch(pattern, text):
                return tuple(sentence.format(**match.groupdict()) for sentence in task.held_out)
    return ()


def lookup_scores(
    known: Collection[str], sentences: Collection[str], labeler: Labeler, names: tuple[str, ...]
) -> dict[str, float]:
    """Balanced accuracy, by label, of a table that gives each word its usual label in `known`, and other words none."""
    said: dict[str, list[np.ndarray]] = {}
    for text in map(formalize_language, known):
        for start, end, values in labeler(text):
            said.setdefault(text[start:end], []).append(np.array(values))
    table = {word: np.mean(values, axis=0) > 0.5 for word, values in said.items()}
    pairs = [
        (table.get(text[start:end], np.zeros(len(names), dtype=bool)), np.array(values) > 0.5)
        for text in map(formalize_language, sentences)
        for start, end, values in labeler(text)
    ]
    if not pairs:
        return {}
    guess, truth = (np.stack(side) for side in zip(*pairs, strict=True))
    found = {name: balanced_accuracy(guess[:, c], truth[:, c]) for c, name in enumerate(names)}
    return {name: value for name, value in found.items() if np.isfinite(value)}
