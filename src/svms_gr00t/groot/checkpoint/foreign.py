"""Folders and tensor names that are not ours to load, each refused with the reason and the next step.

Other GR00T versions, adapters (LoRA) that were not merged, and names that a wrapper put a prefix on while training:
DistributedDataParallel, torch.compile, FSDP, or a class around the model.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from svms_gr00t.core.errors import CheckpointError

_OTHERS = {"backbone.eagle_model.": "N1 or N1.5", "backbone.model.model.": "N1.7", "backbone.model.visual.": "N1.7"}
_WRAPPERS = {
    "module.": "DistributedDataParallel",
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FSDP",
    "_checkpoint_wrapped_module.": "activation checkpointing",
}
_WRAPPED = re.compile(rf"(?<![^.])({'|'.join(map(re.escape, _WRAPPERS))})")
_WANT = "a GR00T N1.6 checkpoint"
_MERGE = "merge the adapter first (peft: merge_and_unload, then save_pretrained), and load the result"


def refuse_adapter(folder: Path) -> None:
    """Raise `CheckpointError` for a folder with a LoRA adapter, which the weights beside it would not hold."""
    found = sorted(file.name for file in folder.glob("adapter_*") if file.is_file())
    if found:
        raise CheckpointError(folder, got=f"a LoRA adapter ({found[0]})", want=_WANT, hint=_MERGE)


def refuse_other_weights(folder: Path, names: Iterable[str], wanted: Collection[str]) -> None:
    """Raise `CheckpointError`, with advice, for tensors of another model, of an adapter or of a wrapper.

    `names` are those of the files, `wanted` those of the model.
    """
    names = sorted(names)
    for prefix, version in _OTHERS.items():
        if any(name.startswith(prefix) for name in names):
            hint = "its weights do not fit N1.6; start from nvidia/GR00T-N1.6-3B"
            raise CheckpointError(folder, got=f"GR00T {version} weights ({prefix}*)", want=_WANT, hint=hint)
    for name in names:
        if ".lora_" in name or ".base_layer." in name:
            raise CheckpointError(folder, got=f"tensors of a LoRA adapter ({name})", want=_WANT, hint=_MERGE)
        if (found := _wrapper(name, wanted)) is not None:
            prefix, of = found
            want = f"the model's own names, without {prefix}"
            hint = "save the model inside the wrapper (accelerate: unwrap_model), or rename the tensors"
            raise CheckpointError(folder, got=f"names with the prefix {prefix}{of} ({name})", want=want, hint=hint)


def _wrapper(name: str, wanted: Collection[str]) -> tuple[str, str] | None:
    """The prefix that separates a name from one of the model, and who writes such names."""
    if name in wanted:
        return None
    plain = _WRAPPED.sub("", name)
    if plain in wanted:
        prefix = _WRAPPED.search(name)[0]  # type: ignore[index]
        return prefix, f" of {_WRAPPERS[prefix]}"
    parts = name.split(".")
    rests = (".".join(parts[i:]) for i in range(1, len(parts)))
    return next(((name.removesuffix(rest), "") for rest in rests if rest in wanted), None)
