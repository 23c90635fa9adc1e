"""Fixtures around the tiny model of groot_tiny.py."""

import pytest
import torch
from groot_tiny import ragged_batch, tiny_config

from svms_gr00t.core.types import ModelInputs
from svms_gr00t.groot.checkpoint.golden import PlainGr00t


@pytest.fixture
def build():
    """build(**config changes) -> a fresh tiny model in eval mode, float64."""

    def make(*, dtype: torch.dtype = torch.float64, **changes) -> PlainGr00t:
        return PlainGr00t(tiny_config(**changes)).to(dtype).eval()

    return make


@pytest.fixture
def batch() -> ModelInputs:
    return ragged_batch()
