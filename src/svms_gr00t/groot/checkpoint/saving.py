"""Writing checkpoints: safetensors under the model's own names, complete or not there at all."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.files.whole import recover, whole_file, whole_folder
from svms_gr00t.groot.config import Gr00tN1d6Config

GIB = 2**30
_OURS = (".safetensors", ".json", ".jinja", ".md", ".txt", "LICENSE", ".gitattributes")
_REWRITTEN = ("config.json", "delta.json")


def single_of(stem: str) -> str:
    """Name of the file that holds all weights."""
    return f"{stem}.safetensors"


def index_of(stem: str) -> str:
    """Name of the file that says which shard holds which weight."""
    return f"{stem}.safetensors.index.json"


def save_weights(
    module: nn.Module | Mapping[str, Tensor],
    folder: Path | str,
    *,
    only: Callable[[str], bool] = lambda name: True,
    shard_bytes: int = 5 * GIB,
    stem: str = "model",
) -> None:
    """Write the tensors whose names `only` accepts: one file, or shards with an index when above `shard_bytes`.

    Each file appears under its final name when complete. Use `whole_folder` to make the folder appear at once.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = module.state_dict() if isinstance(module, nn.Module) else module
    shards = _shards({name: state[name].nbytes for name in filter(only, state)}, shard_bytes)
    places: dict[str, str] = {}
    for i, names in enumerate(shards, start=1):
        file = folder / (single_of(stem) if len(shards) == 1 else f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors")
        places |= dict.fromkeys(names, file.name)
        tensors = {n: state[n].detach().to("cpu", copy=False).contiguous() for n in names}
        with whole_file(file) as partial:
            save_file(tensors, partial, metadata={"format": "pt"})
    if len(shards) > 1:
        total = sum(state[n].nbytes for n in places)
        with whole_file(folder / index_of(stem)) as partial:
            partial.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=2) + "\n")


def _shards(sizes: dict[str, int], limit: int) -> list[list[str]]:
    """Names in order, cut whenever the next tensor would pass `limit` bytes."""
    shards: list[list[str]] = [[]]
    room = limit
    for name, size in sizes.items():
        if shards[-1] and size > room:
            shards.append([])
            room = limit
        shards[-1].append(name)
        room -= size
    return shards


@contextmanager
def checkpoint_folder(folder: Path | str) -> Iterator[Path]:
    """`whole_folder` for a checkpoint: only an older checkpoint is replaced, and its other files stay.

    The processor's files and a model card survive unless the block writes them; weights and `config.json` do not.
    Raises `CheckpointError` for a folder that holds anything else, before the block begins.
    """
    folder = Path(folder).resolve()
    recover(folder)
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    strange = [f.name for f in found if not f.is_file() or not f.name.endswith(_OURS)]
    if strange or (folder.exists() and not folder.is_dir()):
        got = f"{strange[0]} in it" if strange else "a file"
        want, hint = "a new folder, or an older checkpoint to replace", "choose another folder"
        raise CheckpointError(folder, got=got, want=want, hint=hint)
    with whole_folder(folder) as partial:
        yield partial
        for file in found:
            weights = file.name.endswith((".safetensors", ".safetensors.index.json"))
            if not weights and file.name not in _REWRITTEN and not (partial / file.name).exists():
                shutil.copy2(file, partial / file.name)


def write_checkpoint(model: nn.Module, config: Gr00tN1d6Config, folder: Path, *, shard_bytes: int = 5 * GIB) -> None:
    """config.json and the weights, file by file."""
    (folder / "config.json").write_text(config.dumps(), encoding="utf-8")
    save_weights(model, folder, shard_bytes=shard_bytes)


def save_checkpoint(
    model: nn.Module, config: Gr00tN1d6Config, folder: Path | str, *, shard_bytes: int = 5 * GIB
) -> None:
    """Write config.json and the weights as one folder that NVIDIA's code reads when SVMS is off."""
    with checkpoint_folder(folder) as partial:
        write_checkpoint(model, config, partial, shard_bytes=shard_bytes)
