"""Labels on tokens, their score on annotated instructions, what a smaller lexicon costs, coverage, and the command."""

import json
from pathlib import Path

import pytest
from toy_dataset import write_toy

from svms_gr00t.cli.data.labels import DataLabels
from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.labels.coverage import coverage, dataset_instructions
from svms_gr00t.data.labels.labeler import Labeler, load_lexicon
from svms_gr00t.data.labels.score import GoldInstruction, read_gold, score_labels
from svms_gr00t.data.labels.tokens import label_file, label_tokens
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.processor.tokenizer import TextTokenizer, load_tokenizer


@pytest.fixture(scope="module")
def tiny() -> TextTokenizer:
    return load_tokenizer("tiny")


@pytest.fixture(scope="module")
def qwen(shared: Path) -> TextTokenizer:
    return load_tokenizer(shared / "eagle_tokenizer")


@pytest.fixture(scope="module")
def gold(shared: Path) -> list[GoldInstruction]:
    return read_gold(shared / "labels" / "gold_dev.jsonl")


def annotated(text: str, **labels: str) -> GoldInstruction:
    """One instruction; `labels` maps a word to its letters."""
    formalized = text.lower()
    words = []
    for word in formalized.split():
        start = formalized.index(word)
        letters = labels.get(word, "")
        words.append({"fstart": start, "fend": start + len(word)} | {k: int(k in letters) for k in "VTS"})
    return GoldInstruction.model_validate({"text": text, "formalized": formalized, "words": words})


def test_every_piece_of_a_word_has_its_label(qwen: TextTokenizer) -> None:
    formalized, tokens = label_tokens("Grab the tupperware!", qwen, Labeler())
    assert formalized == "grab the tupperware"
    assert [(t.piece, *t.labels.values()) for t in tokens] == [
        ("grab", 0, 1, 0),
        (" the", 0, 0, 0),
        (" t", 1, 0, 0),
        ("upper", 1, 0, 0),
        ("ware", 1, 0, 0),
    ]
    assert all(formalized[t.start : t.end] == t.piece for t in tokens)


def test_f1_counts_hits_false_alarms_and_misses(tiny: TextTokenizer) -> None:
    gold = [annotated("open it", open="T", it="V")]
    perfect = score_labels(gold, tiny, lambda text: gold[0].spans())
    assert (perfect.macro_f1, perfect.exact_sentences) == (1.0, 1)

    def wrong(text: str) -> list[tuple[int, int, tuple[float, float, float]]]:
        return [(0, 4, (1.0, 1.0, 0.0)), (5, 7, (0.0, 0.0, 0.0))]

    score = score_labels(gold, tiny, wrong)
    assert score.classes["temporal"].f1 == 1.0
    assert (score.classes["visual"].f1, score.classes["visual"].recall) == (0.0, 0.0)
    assert score.exact_sentences == 0


def test_gold_that_formalises_to_something_else_is_refused(tiny: TextTokenizer) -> None:
    row = annotated("Open it").model_copy(update={"text": "Close it"})
    with pytest.raises(DataError, match="close it"):
        score_labels([row], tiny, Labeler())


def test_annotated_instructions_with_the_tokenizer_of_the_model(
    gold: list[GoldInstruction], qwen: TextTokenizer
) -> None:
    score = score_labels(gold, qwen, Labeler())
    assert score.macro_f1 >= 0.95
    assert min(one.f1 for one in score.classes.values()) >= 0.90
    everything = score_labels(gold, qwen, lambda text: [(0, len(text), (1.0, 1.0, 1.0))])  # mutant
    assert everything.macro_f1 < 0.5


@pytest.mark.parametrize("seed", range(6))
def test_a_fifth_of_the_vocabulary_may_be_missing(gold: list[GoldInstruction], qwen: TextTokenizer, seed: int) -> None:
    thin = Labeler(load_lexicon().without(0.2, seed))
    assert score_labels(gold, qwen, thin).macro_f1 >= 0.85


def test_files_are_labelled_line_by_line(tiny: TextTokenizer, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "deep" / "out.jsonl"
    source.write_text('{"text": "Turn on the stove."}\n{"text": "Wait."}\n', encoding="utf-8")
    DataLabels(jsonl=source, output=target, tokenizer="tiny").run()
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [row["formalized"] for row in rows] == ["turn on the stove", "wait"]
    first = rows[0]["tokens"][0]
    assert set(first) == {"start", "end", "piece", "visual", "temporal", "state"}
    assert "".join(token["piece"] for token in rows[0]["tokens"]) == "turn on the stove"
    assert rows == list(label_file(source, tiny, Labeler()))
    source.write_text('{"txt": "Turn on the stove."}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 1"):
        DataLabels(jsonl=source, output=target, tokenizer="tiny").run()
    assert len(target.read_text(encoding="utf-8").splitlines()) == 2


def test_coverage_counts_an_instruction_once_an_episode(tmp_path: Path) -> None:
    instructions = dataset_instructions(LeRobotDataset.open(write_toy(tmp_path / "toy")))
    assert instructions == {"open the drawer": 2, "open the door": 1}
    found = coverage(instructions | {"open the frobnicator": 3}, Labeler())
    assert found.words == 18
    assert found.shares == pytest.approx({"visual": 1 / 3, "temporal": 1 / 3, "state": 0.0, "none": 1 / 3})
    assert found.silent == ("state",)
    assert found.unknown == (("frobnicator", 3),)
    assert found.known_share == pytest.approx(15 / 18)


def test_the_command_wants_one_job(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="one of --text"):
        DataLabels().run()
    with pytest.raises(ConfigError, match="--text, --score"):
        DataLabels(text="open", score=Path("gold.jsonl")).run()
    DataLabels(text="Open the door").run()
    assert "door" in capsys.readouterr().out
