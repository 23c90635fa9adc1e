"""A saved policy that holds `svms.*` alone and knows its base by its bytes.

    svms.json           the base: where it was, the digest of each of its tensors that the model reads
    svms.safetensors    every tensor of SVMS

LeRobot's own files stand beside them, without `model.safetensors`.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors.torch import load_file
from torch import Tensor

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.files.documents import dump_json, read_json
from svms_gr00t.groot.checkpoint.delta import BaseRecord, check_base, digests, fingerprint
from svms_gr00t.groot.checkpoint.hub import Hub, locate
from svms_gr00t.groot.checkpoint.loading import some, weight_files
from svms_gr00t.groot.checkpoint.saving import save_weights
from svms_gr00t.groot.checkpoint.tensors import Stored

FILE, STEM, FORMAT, VERSION = "svms.json", "svms", "svms-gr00t delta of N1.7", 1
WHOLE, PLAIN, OURS = "model.safetensors", "_groot_model.", "svms."
TIED = f"{PLAIN}backbone.model.lm_head.weight"
EMBEDDING = f"{PLAIN}backbone.model.model.language_model.embed_tokens.weight"
"""One tensor under two names; LeRobot ties them."""


class _File(BaseModel):
    format: str
    version: int
    base: BaseRecord


def is_delta(folder: Path) -> bool:
    """Whether the folder holds SVMS alone."""
    return (folder / FILE).is_file()


def save(folder: Path, state: dict[str, Tensor], source: str) -> None:
    """Write SVMS out of a policy's tensors. Raises CheckpointError when the rest is not the base at `source`."""
    if (folder / WHOLE).exists():
        raise CheckpointError(folder, got=f"a whole policy, {WHOLE}", want="a new folder", hint="Choose another one")
    base = locate(source)
    used = _used(base, state)
    own = {name.removeprefix(PLAIN) for name in state if name.startswith(PLAIN) and name != TIED}
    moved = sorted(own - used.keys()) + [n for n, stored in used.items() if not _same(stored, state[PLAIN + n])]
    if moved:
        got = f"{len(moved)} tensors that are not the base's: {some(moved)}"
        hint = "Save the whole policy: leave --policy.delta out"
        raise CheckpointError(base, got=got, want="the base of this policy", hint=hint)
    found = digests(used)
    told = {"source": source, "fingerprint": fingerprint(found), "tensors": found}
    save_weights(state, folder, only=lambda name: name.startswith(OURS), stem=STEM)
    dump_json(folder / FILE, {"format": FORMAT, "version": VERSION, "base": told})


def check(folder: Path, source: str, hub: Hub | None = None) -> None:
    """Read the base at `source` once. Raises CheckpointError when it is not the one that this delta was trained on."""
    want, hint = f"a {FILE} of this package", "Save the policy again"
    told = read_json(_File, folder / FILE, want=want, hint=hint, fault=CheckpointError)
    if (told.format, told.version) != (FORMAT, VERSION) or fingerprint(told.base.tensors) != told.base.fingerprint:
        got = f"{told.format} {told.version}, fingerprint {told.base.fingerprint[:12]}"
        raise CheckpointError(folder / FILE, got=got, want=want, hint=hint)
    base = locate(source, hub=hub)
    found = {n: stored for n, stored in weight_files(base).items() if n in told.base.tensors}
    check_base(base, digests(found), told.base.tensors, told.base.source)


def load(folder: Path) -> dict[str, Tensor]:
    """Every tensor of SVMS, under its name in the policy."""
    return load_file(folder / f"{STEM}.safetensors")


def _used(base: Path, state: dict[str, Tensor]) -> dict[str, Stored]:
    held: dict[str, Any] = weight_files(base)
    return {name: stored for name, stored in held.items() if PLAIN + name in state and PLAIN + name != TIED}


def _same(stored: Stored, value: Tensor) -> bool:
    return stored.shape == tuple(value.shape) and torch.equal(stored.read(value.dtype), value.detach().cpu())
