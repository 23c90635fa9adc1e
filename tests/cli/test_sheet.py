"""Tables never lie: every number is whole at any width and in a pipe, and `--json` has it in full."""

import io
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from toy_dataset import write_toy

from svms_gr00t.cli.line.spelling import members
from svms_gr00t.cli.main import Commands, main
from svms_gr00t.cli.shown import sheet
from svms_gr00t.cli.shown.sheet import Cell, Sheet, as_json, num, short, span, verdict

TEXT_ONLY = {
    "sim record",
    "sim replay",
    "data init-modality",
    "checkpoint delta",
    "checkpoint merge",
    "evaluate calibrate",
}
"""Commands without a table, in files that have one for another."""
NUMBERS = (-5.534e-05, 0.123456, 1234567.0, -0.000012345, 3.25, float("inf"))


def statistics() -> Sheet:
    table = Sheet("key", "element", "min", "q01", "mean", "q99", "max", "std", title="of everything")
    for i in range(3):
        table.add_row("observation.state.end_effector_position_relative", i, *NUMBERS)
    return table


def drawn(table: Sheet, width: int, *, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    out = io.StringIO()
    console = type(sheet.console)(file=out, width=width, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(sheet, "console", console)
    table.show()
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_number_is_broken_and_nothing_is_cut_at_any_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(statistics(), width, terminal=True, monkeypatch=monkeypatch)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for value in NUMBERS:
        assert text.count(short(value)) == 3, value
    assert "-5.534e-05" in text
    key = "observation.state.end_effector_position_relative"
    letters = "".join(line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│"))
    assert letters.count(key) == 3 * text.count("key"), "the key folds, and stands in each part"


def test_a_pipe_gets_each_row_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(statistics(), 80, terminal=False, monkeypatch=monkeypatch)
    rows = [line for line in text.splitlines() if "observation.state" in line]
    assert len(rows) == 3
    assert all(all(short(value) in row for value in NUMBERS) for row in rows)
    assert "of everything" in text


def test_what_is_shown_is_text_and_not_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Sheet("[red]head[/red]", title="[bold]title[/bold]")
    table.add_row("[green]pass[/green]")
    text = drawn(table, 80, terminal=True, monkeypatch=monkeypatch)
    assert "[red]head[/red]" in text
    assert "[green]pass[/green]" in text
    assert "[bold]title[/bold]" in text


def test_json_has_numbers_in_full_and_null_for_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    table = Sheet("name", "mean", "of", "95 %", "", title="t")
    table.add_row("a", num(0.123456789, ".2f"), num(None), span(-1.5, 2.5), verdict(False))
    table.add_row("b", float("nan"), Cell([float("inf"), 1], "shown"))
    with as_json(True):
        sheet.console.print("a remark")
        table.show()
    out = capsys.readouterr()
    assert out.err.strip() == "a remark"
    assert json.loads(out.out) == {
        "tables": [
            {
                "title": "t",
                "rows": [
                    {"name": "a", "mean": 0.123456789, "of": None, "95 %": [-1.5, 2.5], "column 5": False},
                    {"name": "b", "mean": None, "of": [None, 1], "95 %": None, "column 5": None},
                ],
            }
        ]
    }


def test_statistics_of_a_dataset_read_back_from_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_toy(tmp_path / "toy")
    with pytest.raises(SystemExit) as stopped:
        main(["data", "statistics", str(root), "--json", "--output", str(tmp_path / "s.json")])
    assert not stopped.value.code
    shown = json.loads(capsys.readouterr().out)["tables"][0]["rows"]
    written = json.loads((tmp_path / "s.json").read_text())
    for row in shown:
        kind, key = row["key"].split(".", 1)
        assert row["mean"] == pytest.approx(written[kind][key]["mean"][row["element"]], abs=0)
    assert len(shown) == sum(len(c["mean"]) for kind in ("state", "action") for c in written[kind].values())


def leaves(commands: Any, words: str = "") -> dict[str, type]:
    found: dict[str, type] = {}
    for name, kind in members(commands).items():
        deeper = getattr(kind, "__annotations__", {}).get("command")
        found |= leaves(deeper, f"{words}{name} ") if deeper is not None else {f"{words}{name}": kind}
    return found


def test_every_command_that_prints_a_table_has_json() -> None:
    """By their source: whoever makes a Sheet offers --json."""
    for words, kind in leaves(Commands).items():
        makes = "Sheet" in vars(sys.modules[kind.__module__])
        assert not makes or "json" in {f.name for f in fields(kind)} or words in TEXT_ONLY, words
    assert len(leaves(Commands)) > 25
