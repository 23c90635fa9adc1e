"""`svms-gr00t data labels`: token labels of a sentence or a file, their coverage of a dataset, their score on gold."""

import json
from dataclasses import dataclass
from pathlib import Path

from svms_gr00t.cli.console import console, tell_skipped
from svms_gr00t.cli.labels import label_table, word_table
from svms_gr00t.cli.shown.sheet import Sheet, Tables, num
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.files.whole import whole_file

_UNKNOWN_SHOWN = 30


@dataclass(frozen=True, kw_only=True)
class DataLabels(Tables):
    """Label instructions by stream. Give one of --text, --jsonl, --dataset-path, --score."""

    text: str | None = None
    """One instruction; prints a coloured table of its words, or of its tokens when --tokenizer is given."""
    jsonl: Path | None = None
    """File of lines {"text": ...}; writes {"formalized": ..., "tokens": [...]} for each."""
    output: Path | None = None
    """Where --jsonl writes; without it, to standard output."""
    dataset_path: Path | None = None
    """A LeRobot dataset: how much of its language is covered, and which words no list knows."""
    score: Path | None = None
    """Annotated instructions: per-token precision, recall and F1 of each stream."""
    tokenizer: str | None = None
    """Tokenizer folder, "tiny" or "qwen" (the one of N1.6, the default where tokens are needed)."""
    lexicon: Path | None = None
    """TOML of your own word labels (docs/labels.md); by default English kitchen words."""

    def run(self) -> int:
        """Do the one thing asked for."""
        chosen = [name for name in ("text", "jsonl", "dataset_path", "score") if getattr(self, name) is not None]
        if len(chosen) != 1:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in chosen) or "none"
            hint = 'Try: svms-gr00t data labels --text "turn on the stove"'
            raise ConfigError(
                "data labels", got=flags, want="one of --text, --jsonl, --dataset-path, --score", hint=hint
            )
        getattr(self, f"_{chosen[0]}")()
        return 0

    def _text(self) -> None:
        assert self.text is not None
        if self.tokenizer is None:
            word_table(self.text, self.lexicon).show()
            return
        from svms_gr00t.data.labels.own import load_labeler
        from svms_gr00t.data.labels.tokens import label_tokens, streams_of
        from svms_gr00t.data.processor.tokenizer import load_tokenizer

        labeler = load_labeler(self.lexicon)
        formalized, tokens = label_tokens(self.text, load_tokenizer(self.tokenizer), labeler)
        rows = [(repr(t.piece), tuple(map(float, t.labels.values()))) for t in tokens]
        label_table(formalized, "token", streams_of(labeler), rows).show()

    def _jsonl(self) -> None:
        from svms_gr00t.data.labels.own import load_labeler
        from svms_gr00t.data.labels.tokens import label_file
        from svms_gr00t.data.processor.tokenizer import load_tokenizer

        assert self.jsonl is not None
        rows = list(label_file(self.jsonl, load_tokenizer(self.tokenizer or "qwen"), load_labeler(self.lexicon)))
        text = "".join(json.dumps(row, ensure_ascii=self.output is None) + "\n" for row in rows)
        if self.output is None:
            print(text, end="")
            return
        with whole_file(self.output) as partial:
            partial.write_text(text, encoding="utf-8")
        console.print(f"{len(rows)} instructions -> {self.output}", highlight=False)

    def _dataset_path(self) -> None:
        from svms_gr00t.data.labels.coverage import coverage, dataset_instructions
        from svms_gr00t.data.labels.own import load_labeler
        from svms_gr00t.data.lerobot.sound import open_sound

        assert self.dataset_path is not None
        dataset, skipped = open_sound(self.dataset_path)
        tell_skipped(skipped)
        found = coverage(dataset_instructions(dataset), load_labeler(self.lexicon))
        table = Sheet("label", "share of words", title=f"{found.instructions} instructions, {found.words} words")
        for name, share in found.shares.items():
            table.add_row(name, num(share, ".1%"))
        table.show()
        console.print(f"known to the lexicon or the grammar: {found.known_share:.1%}", highlight=False)
        if found.unknown:
            words = ", ".join(f"{word} ({count})" for word, count in found.unknown[:_UNKNOWN_SHOWN])
            console.print(f"labelled by spelling and neighbours: {words}", highlight=False)
        for name in found.silent:
            console.print(
                f"no {name} label in any instruction: that auxiliary loss learns nothing here", style="yellow"
            )

    def _score(self) -> None:
        from svms_gr00t.data.labels.own import load_labeler
        from svms_gr00t.data.labels.score import read_gold, score_labels
        from svms_gr00t.data.processor.tokenizer import load_tokenizer

        assert self.score is not None
        result = score_labels(
            read_gold(self.score), load_tokenizer(self.tokenizer or "qwen"), load_labeler(self.lexicon)
        )
        table = Sheet("class", "precision", "recall", "F1", title=f"{result.tokens} tokens")
        for name, one in result.classes.items():
            table.add_row(name, *(num(value, ".3f") for value in (one.precision, one.recall, one.f1)))
        table.add_row("macro", None, None, num(result.macro_f1, ".3f"))
        table.show()
        exact = f"{result.exact_tokens} of {result.tokens} tokens and {result.exact_sentences} of {result.sentences}"
        console.print(f"wholly right: {exact} instructions", highlight=False)
