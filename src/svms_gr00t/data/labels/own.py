"""A user's own labels: any number of streams, in any language, from a TOML file.

    extends = "english"        optional: words that the file does not list are read as English ones (labeler.py)

    [visual]                   a table for each stream, in the order of `stream_names`
    words = "pallet forklift* bay"
    phrases = "loading dock; charging station"

    [safety]
    words = "careful* slow* person people"

Entries are matched in the formalised instruction (lower case, no punctuation), longest first. `forklift*` matches every
word that begins so. An entry of several streams has all their labels, and none besides. Where a script sets no spaces
(Chinese, Japanese, Thai, Lao, Khmer, Burmese) entries are found inside of what looks like one word.
"""

import re
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.labels.labeler import Labeler
from svms_gr00t.data.labels.lexicon import STREAMS
from svms_gr00t.data.labels.tokens import Labeler as AnyLabeler
from svms_gr00t.data.labels.tokens import Span
from svms_gr00t.data.processor.prompt import formalize_language

FILE = "lexicon.toml"
"""Where a policy's folder keeps the lexicon that it was trained with."""
ENGLISH = "english"
_KEYS = ("words", "phrases")
_HINT = 'A table for each stream: [visual] words = "pallet bay" phrases = "loading dock; left of"'
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True)
class OwnLabeler:
    """Formalised instruction -> (start, end, 0 or 1 for each stream) of its words, by the lists of one file."""

    text: str
    """The file."""
    streams: tuple[str, ...]
    """Its streams, in order."""
    entries: dict[str, tuple[float, ...]]
    """Formalised entry -> labels."""
    english: bool
    """Whether other words are read as English."""

    @classmethod
    def parse(cls, text: str, where: object = FILE) -> "OwnLabeler":
        """Read the TOML. Raises DataError, naming the table, for what is no lexicon."""
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise DataError(where, got=f"broken TOML ({error})", want="a lexicon", hint=_HINT) from error
        extends = tables.pop("extends", None)
        if extends not in (None, ENGLISH):
            raise DataError(f"{where} extends", got=repr(extends), want=repr(ENGLISH), hint="Or leave it out")
        told = {name: list(_entries(table, f"{where} [{name}]")) for name, table in tables.items()}
        names = (*STREAMS, *(name for name in told if name not in STREAMS)) if extends else tuple(told)
        if len(names) < 2 or not any(told.values()):
            raise DataError(where, got=f"{len(names)} streams", want="words of at least two streams", hint=_HINT)
        labels: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(names))
        for name, entries in told.items():
            for entry in entries:
                labels[entry][names.index(name)] = 1.0
        found = {entry: tuple(values) for entry, values in labels.items()}
        return cls(text=text, streams=names, entries=found, english=bool(extends))

    def __call__(self, text: str) -> list[Span]:
        """One span for each entry that is found, and for each word that none covers, in order."""
        spans: list[Span] = []
        taken = bytearray(len(text))
        for match in self._pattern.finditer(text):
            spans.append((*match.span(), self._values(match.group())))
            taken[match.start() : match.end()] = b"\1" * (match.end() - match.start())
        rest = self._rest(text)
        spans += [(start, end, values) for start, end, values in rest if not any(taken[start:end])]
        return sorted(spans, key=lambda span: span[:2])

    def knows(self, word: str) -> bool:
        """Whether the file lists the word, or English does where it extends it."""
        return self._pattern.search(word) is not None or (self.english and Labeler().knows(word))

    def _rest(self, text: str) -> list[Span]:
        """Labels of words that no entry covers."""
        if not self.english:
            return [(*word.span(), (0.0,) * len(self.streams)) for word in re.finditer(r"\w+", text)]
        more = (0.0,) * (len(self.streams) - len(STREAMS))
        return [(start, end, (*values, *more)) for start, end, values in Labeler()(text)]

    def _values(self, found: str) -> tuple[float, ...]:
        spelled = " ".join(found.split())
        if spelled in self.entries:
            return self.entries[spelled]
        stems = [entry for entry in self.entries if entry.endswith("*") and spelled.startswith(entry[:-1])]
        return self.entries[max(stems, key=len)]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """All entries, longest first."""
        parts = []
        for entry in sorted(self.entries, key=lambda entry: (-len(entry), entry)):
            stem = r"\s+".join(re.escape(word) for word in entry.removesuffix("*").split())
            tail = r"\w*" if entry.endswith("*") else ""
            parts.append(stem + tail if _UNSPACED.search(entry) else rf"(?<!\w){stem}{tail}(?!\w)")
        return re.compile("|".join(parts))


def _entries(table: Any, where: str) -> Any:
    """The words and phrases of one stream, as they look in a formalised instruction."""
    if not isinstance(table, dict) or not table.keys() <= set(_KEYS):
        got = sorted(table) if isinstance(table, dict) else repr(table)
        raise DataError(where, got=got, want="a table of words and phrases", hint=_HINT)
    for kind in _KEYS:
        value = table.get(kind, "")
        texts = value if isinstance(value, list) else value.split(";" if kind == "phrases" else None)
        for text in texts:
            if not isinstance(text, str) or "*" in text.rstrip()[:-1]:
                raise DataError(f"{where} {kind}", got=repr(text), want="words; a * may end one", hint=_HINT)
            entry = " ".join(formalize_language(text).split())
            if entry:
                yield entry + "*" * text.rstrip().endswith("*")


def load_labeler(path: Path | None) -> AnyLabeler:
    """The labels of a lexicon file; the package's own English ones without a file. Raises DataError or ConfigError."""
    if path is None:
        return Labeler()
    if not path.is_file():
        raise ConfigError("--lexicon", got=str(path), want="a TOML file", hint=_HINT)
    try:
        return OwnLabeler.parse(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise DataError(path, got="no UTF-8 text", want="a lexicon", hint=_HINT) from error


def labeler_of(policy: Path) -> AnyLabeler:
    """The labels that the policy of a folder was trained with."""
    file = policy / FILE
    return load_labeler(file if file.is_file() else None)
