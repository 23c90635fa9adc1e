"""How much of a dataset's language the token labels cover: shares by stream, and the words that no list knows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from svms_gr00t.data.labels.tokens import Labeler, streams_of
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.processor.prompt import formalize_language


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Labels of all instructions of a dataset, each counted as often as it has episodes."""

    instructions: int
    """Distinct instructions."""
    words: int
    """Words in all episodes."""
    shares: dict[str, float]
    """Share of the words that carry each stream's label, and of those that carry none ("none")."""
    silent: tuple[str, ...]
    """Streams without any label here: their auxiliary loss sees negatives only."""
    unknown: tuple[tuple[str, int], ...]
    """Words that spelling and neighbours decided, with their counts, most frequent first."""

    @property
    def known_share(self) -> float:
        """Share of the words that the lexicon or the grammar knows."""
        return 1 - sum(count for _, count in self.unknown) / max(self.words, 1)


def dataset_instructions(dataset: LeRobotDataset) -> Counter[str]:
    """Every instruction with the number of episodes that use it. Raises DataError for unreadable files."""
    return Counter(text for episode in dataset.episodes for text in set(dataset.instructions(episode.index)))


def coverage(instructions: Mapping[str, int], labeler: Labeler) -> Coverage:
    """Label every instruction once and count it as often as it is used.

    A labeler that does not say what it `knows` knows every word.
    """
    streams, knows = streams_of(labeler), getattr(labeler, "knows", lambda _word: True)
    marked: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    total = 0
    for text, count in instructions.items():
        formalized = formalize_language(text)
        for start, end, values in labeler(formalized):
            word = formalized[start:end]
            total += count
            marked.update({name: count for name, value in zip(streams, values, strict=True) if value})
            marked["none"] += 0 if any(values) else count
            unknown[word] += 0 if knows(word) else count
    return Coverage(
        instructions=len(instructions),
        words=total,
        shares={name: marked[name] / max(total, 1) for name in (*streams, "none")},
        silent=tuple(name for name in streams if not marked[name]),
        unknown=tuple((word, count) for word, count in unknown.most_common() if count),
    )
