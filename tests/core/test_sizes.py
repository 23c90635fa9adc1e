"""One table of limits, looked up before memory is taken; a flag raises them for a command and what it starts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from svms_gr00t.cli.flags import set_aside
from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.sizes import LIMITS, RAISED, limit, within

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data.md"


@pytest.fixture(autouse=True)
def _untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RAISED, "")


def test_the_sentence_names_the_flag_that_lets_it_pass() -> None:
    most = limit("picture_pixels")
    within("picture_pixels", most, "clip.mp4", "a picture")
    with pytest.raises(DataError, match=f"clip.mp4: found a picture.*--limit picture_pixels={most + 1}") as refused:
        within("picture_pixels", most + 1, "clip.mp4", "a picture")
    flag = re.search(r"--limit (\S+)", str(refused.value))
    assert flag is not None
    assert set_aside(["data", "--limit", flag[1], "show"]) == ["data", "show"]
    within("picture_pixels", most + 1, "clip.mp4", "a picture")


def test_a_limit_holds_in_processes_that_a_command_starts() -> None:
    assert set_aside(["--limit=clip_frames=2e3", "train", "--limit", "picture_pixels=7"]) == ["train"]
    code = "from svms_gr00t.core.sizes import limit; print(limit('clip_frames'), limit('picture_pixels'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2000", "7"]


@pytest.mark.parametrize(
    "word", ["", "pixels=3", "clip_frames", "clip_frames=many", "clip_frames=nan", "clip_frames=-1"]
)
def test_no_such_limit_is_refused_before_it_counts(word: str) -> None:
    with pytest.raises(ConfigError, match="--limit"):
        set_aside(["--limit", word] if word else ["--limit", "="])
    assert os.environ[RAISED] == ""


def test_the_documentation_has_the_table_as_it_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| (.+) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: (int(most.replace(",", "")), of) for name, most, of in rows} == LIMITS
