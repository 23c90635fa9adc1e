"""N1.6 checkpoints: a folder with `config.json` and one or many safetensors files, read under NVIDIA's own names.

Reading is strict. A tensor of the file may be left out only when nothing can read it: lm_head, the pooling head,
language layers above `select_layer`, the mask token of a model without state dropout. Names and shapes are compared
from the file headers before the first weight is touched. Tensors then stream one by one, straight to their type and
device, also into a model that was built on the meta device (`tensors.py`). Writing is in `saving.py`, and what was
trained alone in `delta.py`.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.files.documents import read_json
from svms_gr00t.core.sizes import within
from svms_gr00t.groot.checkpoint.finite import refuse_not_finite_weights
from svms_gr00t.groot.checkpoint.foreign import refuse_adapter, refuse_other_weights
from svms_gr00t.groot.checkpoint.saving import index_of, save_checkpoint, save_weights, single_of
from svms_gr00t.groot.checkpoint.tensors import AGAIN, LOOK_BYTES, Stored, header, new_scratch, refuse_stand_in, some
from svms_gr00t.groot.config import Gr00tN1d6Config

__all__ = [
    "LoadReport",
    "Stored",
    "is_unused",
    "load_weights",
    "read_config",
    "save_checkpoint",
    "save_weights",
    "some",
    "weight_files",
]

_LAYER = re.compile(r"backbone\.model\.language_model\.model\.layers\.(\d+)\.")
_WANT = "a GR00T N1.6 checkpoint"
logger = logging.getLogger(__name__)


class _Index(BaseModel):
    """model.safetensors.index.json."""

    weight_map: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a load did; loading that could not be complete has raised instead."""

    loaded: int
    """Tensors read."""
    dropped: tuple[str, ...]
    """Tensors of the file that nothing reads."""
    fresh: tuple[str, ...]
    """Tensors of the model that the file was allowed to lack."""


def read_config(folder: Path | str) -> Gr00tN1d6Config:
    """The configuration of a checkpoint folder. Raises `CheckpointError` for another GR00T, with advice."""
    refuse_adapter(Path(folder))
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


def weight_files(folder: Path, stem: str = "model") -> dict[str, Stored]:
    """Place, shape and type of each tensor, from the headers alone. `CheckpointError` for missing or broken files.

    A whole file goes before an index beside it, as in transformers, with a warning that says so.
    """
    refuse_adapter(folder)
    single, index = folder / single_of(stem), folder / index_of(stem)
    if single.is_file():
        if index.is_file():
            logger.warning("%s: read %s; %s beside it is left out, remove one of them", folder, single.name, index.name)
        return header(single)
    if index.is_file():
        return _indexed(folder, index)
    if not folder.is_dir():
        hint = "pass a folder, or download the checkpoint first"
        raise CheckpointError(folder, got="no such folder", want=_WANT, hint=hint)
    if list(folder.glob(f"{stem}-*.safetensors")):
        raise CheckpointError(folder, got=f"shards without {index.name}", want="the index too", hint=AGAIN)
    if list(folder.glob("*.bin")) or list(folder.glob("*.pt*")):
        hint = "pickle is never read here; convert the weights with safetensors"
        raise CheckpointError(folder, got="pickled weights", want="safetensors files", hint=hint)
    want = f"{single_of(stem)} or {index.name} with its shards"
    raise CheckpointError(folder, got="no weights", want=want, hint=AGAIN)


def _indexed(folder: Path, index: Path) -> dict[str, Stored]:
    refuse_stand_in(index, index.read_bytes()[:LOOK_BYTES])
    places = read_json(_Index, index, want="a weight_map", hint=AGAIN, fault=CheckpointError).weight_map
    if any(Path(file).name != file or not file.isprintable() for file in places.values()):
        raise CheckpointError(index, got="a shard outside the folder", want="plain file names", hint=AGAIN)
    held = {file: header(folder / file) for file in sorted(set(places.values()))}
    lacking = sorted(name for name, file in places.items() if name not in held[file])
    if lacking:
        raise CheckpointError(index, got=f"{some(lacking)} not in the shard it names", want=_WANT, hint=AGAIN)
    unnamed = sorted(name for file, names in held.items() for name in names if places.get(name) != file)
    if unnamed:
        raise CheckpointError(index, got=f"no place for {some(unnamed)} of its shards", want=_WANT, hint=AGAIN)
    return {name: held[file][name] for name, file in places.items()}


def load_weights(
    module: nn.Module,
    folder: Path | str,
    config: Gr00tN1d6Config,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    fresh: tuple[str, ...] = (),
    partial: bool = False,
    overlay: Mapping[str, Stored] | None = None,
    check: bool = True,
) -> LoadReport:
    """Fill the parameters and buffers of `module` from a checkpoint folder.

    `dtype` and `device` apply to the loaded parameters; None keeps those of the module. A module on the meta device
    gets the type of the file, and the CPU. `fresh` lists name prefixes, such as "svms.", that the file may lack
    altogether: they keep their values, or on the meta device get new ones from `reset_parameters`. `partial` lets the
    file lack anything; a name that the module lacks is an error all the same. `overlay` tensors take the place of those
    of the folder, or join them (a delta on its base).
    Raises `CheckpointError` naming the tensors that are missing, unexpected or of the wrong shape; the module is then
    untouched. With `check`, one that names those that hold NaN or infinity, once all are read.
    """
    folder = Path(folder)
    files = weight_files(folder) | dict(overlay or {})
    targets: dict[str, Tensor] = dict(module.named_parameters())
    persistent = module.state_dict(keep_vars=True).keys()
    targets |= {name: buffer for name, buffer in module.named_buffers() if name in persistent}
    absent = targets.keys() - files.keys()
    dropped = {name for name in files.keys() - targets.keys() if is_unused(name, config)}
    owned = {prefix: {name for name in targets if name.startswith(prefix)} for prefix in fresh}
    new = [prefix for prefix, names in owned.items() if names and names <= absent]
    excused = absent if partial else {name for name in absent if name.startswith(tuple(new))}
    _compare(folder, files, targets, missing=absent - excused, unexpected=files.keys() - targets.keys() - dropped)
    made = sum(targets[name].numel() for name in excused if targets[name].is_meta)
    got = f"a configuration of {made:,} parameters that are not in the weights"
    within("fresh_parameters", made, folder, got, kind=CheckpointError)
    for prefix in new:  # in the order given, a part inside another once: a seed means the same weights in every process
        if not any(prefix != other and prefix.startswith(other) for other in new):
            _refill(module, prefix, dtype, device)
    scratch = new_scratch()
    for name, stored in sorted(files.items(), key=lambda item: (str(item[1].file), item[1].offset)):
        if name in targets:
            _assign(module, name, targets[name], stored, dtype, device, scratch)
    if check:
        loaded = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        refuse_not_finite_weights(folder, {name: loaded[name] for name in targets if name in files})
    return LoadReport(loaded=len(files) - len(dropped), dropped=tuple(sorted(dropped)), fresh=tuple(sorted(excused)))


def _compare(
    folder: Path, files: dict[str, Stored], targets: dict[str, Tensor], *, missing: set[str], unexpected: set[str]
) -> None:
    refuse_other_weights(folder, unexpected, targets)
    if missing or unexpected:
        named = {"missing": missing, "unexpected": unexpected}
        parts = [f"{len(names)} {word}: {some(sorted(names))}" for word, names in named.items() if names]
        hint = "check that config.json and the weights belong together"
        raise CheckpointError(folder, got="; ".join(parts), want="exactly the tensors of this configuration", hint=hint)
    numbers = [n for n, target in targets.items() if n in files and _is_other_kind(files[n].dtype, target.dtype)]
    if numbers:
        got = f"{numbers[0]} stored as {files[numbers[0]].dtype}"
        hint = "convert the weights to bfloat16 or float32; quantised weights are not read"
        raise CheckpointError(folder, got=got, want=f"numbers like {targets[numbers[0]].dtype}", hint=hint)
    wrong = [
        f"{name} {files[name].shape} instead of {tuple(target.shape)}"
        for name, target in targets.items()
        if name in files and files[name].shape != tuple(target.shape)
    ]
    if wrong:
        hint = "the sizes in config.json are not those of the weights"
        raise CheckpointError(folder, got=some(wrong), want="the shapes of this configuration", hint=hint)


def _is_other_kind(stored: torch.dtype, wanted: torch.dtype) -> bool:
    return stored.is_floating_point != wanted.is_floating_point


def _refill(module: nn.Module, prefix: str, dtype: torch.dtype | None, device: torch.device | str | None) -> None:
    part = module.get_submodule(prefix.rstrip("."))
    if any(p.is_meta for p in part.parameters()):
        part.to_empty(device=device or "cpu")
        part.reset_parameters()  # type: ignore[operator]
    elif device is not None:
        part.to(device)
    if dtype is not None:  # made in their own type, then rounded; buffers keep theirs, as they do when read
        for parameter in part.parameters():
            parameter.data = parameter.data.to(dtype)


def _assign(
    module: nn.Module,
    name: str,
    old: Tensor,
    stored: Stored,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    scratch: Tensor,
) -> None:
    is_weight = isinstance(old, nn.Parameter)
    kind = stored.dtype if old.is_meta else old.dtype
    kind = dtype if dtype is not None and is_weight and old.is_floating_point() else kind
    place = torch.device(device or ("cpu" if old.is_meta else old.device))
    if not old.is_meta and old.dtype == kind and old.device == place:
        stored.fill(old, scratch)
        return
    owner = module.get_submodule(name.rpartition(".")[0])
    new = torch.empty(stored.shape, dtype=kind, device=place)
    stored.fill(new, scratch)
    setattr(owner, name.rpartition(".")[2], nn.Parameter(new, old.requires_grad) if is_weight else new)
