"""The notebook's cells run in order on a CPU and say what its text says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"


@pytest.mark.whole
def test_every_cell_runs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells), "outputs stay out of the repository"
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[0].startswith("54 episodes")
    distance = next(float(line.rpartition(" ")[2]) for line in lines if line.startswith("mean distance"))
    assert distance < 0.5, "actions lie in [-1, 1]; a policy that learned nothing is farther away"
    assert any(line.split() == ["drawer", "visual"] for line in lines)
