"""How a command ends: its exit code, one sentence, and for a fault of ours a report that holds no secret."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import full_disk
from lerobot_files import change_json
from toy_dataset import episode, open_writer, write_toy

from svms_gr00t.cli.console import ended
from svms_gr00t.cli.main import main
from svms_gr00t.core.files.documents import dump_json
from svms_gr00t.core.files.records import write_text
from svms_gr00t.core.files.whole import whole_folder
from svms_gr00t.groot.checkpoint.saving import save_weights
from svms_gr00t.groot.checkpoint.streaming import write_tensors
from svms_gr00t.train.loop.run_dir import RunDir


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)


def test_a_fault_of_ours_is_70_with_a_report_that_keeps_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def broken() -> int:
        return {"a": 1}["b"]

    assert ended(broken, ["serve", "--model-path", "p", "--api-token", "hush", "--api-token=quiet"]) == 70
    said = capsys.readouterr().err
    (report,) = tmp_path.glob("svms-gr00t-fault-*.txt")
    assert str(report) in said.replace("\n", "")
    assert "Traceback" not in said
    text = report.read_text()
    assert 'return {"a": 1}["b"]' in text
    assert "torch: " in text
    assert "--model-path p" in text
    assert "hush" not in text
    assert "quiet" not in text


def test_no_memory_is_no_fault_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    def hungry() -> int:
        return len(bytearray(1 << 60))

    assert ended(hungry, []) == 2
    assert "not enough memory" in capsys.readouterr().err


WRITERS: dict[str, Callable[[Path], Any]] = {
    "JSON": lambda p: dump_json(p, list(range(9999))),
    "a page": lambda p: write_text(p, "x" * 50_000),
    "weights": lambda p: save_weights({"a": torch.zeros(20_000)}, p.parent, stem=p.stem),
    "a checkpoint": lambda p: _checkpoint(p),
    "metrics": lambda p: [RunDir(p.parent).append({"step": i}) for i in range(2_000)],
    "a dataset": lambda p: open_writer(p).add_episode(*episode(40, 0), "open it"),
}


def _checkpoint(path: Path) -> None:
    with whole_folder(path) as partial:
        write_tensors(partial / "model.safetensors", {"a": torch.zeros(20_000)})


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_one_sentence_that_names_the_file(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write() -> int:
        with full_disk(4_096):
            WRITERS[what](tmp_path / "kept.json")
        return 0

    assert ended(write, []) == 2
    said = capsys.readouterr().err
    assert str(tmp_path) in said
    assert re.search(r"error: .*(too large|No space|larger than)", said), said


def test_a_command_on_a_full_disk_leaves_nothing_half(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_toy(tmp_path / "toy")
    with full_disk(2_000):
        assert run("data", "convert", "v3", root, tmp_path / "v3") == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "v3").exists()


@pytest.mark.parametrize("name", ["[/z]", "[bold]", ":smile:", "a\x1b]0;owned\x07b", "a\u202eb"])
def test_names_are_shown_as_they_are_and_move_no_cursor(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("data", "statistics", tmp_path / name) == 2
    assert name.encode("unicode_escape").decode() in capsys.readouterr().err
    root = write_toy(tmp_path / "toy")
    change_json(root / "meta" / "info.json", codebase_version=name)
    assert run("data", "doctor", root) in (1, 2)
    seen = "".join(capsys.readouterr())
    assert not re.search(r"[^\x20-\x7e\n]", seen), seen
