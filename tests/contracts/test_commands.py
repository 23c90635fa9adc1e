"""The pages' commands are true: each one parses, and blocks marked `<!-- run -->` run as they stand.

A marked block runs in a shell of its page, in a folder where DATA is nine episodes of the shipped kitchen.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from svms_gr00t.cli.main import parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- run -->\n)?```(?:sh|bash|shell)?\n(.*?)```", re.S)
MARKED = [page for page in PAGES if "<!-- run -->" in page.read_text(encoding="utf-8")]
NOT_WHOLE = {"...", "--config"}
"""Words of lines that show a part of a command, or read a file that is not here."""


def commands(text: str) -> list[list[str]]:
    """Arguments of each whole `svms-gr00t` line in shell blocks, continued lines joined, comments gone."""
    found = []
    for _, block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if line.count('"') % 2 == 0 and line.count("'") % 2 == 0 else []
            while words and re.fullmatch(r"\w+=.*", words[0]):
                del words[0]
            if words[:1] == ["svms-gr00t"] and not NOT_WHOLE & set(words):
                found.append([word.strip("[]").split("|")[0] for word in words[1:]])  # [--optional], this|or|that
    return found


def odd(text: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Commands that the command line refuses, and why."""
    found = []
    for words in commands(text):
        try:
            parse(words)
        except SystemExit as stop:
            said = capsys.readouterr()
            found += [f"{shlex.join(words)}: {said.out[-300:]}{said.err[-300:]}"] if stop.code else []
        except ValueError as error:  # a sentence of our own
            found.append(f"{shlex.join(words)}: {error}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_on_a_page_parses(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert odd(page.read_text(encoding="utf-8"), capsys) == []


def test_a_flag_that_is_gone_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    text = "```sh\nA=1 svms-gr00t plan --gpu-gb 32 --frobnicate 1  # why\nsvms-gr00t plan --gpu-gb \\\n  32\n```\n"
    assert commands(text) == [["plan", "--gpu-gb", "32", "--frobnicate", "1"], ["plan", "--gpu-gb", "32"]]
    assert [line.split(":")[0] for line in odd(text, capsys)] == ["plan --gpu-gb 32 --frobnicate 1"]


@pytest.mark.slow
@pytest.mark.parametrize("page", MARKED, ids=lambda p: p.name)
def test_marked_blocks_run_as_they_stand(page: Path, small_kitchen: Path, tmp_path: Path) -> None:
    blocks = [block for mark, block in BLOCK.findall(page.read_text(encoding="utf-8")) if mark]
    assert blocks, "the marker stands right before a shell block"
    command = tmp_path / "bin" / "svms-gr00t"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m svms_gr00t "$@"\n')
    command.chmod(0o755)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "DATA").symlink_to(small_kitchen)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    script = "set -euo pipefail\n" + "\n".join(blocks)
    run = {"cwd": tmp_path / "work", "env": os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src")}}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, **run)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_the_tutorial_has_a_path_that_runs_on_a_laptop() -> None:
    assert ROOT / "docs" / "tutorial.md" in MARKED
