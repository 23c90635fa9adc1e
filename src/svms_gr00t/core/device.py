"""Where a model runs, and in which number type: what `--device` and `--dtype` choose, for every command alike."""

from typing import Literal

import torch

from svms_gr00t.core.errors import ConfigError

Dtype = Literal["bfloat16", "float16", "float32"]
DTYPES: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def device_of(asked: torch.device | str | None) -> torch.device:
    """The CPU, or a CUDA device that is there; None takes CUDA where there is one. Raises ConfigError."""
    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        hint = "Leave it out for cuda where there is one"
        raise ConfigError("device", got=str(asked), want="cpu, cuda or cuda:N", hint=hint)
    if device.type == "cuda" and (lack := _lack(device.index or 0)):
        raise ConfigError("device", got=str(asked), want=f"cpu: {lack}", hint="Or leave it out")
    return device


def _lack(index: int) -> str:
    """Why there is no such CUDA device; empty where there is."""
    if torch.version.cuda is None:
        return f"this PyTorch ({torch.__version__}) is built without CUDA"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return "" if index < count else f"PyTorch finds {count} CUDA devices here"


def dtype_of(asked: torch.dtype | str | None) -> torch.dtype | None:
    """A type of weights by its name; None stays: the checkpoint's own. Raises ConfigError."""
    if asked is None or isinstance(asked, torch.dtype):
        return asked
    if asked not in DTYPES:
        hint = "Leave it out for the checkpoint's own"
        raise ConfigError("dtype", got=asked, want=f"one of {', '.join(DTYPES)}", hint=hint)
    return DTYPES[asked]
