"""Shared fixtures: the reference data beside a developer's checkout, absent for users."""

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference data (golden outputs, a real dataset, annotated labels), or skip."""
    root = Path(os.environ.get("SVMS_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
    if not root.is_dir():
        pytest.skip("reference data is not here; point SVMS_SHARED at the folder that holds data/")
    return root
