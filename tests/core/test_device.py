"""What `--device` and `--dtype` may be, said in one sentence where it is not there."""

import pytest
import torch

from svms_gr00t.core.device import device_of, dtype_of
from svms_gr00t.core.errors import ConfigError

NO_CUDA = pytest.mark.skipif(torch.version.cuda is not None, reason="this PyTorch is built with CUDA")


def test_the_default_is_cuda_where_there_is_one() -> None:
    assert device_of(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_of("cpu") == device_of(torch.device("cpu")) == torch.device("cpu")


@NO_CUDA
@pytest.mark.parametrize("asked", ["cuda", "cuda:1", torch.device("cuda")], ids=str)
def test_a_build_without_cuda_says_so(asked: str | torch.device) -> None:
    with pytest.raises(ConfigError, match=r"device = 'cuda.*this PyTorch .* is built without CUDA"):
        device_of(asked)


@pytest.mark.parametrize("asked", ["gpu", "meta", "cuda:99", "cuda:x", "mps"])
def test_no_other_device_passes(asked: str) -> None:
    with pytest.raises(ConfigError, match="device = '"):
        device_of(asked)


def test_a_type_is_named_and_none_stays_none() -> None:
    assert dtype_of("bfloat16") is torch.bfloat16
    assert dtype_of(torch.float32) is torch.float32
    assert dtype_of(None) is None
    with pytest.raises(ConfigError, match="one of bfloat16, float16, float32"):
        dtype_of("int8")
