"""What a log file gets: a text is one line, however long, and a job says where it is now and then."""

import io

import pytest

from svms_gr00t.cli import console as module
from svms_gr00t.cli.console import Bars, console

NOTE = "flow 0.085  101 samples/s  29% data wait  23% MFU  1.2 GiB"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a pipe of the usual 80 columns receives."""
    out = io.StringIO()
    monkeypatch.setattr(console, "_file", out)  # `file` would leave the stream of this moment behind
    monkeypatch.setattr(console, "_width", 80)
    assert not console.is_terminal
    return out


def test_an_update_of_a_job_is_one_line(written: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_EVERY", 0.0)
    with Bars().task("svms: specialise", 200) as bar:
        for _ in range(3):
            bar.note(NOTE)
            bar.advance()
    lines = written.getvalue().splitlines()
    assert lines[0] == "svms: specialise (200)"
    assert [line.split(",")[0] for line in lines[1:]] == ["svms: specialise 2/200", "svms: specialise 3/200"]
    assert all(line.endswith(NOTE) and len(line) > 80 for line in lines[1:])


def test_a_text_is_cut_nowhere(written: io.StringIO) -> None:
    console.print("word " * 40 + "end", style="yellow")
    assert written.getvalue() == "word " * 40 + "end\n"
    console.print("word " * 40, soft_wrap=False)
    assert written.getvalue().count("\n") > 2, "else 80 columns would prove nothing"
