"""tools/kills.py in small: a conversion killed at random moments equals an uninterrupted one, and the tool can tell."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools" / "kills.py"


def test_a_killed_conversion_is_an_uninterrupted_one() -> None:
    command = [sys.executable, str(TOOL), "--kills", "3", "--jobs", "convert"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "convert: 3 kills, 0 of " in done.stdout


def test_the_comparison_sees_a_changed_byte_and_looks_past_the_clock(tmp_path: Path) -> None:
    spec = spec_from_file_location("kills", TOOL)
    assert spec is not None
    assert spec.loader is not None
    kills = module_from_spec(spec)
    spec.loader.exec_module(kills)
    file = tmp_path / "metrics.jsonl"
    found = []
    for row in ('{"step": 1, "loss": 0.5, "seconds": 2}', '{"step": 1, "loss": 0.5, "seconds": 3}', '{"step": 1}'):
        file.write_text(row + "\n")
        found.append(kills.result(tmp_path))
    assert found[0] == found[1] != found[2]
    (tmp_path / "weights").write_bytes(b"\0")
    before = kills.result(tmp_path)
    (tmp_path / "weights").write_bytes(b"\1")
    assert kills.result(tmp_path) != before
