"""JSON and JSON-lines as other tools write them: separators inside strings, a byte order mark, half surrogates."""

import json
from codecs import BOM_UTF8
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lerobot_files import change_json
from pydantic import BaseModel
from toy_dataset import write_toy

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import (
    dump_json,
    dump_jsonl,
    read_json,
    read_jsonl,
    read_lines,
    read_raw,
    read_yaml,
)
from svms_gr00t.data.doctor.examine import examine
from svms_gr00t.data.labels.score import read_gold
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.groot.config import Gr00tN1d6Config

SEPARATORS = {"U+2028": "\u2028", "U+2029": "\u2029", "NEL": "\x85", "VT": "\x0b", "FF": "\x0c", "FS": "\x1c"}


class Row(BaseModel):
    text: str


@pytest.mark.parametrize("mark", [b"", BOM_UTF8], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("odd", [*SEPARATORS.values(), "\r", "\ud83d", "é\U0001f916"], ids=ascii)
def test_what_is_written_is_read(tmp_path: Path, odd: str, mark: bytes) -> None:
    texts = [f"open{odd}the door", odd, "plain"]
    path = tmp_path / "rows.jsonl"
    dump_jsonl(path, [{"text": text} for text in texts])
    path.write_bytes(mark + path.read_bytes())
    assert [row.text for row in read_jsonl(Row, path, want="rows", hint="Mend it")] == texts
    assert [row["text"] for row in read_lines(path)] == texts
    one = tmp_path / "one.json"
    dump_json(one, {"text": odd})
    one.write_bytes(mark + one.read_bytes())
    assert read_json(Row, one, want="a row", hint="Mend it").text == read_raw(one)["text"] == odd


def test_the_number_of_a_broken_line_counts_newlines_only(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"text": "a\u2028b"}\r\n\r\n{"text": '.encode())
    with pytest.raises(DataError, match="line 3: found broken JSON"):
        read_jsonl(Row, path, want="rows", hint="Mend it")


@pytest.mark.parametrize("odd", SEPARATORS.values(), ids=SEPARATORS)
def test_a_dataset_with_a_separator_in_its_instruction_is_read_like_any_other(tmp_path: Path, odd: str) -> None:
    root = write_toy(tmp_path / "toy")
    wanted = f"open the drawer{odd}slowly"
    for name in ("tasks.jsonl", "episodes.jsonl"):
        rows = [json.loads(line) for line in (root / "meta" / name).read_text(encoding="utf-8").split("\n") if line]
        for row in rows:
            if row.get("task") == "open the drawer":
                row["task"] = wanted
            row["tasks"] = [wanted if text == "open the drawer" else text for text in row.get("tasks", [])]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (root / "meta" / name).write_bytes(BOM_UTF8 + text.encode())
    dataset = LeRobotDataset.open(root)
    assert dataset.instruction(0, 3) == wanted
    assert len(dataset.episodes) == 3
    assert examine(root).healthy


def test_annotated_instructions_and_a_model_configuration_may_have_a_byte_order_mark(tmp_path: Path) -> None:
    gold = tmp_path / "gold.jsonl"
    row = {"text": "open\u2028it", "formalized": "open it", "words": []}
    gold.write_bytes(BOM_UTF8 + json.dumps(row, ensure_ascii=False).encode() + b"\n")
    assert [one.text for one in read_gold(gold)] == ["open\u2028it"]
    config = tmp_path / "config.json"
    config.write_text(json.dumps(Gr00tN1d6Config().to_dict()))
    change_json(config, select_layer=7)
    config.write_bytes(BOM_UTF8 + config.read_bytes())
    assert Gr00tN1d6Config.load(config).select_layer == 7


@pytest.mark.parametrize("read", [read_raw, read_lines, partial(read_yaml, want="settings", hint="Write it again")])
def test_the_size_of_a_document_is_looked_at_before_it_is_read(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "info.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"info\.json: found 1,099,511,627,776 bytes of text.*--limit meta_bytes="):
        read(path)
