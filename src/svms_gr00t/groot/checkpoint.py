"""N1.6 checkpoints: a folder with `config.json` and one or many safetensors files, read under NVIDIA's own names.

Reading is strict. A tensor of the file may be left out only when nothing can read it: lm_head, the pooling head,
language layers above `select_layer`, the mask token of a model without state dropout. Names and shapes are compared
from the file headers before the first weight is touched. Tensors then stream one by one, straight to their type and
device, also into a model that was built on the meta device. Writing is in `saving.py`.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.groot.saving import INDEX, SINGLE, save_checkpoint, save_weights, whole_folder

__all__ = [
    "LoadReport",
    "is_unused",
    "load_weights",
    "locate",
    "read_config",
    "save_checkpoint",
    "save_weights",
    "weight_files",
    "whole_folder",
]

_LAYER = re.compile(r"backbone\.model\.language_model\.model\.layers\.(\d+)\.")
_WANT = "a GR00T N1.6 checkpoint"
_AGAIN = "download or save the checkpoint again"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Where a tensor lies."""

    file: Path
    """Its safetensors file."""
    shape: tuple[int, ...]
    """Its shape."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a load did; loading that could not be complete has raised instead."""

    loaded: int
    """Tensors read."""
    dropped: tuple[str, ...]
    """Tensors of the file that nothing reads."""
    fresh: tuple[str, ...]
    """Tensors of the model that the file was allowed to lack."""


def locate(source: Path | str) -> Path:
    """The checkpoint folder itself, or a local copy of a Hugging Face repository such as nvidia/GR00T-N1.6-3B.

    Raises `CheckpointError` when it is neither.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(str(source), allow_patterns=["*.json", "*.safetensors"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        got = f"no such folder, and no repository to download ({type(error).__name__})"
        raise CheckpointError(source, got=got, want=_WANT, hint="check the path, or the network") from error


def read_config(folder: Path | str) -> Gr00tN1d6Config:
    """The configuration of a checkpoint folder. Raises `CheckpointError` for another GR00T, with advice."""
    return Gr00tN1d6Config.load(Path(folder) / "config.json")


def is_unused(name: str, config: Gr00tN1d6Config) -> bool:
    """Whether no forward of this configuration can read the tensor."""
    layer = _LAYER.match(name)
    return (
        name == "backbone.model.language_model.lm_head.weight"
        or name.startswith("backbone.model.vision_model.vision_model.head.")
        or (layer is not None and int(layer[1]) >= config.select_layer)
        or (name == "action_head.mask_token" and config.state_dropout_prob == 0)
    )


def weight_files(folder: Path) -> dict[str, Stored]:
    """File and shape of each tensor, from the headers alone. `CheckpointError` for missing or broken files."""
    if (index := folder / INDEX).is_file():
        return _indexed(folder, index)
    if (single := folder / SINGLE).is_file():
        return _header(single)
    if not folder.is_dir():
        hint = "pass a folder, or download the checkpoint first"
        raise CheckpointError(folder, got="no such folder", want=_WANT, hint=hint)
    if list(folder.glob("model-*.safetensors")):
        raise CheckpointError(folder, got=f"shards without {INDEX}", want="the index too", hint=_AGAIN)
    if list(folder.glob("*.bin")) or list(folder.glob("*.pt*")):
        hint = "pickle is never read here; convert the weights with safetensors"
        raise CheckpointError(folder, got="pickled weights", want="safetensors files", hint=hint)
    raise CheckpointError(folder, got="no weights", want=f"{SINGLE} or {INDEX} with its shards", hint=_AGAIN)


def _indexed(folder: Path, index: Path) -> dict[str, Stored]:
    try:
        places: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(index, got=f"a broken index ({error})", want="a weight_map", hint=_AGAIN) from error
    if any(Path(file).name != file for file in places.values()):
        raise CheckpointError(index, got="a shard outside the folder", want="plain file names", hint=_AGAIN)
    held = {file: _header(folder / file) for file in sorted(set(places.values()))}
    lacking = sorted(name for name, file in places.items() if name not in held[file])
    if lacking:
        raise CheckpointError(index, got=f"{_some(lacking)} not in the shard it names", want=_WANT, hint=_AGAIN)
    return {name: held[file][name] for name, file in places.items()}


def _header(file: Path) -> dict[str, Stored]:
    """The tensors of one file."""
    try:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
            return {name: Stored(file=file, shape=tuple(opened.get_slice(name).get_shape())) for name in names}
    except FileNotFoundError as error:
        raise CheckpointError(file, got="no such file", want="the shard its index names", hint=_AGAIN) from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(file, got=f"a broken file ({error})", want="whole safetensors", hint=_AGAIN) from error


def load_weights(
    module: nn.Module,
    folder: Path | str,
    config: Gr00tN1d6Config,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    fresh: tuple[str, ...] = (),
    partial: bool = False,
) -> LoadReport:
    """Fill the parameters and buffers of `module` from a checkpoint folder.

    `dtype` and `device` apply to the loaded parameters; None keeps those of the module. A module on the meta device
    gets the type of the file, and the CPU. `fresh` lists name prefixes, such as "svms.", that the file may lack
    altogether: they keep their values, or on the meta device get new ones from `reset_parameters`. `partial` lets the
    file lack anything (a delta on a base); a name that the module lacks is an error all the same.
    Raises `CheckpointError` naming the tensors that are missing, unexpected or of the wrong shape; the module is then
    untouched.
    """
    folder = Path(folder)
    files = weight_files(folder)
    targets: dict[str, Tensor] = dict(module.named_parameters())
    persistent = module.state_dict(keep_vars=True).keys()
    targets |= {name: buffer for name, buffer in module.named_buffers() if name in persistent}
    absent = targets.keys() - files.keys()
    dropped = {name for name in files.keys() - targets.keys() if is_unused(name, config)}
    owned = {prefix: {name for name in targets if name.startswith(prefix)} for prefix in fresh}
    new = {prefix for prefix, names in owned.items() if names and names <= absent}
    excused = absent if partial else {name for name in absent if name.startswith(tuple(new))}
    _compare(folder, files, targets, missing=absent - excused, unexpected=files.keys() - targets.keys() - dropped)
    for prefix in new:
        _refill(module, prefix, device)
    for file in sorted({stored.file for stored in files.values()}):
        with safe_open(file, "pt") as opened:
            for name in (n for n, stored in files.items() if stored.file == file and n in targets):
                _assign(module, name, targets[name], opened.get_tensor(name), dtype, device)
    return LoadReport(loaded=len(files) - len(dropped), dropped=tuple(sorted(dropped)), fresh=tuple(sorted(excused)))


def _compare(
    folder: Path, files: dict[str, Stored], targets: dict[str, Tensor], *, missing: set[str], unexpected: set[str]
) -> None:
    if any(name.startswith("backbone.eagle_model.") for name in unexpected):
        hint = "its weights do not fit N1.6; start from nvidia/GR00T-N1.6-3B"
        raise CheckpointError(folder, got="GR00T N1.5 weights (backbone.eagle_model.*)", want=_WANT, hint=hint)
    if missing or unexpected:
        named = {"missing": missing, "unexpected": unexpected}
        parts = [f"{len(names)} {word}: {_some(sorted(names))}" for word, names in named.items() if names]
        hint = "check that config.json and the weights belong together"
        raise CheckpointError(folder, got="; ".join(parts), want="exactly the tensors of this configuration", hint=hint)
    wrong = [
        f"{name} {files[name].shape} instead of {tuple(target.shape)}"
        for name, target in targets.items()
        if name in files and files[name].shape != tuple(target.shape)
    ]
    if wrong:
        hint = "the sizes in config.json are not those of the weights"
        raise CheckpointError(folder, got=_some(wrong), want="the shapes of this configuration", hint=hint)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _refill(module: nn.Module, prefix: str, device: torch.device | str | None) -> None:
    part = module.get_submodule(prefix.rstrip("."))
    if any(p.is_meta for p in part.parameters()):
        part.to_empty(device=device or "cpu")
        part.reset_parameters()  # type: ignore[operator]
    elif device is not None:
        part.to(device)


@torch.no_grad()
def _assign(
    module: nn.Module,
    name: str,
    old: Tensor,
    value: Tensor,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> None:
    is_weight = isinstance(old, nn.Parameter)
    kind = value.dtype if old.is_meta else old.dtype
    kind = dtype if dtype is not None and is_weight and old.is_floating_point() else kind
    place = torch.device(device or ("cpu" if old.is_meta else old.device))
    if not old.is_meta and old.dtype == kind and old.device == place:
        old.copy_(value)
        return
    owner = module.get_submodule(name.rpartition(".")[0])
    moved = value.to(device=place, dtype=kind, copy=True)  # a copy, because the file is mapped into memory
    setattr(owner, name.rpartition(".")[2], nn.Parameter(moved, old.requires_grad) if is_weight else moved)
