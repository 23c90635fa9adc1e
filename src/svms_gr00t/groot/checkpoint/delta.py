"""Delta checkpoints: what training changed, and which base it belongs to.

    delta.json          the base: where it was, the digest of each of its tensors, one fingerprint over all of them
    delta.safetensors   tensors that differ from the base or that it lacks, such as svms.*; or shards with an index
    config.json         the configuration of base and delta together

The name `delta` keeps loaders that expect a whole model from filling the rest with random numbers. A tensor of which
few rows changed, such as an embodiment bank, is stored by these rows. A base is the right one when every tensor that
the model reads has the same bytes; how they are spread over files does not matter, and unused tensors do not either.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, NonNegativeInt
from torch import Tensor

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.files.documents import named, read_json, short
from svms_gr00t.groot.checkpoint.hub import Hub, commit_of, locate
from svms_gr00t.groot.checkpoint.loading import is_unused, read_config, some, weight_files
from svms_gr00t.groot.checkpoint.saving import GIB, checkpoint_folder, save_weights
from svms_gr00t.groot.checkpoint.tensors import Stored
from svms_gr00t.groot.config import Gr00tN1d6Config

FILE, STEM, FORMAT, VERSION = "delta.json", "delta", "svms-gr00t delta", 1
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What `delta.json` says."""

    folder: Path
    """The delta's own folder."""
    source: str
    """Its base as the saver knew it: an absolute path or a hub id."""
    revision: str | None = None
    """Commit of a base from the hub."""
    relative: str | None
    """A local base as seen from the delta's folder; found again when both are moved together."""
    digests: dict[str, str]
    """Digest of each tensor of the base that a model reads."""
    rows: dict[str, tuple[int, ...]]
    """Tensors of which only these rows are stored."""

    @property
    def fingerprint(self) -> str:
        """One digest for the whole base."""
        return fingerprint(self.digests)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        base = {"source": self.source, "revision": self.revision, "relative": self.relative}
        base["fingerprint"] = self.fingerprint
        rows = {name: list(rows) for name, rows in self.rows.items()}
        return {"format": FORMAT, "version": VERSION, "base": base | {"tensors": self.digests}, "rows": rows}

    def tensors(self, base: Path) -> dict[str, Stored]:
        """Where each tensor of the delta lies; a tensor stored by rows reads the others from the base."""
        files, under = weight_files(self.folder, STEM), weight_files(base)
        out = dict(files)
        for name, rows in self.rows.items():
            part, whole = files.get(name), under.get(name)
            fits = whole is not None and all(0 <= row < whole.shape[0] for row in rows)
            if part is None or whole is None or not fits or part.shape != (len(rows), *whole.shape[1:]):
                got = f"no fitting rows of {name}"
                raise CheckpointError(self.folder, got=got, want="a whole delta", hint="save it again")
            out[name] = Patched(**_fields(whole), part=part, rows=rows)
        return out

    def check(self, base: Path) -> None:
        """Read the base once and compare digests. Raises `CheckpointError` naming what differs."""
        check_base(base, digests(used_tensors(base)), self.digests, self.source)


class BaseRecord(BaseModel):
    """What a delta writes down of its base."""

    source: str
    revision: str | None = None
    relative: str | None = None
    fingerprint: str
    tensors: dict[str, str]


class _File(BaseModel):
    """delta.json."""

    format: str
    version: int
    base: BaseRecord
    rows: dict[str, list[NonNegativeInt]]


@dataclass(frozen=True, kw_only=True)
class Patched(Stored):
    """A tensor of the base with some rows of the delta."""

    part: Stored
    """The rows."""
    rows: tuple[int, ...]
    """Where they go."""

    @property
    def exact(self) -> torch.dtype:
        """That of the base or of the rows, whichever holds both."""
        return torch.promote_types(self.dtype, self.part.dtype)

    @torch.no_grad()
    def fill(self, target: Tensor, scratch: Tensor | None = None) -> None:
        """The base's values, then the delta's rows."""
        super().fill(target, scratch)
        target[torch.tensor(self.rows, device=target.device)] = self.part.read().to(target.device, target.dtype)


def _fields(stored: Stored) -> dict[str, Any]:
    return {name: getattr(stored, name) for name in ("name", "file", "shape", "dtype", "offset")}


def fingerprint(tensors: Mapping[str, str]) -> str:
    """SHA-256 over the names and digests, in order of name."""
    return hashlib.sha256("".join(f"{n} {d}\n" for n, d in sorted(tensors.items())).encode()).hexdigest()


def check_base(base: Path, found: Mapping[str, str], want: Mapping[str, str], source: str) -> None:
    """Compare the digests of a base with those that a delta wants. Raises `CheckpointError` naming what differs."""
    missing, extra = want.keys() - found.keys(), found.keys() - want.keys()
    other = [name for name in sorted(found.keys() & want.keys()) if found[name] != want[name]]
    if not (missing or extra or other):
        return
    parts = {"missing": sorted(missing), "unexpected": sorted(extra), "different": other}
    got = "; ".join(f"{len(names)} {word}: {some(names)}" for word, names in parts.items() if names)
    needed = f"the base that this delta was trained on ({source}, fingerprint {fingerprint(want)[:12]})"
    raise CheckpointError(base, got=got, want=needed, hint="pass that base")


def used_tensors(base: Path) -> dict[str, Stored]:
    """The tensors of a whole checkpoint that a model reads. Raises `CheckpointError` for a base that is a delta."""
    if is_delta(base):
        hint = "merge it first (svms-gr00t checkpoint merge)"
        raise CheckpointError(base, got="a delta", want="a whole checkpoint as the base", hint=hint)
    config = read_config(base)
    return {name: stored for name, stored in weight_files(base).items() if not is_unused(name, config)}


def _begin(stored: Stored) -> Any:
    return hashlib.sha256(f"{stored.dtype} {stored.shape}\n".encode())


def digests(tensors: Mapping[str, Stored]) -> dict[str, str]:
    """A digest of type, shape and bytes of each tensor, from the files; reading and hashing run in threads."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return dict(zip(tensors, pool.map(_digest, tensors.values()), strict=True))


def _digest(stored: Stored) -> str:
    digest = _begin(stored)
    for _, piece in stored.pieces():
        digest.update(piece.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def is_delta(folder: Path | str) -> bool:
    """Whether the folder holds a delta."""
    return (Path(folder) / FILE).is_file()


def read_delta(folder: Path | str) -> Delta:
    """`delta.json` of a folder. Raises `CheckpointError` when it cannot be understood."""
    file = Path(folder) / FILE
    want, hint = f"a {FILE} of this package", "save the delta again"
    values = read_json(_File, file, want=want, hint=hint, fault=CheckpointError)
    if values.format != FORMAT or values.version > VERSION:
        hint = "update svms-gr00t, or save the delta again"
        raise CheckpointError(file, got=f"{short(values.format)} {values.version}", want=want, hint=hint)
    base = values.base
    delta = Delta(
        folder=Path(folder),
        source=base.source,
        revision=base.revision,
        relative=base.relative,
        digests=base.tensors,
        rows={name: tuple(rows) for name, rows in values.rows.items()},
    )
    with named(file, want=want, hint=hint, fault=CheckpointError):
        intact = base.fingerprint == delta.fingerprint
    if not intact:
        raise CheckpointError(file, got="a fingerprint that is not that of its tensors", want=want, hint=hint)
    return delta


def base_here(delta: Delta, hub: Hub | None = None) -> Path | None:
    """The base's folder when it is on this machine, without any download."""
    hub = replace(hub or Hub(), local_files_only=True)
    places = [Path(delta.source)] + ([delta.folder / delta.relative] if delta.relative else [])
    for revision in dict.fromkeys((delta.revision, None)):
        with suppress(CheckpointError):
            places.append(locate(delta.source, hub=hub.at(revision)))
    # The cache may hold the JSON files alone.
    return next((place for place in places if any(place.glob("model*.safetensors"))), None)


def find_base(delta: Delta, base: Path | str | None = None, *, hub: Hub | None = None) -> Path:
    """The base's folder: the one given, or where the delta says. Raises `CheckpointError` when it is not there.

    `hub` is how the delta was found: its revision is not that of the base.
    """
    hub = hub or Hub()
    if base is not None:
        return locate(base, hub=hub.at(None))
    if (here := base_here(delta, hub)) is not None:
        return here
    try:
        return locate(delta.source, hub=hub.at(delta.revision))
    except CheckpointError as error:
        want, hint = "the base that it was trained on", "Pass its place (base=..., or --base-model-path)"
        raise CheckpointError(
            delta.folder, got=f"a delta of {delta.source}, which is not here", want=want, hint=hint
        ) from error


def base_and_delta(
    folder: Path, base: Path | str | None = None, *, hub: Hub | None = None, check: bool = True
) -> tuple[Path, dict[str, Stored], str | None]:
    """The folder of the whole weights, the tensors that replace or join them, and a name for the base of a delta.

    Without `check` the base's digests are not compared. Raises `CheckpointError` for a base that does not fit, or that
    is given for a whole checkpoint.
    """
    if not is_delta(folder):
        if base is not None:
            hint = "Leave base away, or give the delta's folder"
            raise CheckpointError(folder, got="a whole checkpoint", want="a delta to put on a base", hint=hint)
        return folder, {}, None
    delta = read_delta(folder)
    whole = find_base(delta, base, hub=hub)
    if check:
        delta.check(whole)
    is_path = Path(delta.source).is_absolute()  # else a hub id, which says more than the cache it lies in
    return whole, delta.tensors(whole), str(base or (whole if is_path else delta.source))


def save_delta(
    state: Mapping[str, Tensor],
    config: Gr00tN1d6Config,
    folder: Path | str,
    *,
    base: Path | str,
    hub: Hub | None = None,
    extra: Callable[[Path], object] | None = None,
    shard_bytes: int = 5 * GIB,
) -> Delta:
    """Write what differs from `base` (a folder or a hub id), as one folder that appears when it is complete.

    A tensor is left out only when it equals the base's to the bit, in the type of `state`. `extra` may write
    more files into the folder before it appears.
    Raises `CheckpointError` when the base lacks the shapes or has tensors that the model has not.
    """
    target, origin = Path(folder), locate(base, hub=hub)
    local = Path(base).expanduser().is_dir()
    tensors = used_tensors(origin)
    changed: dict[str, Tensor] = {n: state[n] for n in state if n not in tensors and not is_unused(n, config)}
    found: dict[str, str] = {}
    rows: dict[str, tuple[int, ...]] = {}
    for name, stored in tensors.items():
        value = state.get(name)
        _check_fit(origin, stored, value, config)
        found[name], moved = _compare(stored, value)
        if value is not None and len(moved):
            changed[name] = value
            if 2 * len(moved) <= len(value) and value.ndim > 1:
                rows[name] = tuple(moved.tolist())
                changed[name] = value.detach()[moved.to(value.device)]
    delta = Delta(
        folder=target,
        source=str(origin.resolve()) if local else str(base),
        revision=None if local else commit_of(origin),
        relative=os.path.relpath(origin.resolve(), target.resolve()) if local else None,
        digests=found,
        rows=rows,
    )
    with checkpoint_folder(target) as partial:
        (partial / "config.json").write_text(config.dumps(), encoding="utf-8")
        (partial / FILE).write_text(json.dumps(delta.to_dict(), indent=1) + "\n", encoding="utf-8")
        if extra is not None:
            extra(partial)
        save_weights(changed, partial, shard_bytes=shard_bytes, stem=STEM)
    return delta


def _check_fit(origin: Path, stored: Stored, value: Tensor | None, config: Gr00tN1d6Config) -> None:
    fits = is_unused(stored.name, config) if value is None else tuple(value.shape) == stored.shape
    if not fits:
        got = f"{stored.name} {stored.shape}, which the model {'lacks' if value is None else 'has otherwise'}"
        hint = "pass the checkpoint that this model was loaded from"
        raise CheckpointError(origin, got=got, want="the base of this model", hint=hint)


def _compare(stored: Stored, value: Tensor | None) -> tuple[str, Tensor]:
    """Digest of the base's tensor, and the rows in which `value` differs from it."""
    digest = _begin(stored)
    flat = None if value is None else value.detach().reshape(-1)
    width = max(1, stored.size // max(1, stored.shape[0])) if stored.shape else 1
    moved = [torch.empty(0, dtype=torch.long)]
    for start, piece in stored.pieces():
        digest.update(piece.view(torch.uint8).numpy().data)
        if flat is not None:
            ours = flat[start : start + len(piece)].cpu()
            differ = _bits(piece.to(ours.dtype)) != _bits(ours)
            if differ.any():
                moved.append(torch.unique((differ.nonzero()[:, 0] + start) // width))
    return digest.hexdigest()[:16], torch.unique(torch.cat(moved))


def _bits(values: Tensor) -> Tensor:
    return values.contiguous().view(_INTEGERS[values.dtype.itemsize])
