"""docs/extend.md does what it says: its blocks are run in order, and no one is longer than a screen."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from svms_gr00t.cli.main import main
from svms_gr00t.data.labels.own import labeler_of
from svms_gr00t.groot.checkpoint.loading import read_config

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.S)


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def test_every_block_fits_on_a_screen() -> None:
    assert len(blocks()) >= 9
    assert max(len(text.splitlines()) for _, text in blocks()) <= 20


@pytest.mark.whole
def test_the_page_from_arrays_to_four_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    said: dict[str, str] = {}
    for kind, text in blocks():
        if kind in ("yaml", "toml"):
            Path(text.split()[1]).write_text(text, encoding="utf-8")
        elif kind == "python":
            exec(compile(text, str(PAGE), "exec"), names)  # the page's own code
        else:
            for line in text.splitlines():
                with pytest.raises(SystemExit) as stopped:
                    main(shlex.split(line)[1:])
                out = capsys.readouterr()
                said[line.split("svms-gr00t ")[1]] = out.out
                assert not stopped.value.code, f"{line}\n{out.out}\n{out.err}"
    told = next(text for line, text in said.items() if line.startswith("labels"))
    for word, streams in {"carefully": 1, "crate": 1, "fragile": 1, "the": 0}.items():
        row = next(line for line in told.splitlines() if f"│ {word} " in line)
        assert row.count("yes") == streams, row
    policy = tmp_path / "run" / "policy"
    assert read_config(policy).stream_names == ("visual", "temporal", "state", "safety")
    assert labeler_of(policy).text == (tmp_path / "warehouse.toml").read_text(encoding="utf-8")  # type: ignore[attr-defined]
    evidence = next(text for line, text in said.items() if line.startswith("evaluate streams"))
    assert evidence.count("safety") >= 4, "labels, routes, edges and knock-out of the fourth stream"
    assert names["trained"].model.svms.graph.streams == ("words", "numbers")
    # another lexicon is other data: the run does not go on with it
    file = tmp_path / "warehouse.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("stop", "halt"), encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--config", "run.yaml", "--output-dir", "run"])
    assert stopped.value.code == 2
    assert "another lexicon" in capsys.readouterr().err
