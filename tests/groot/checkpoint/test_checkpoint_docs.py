"""The page on checkpoints is true: its examples run."""

import doctest
from pathlib import Path


def test_the_examples_compute_what_they_say():
    page = Path(__file__).resolve().parents[3] / "docs" / "checkpoints.md"

    outcome = doctest.testfile(str(page), module_relative=False)
    assert outcome.attempted >= 20
    assert outcome.failed == 0
