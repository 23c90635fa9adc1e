"""Tensors of a repository on the Hugging Face hub, known from the headers of its files; the weights stay there."""

from pathlib import Path

from huggingface_hub import get_safetensors_metadata
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    NotASafetensorsRepoError,
    SafetensorsParsingError,
)

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.checkpoint.delta import is_delta
from svms_gr00t.groot.checkpoint.hub import locate
from svms_gr00t.groot.checkpoint.tensors import AGAIN, DTYPES, Stored

_FAULTS = (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError)


def glimpse(source: Path | str) -> tuple[Path, dict[str, Stored] | None]:
    """A folder with the JSON files of a checkpoint, and its tensors when the weights are not in it.

    A local folder, a copy in the cache and a delta (small) are simply located. Raises `CheckpointError` for a source
    that is neither a folder nor a repository.
    """
    if (local := Path(source).expanduser()).is_dir():
        return local, None
    folder = locate(source, weights=False)
    if is_delta(folder) or list(folder.glob("*.safetensors")):
        return locate(source), None
    try:
        found = get_safetensors_metadata(str(source))
    except (NotASafetensorsRepoError, SafetensorsParsingError, *_FAULTS) as error:
        got = f"no readable safetensors ({type(error).__name__})"
        raise CheckpointError(source, got=got, want="a GR00T N1.6 checkpoint", hint=AGAIN) from error
    tensors: dict[str, Stored] = {}
    for file, metadata in found.files_metadata.items():
        for name, info in metadata.tensors.items():
            if str(info.dtype) not in DTYPES:
                hint = "quantised weights are not read; take the original checkpoint"
                raise CheckpointError(source, got=f"{name} of type {info.dtype}", want=", ".join(DTYPES), hint=hint)
            kind, shape = DTYPES[str(info.dtype)], tuple(info.shape)
            tensors[name] = Stored(name=name, file=folder / file, shape=shape, dtype=kind, offset=0)
    return folder, tensors
