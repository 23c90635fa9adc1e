from pathlib import Path

import pytest
from toy_dataset import write_toy


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Root of a fresh dataset of three episodes."""
    return write_toy(tmp_path / "toy")
