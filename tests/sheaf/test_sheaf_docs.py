"""The page a newcomer reads is true, and the examples run."""

import doctest
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_worked_example_computes_what_it_says():
    outcome = doctest.testfile(str(ROOT / "docs" / "sheaf.md"), module_relative=False)
    assert outcome.attempted >= 15
    assert outcome.failed == 0


def test_svms_behind_a_plain_encoder(capsys):
    runpy.run_path(str(ROOT / "examples" / "sheaf_on_any_encoder.py"))
    assert "every bit as before -> True" in capsys.readouterr().out


def test_a_fourth_stream_by_configuration(capsys):
    states = runpy.run_path(str(ROOT / "examples" / "add_a_stream.py"))["states"]
    assert states.weights.shape[-1] == states.rho.shape[-1] == 4
    out = capsys.readouterr().out
    assert "state-safety" in out
    task = [float(line.split("task")[1].split()[0]) for line in out.splitlines() if line.startswith("step")]
    assert task[-1] < 0.8 * task[0]
