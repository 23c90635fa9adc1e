"""A run folder: metrics.jsonl and the newest checkpoints, each complete or absent.

    checkpoints/step_000200/   model.safetensors, optimizer.safetensors, state.json, SHA256SUMS over the three

A checkpoint holds what trained and its optimiser moments as safetensors, and the numbers of the schedules as JSON.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, NonNegativeInt, TypeAdapter, ValidationError
from torch import Tensor

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.files.whole import recover, whole_file, whole_folder, written
from svms_gr00t.groot.checkpoint.streaming import write_tensors
from svms_gr00t.groot.checkpoint.tensors import Lazy, header
from svms_gr00t.train.loop.seal import HINT, SUMS, WANT, check_seal, digest, seal

log = logging.getLogger(__name__)
Row = dict[str, Any]
_WEIGHTS = ("model.safetensors", "optimizer.safetensors")
_STATE = "state.json"
_ROW, _STEP = TypeAdapter(dict[str, float]), TypeAdapter(NonNegativeInt)
"""A line of metrics.jsonl: numbers by name, and the step they are of."""
_NAME = re.compile(r"\.?step_(\d{6,})(\.old)?")


class SheafState(BaseModel):
    """What the schedule of the sheaf loss remembers."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    smoothed: FiniteFloat | None
    started: NonNegativeInt | None


class State(BaseModel):
    """state.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    done: NonNegativeInt
    """Steps done."""
    phase: str
    sheaf: SheafState
    moments: bool = True
    """Whether the optimiser's moments were saved."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything a resume needs."""

    model: Mapping[str, Tensor]
    """Tensors that trained, SVMS buffers, and with EMA their means as "ema.<name>"."""
    optimizer: Mapping[str, Tensor]
    """"exp_avg.<name>", "exp_avg_sq.<name>" and "step.<name>"; nothing where moments are left out."""
    state: State


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A snapshot in files: a tensor is read when it is asked for, and none stays."""

    model: Lazy
    optimizer: Lazy
    state: State


class RunDir:
    """Files of one run or one phase of it."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def create(self) -> "RunDir":
        """Make the folder. OSError when it cannot be written."""
        self.root.mkdir(parents=True, exist_ok=True)
        return self

    def save(self, snapshot: Snapshot, *, keep_last: int = 1) -> None:
        """Add a checkpoint, then drop all but the newest `keep_last`; a crash at any moment leaves a whole one.

        Tensors of a device pass through the host one by one.
        """
        folder = self.root / "checkpoints" / f"step_{snapshot.state.done:06d}"
        with whole_folder(folder) as partial:
            written = zip(_WEIGHTS, (snapshot.model, snapshot.optimizer), strict=True)
            digests = {name: write_tensors(partial / name, tensors) for name, tensors in written}
            state = f"{snapshot.state.model_dump_json()}\n".encode()
            (partial / _STATE).write_bytes(state)
            seal(partial, digests | {_STATE: hashlib.sha256(state).hexdigest()})
        found = self.checkpoints()
        at = found.index(folder)
        # What comes later was broken and passed over; a hidden one was never finished by a killed process.
        for old in [*found[: max(0, at + 1 - keep_last)], *found[at + 1 :], *folder.parent.glob(".step_*.partial")]:
            shutil.rmtree(old)

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        folder = self.root / "checkpoints"
        for old in folder.glob(".step_*.old"):
            recover(folder / old.stem.removeprefix("."))
        named = [(match, path) for path in folder.glob("step_*") if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted((int(match[1]), path) for match, path in named)]

    def load(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None. Raises CheckpointError when there are some and none is whole."""
        broken: CheckpointError | None = None
        for folder in reversed(self.checkpoints()):
            try:
                return _read(folder)
            except CheckpointError as error:
                log.warning("%s Going back to the one before it.", error)
                broken = error
        if broken is not None:
            raise broken
        return None

    def append(self, row: Row) -> None:
        """One line of metrics."""
        path = self.root / "metrics.jsonl"
        with written(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self, *, below: int | None = None) -> list[Row]:
        """Metrics so far, without damaged lines; `below` also drops the lines from that step on, written again later.

        A last line without its end was cut off by a crash; any other damaged line is warned of.
        """
        path = self.root / "metrics.jsonl"
        if not path.is_file():
            return []
        rows: list[Row] = []
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                _ROW.validate_python(row, strict=True)
                _STEP.validate_python(row.get("step"), strict=True)
            except (ValueError, RecursionError):
                if number < len(lines):
                    log.warning("%s, line %d is damaged and left out: %.60r", path, number, line)
            else:
                rows.append(row)
        if below is not None:
            rows = [row for row in rows if row["step"] < below]
            self.write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    def write(self, name: str, text: str) -> Path:
        """A text file that is complete or absent."""
        path = self.root / name
        with whole_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
        return path


def _read(folder: Path) -> Checkpoint:
    try:
        state = _read_state(folder)
        model, optimizer = (Lazy(header(folder / name)) for name in _WEIGHTS)
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise CheckpointError(folder, got=f"a broken checkpoint ({said})", want=WANT, hint=HINT) from error
    return Checkpoint(model=model, optimizer=optimizer, state=state)


def _read_state(folder: Path) -> State:
    """The checked state.json of a folder whose files are what was written."""
    if (folder / SUMS).exists():
        check_seal(folder, (*_WEIGHTS, _STATE))
        return State.model_validate_json((folder / _STATE).read_bytes())
    found = dict(json.loads((folder / _STATE).read_bytes()))
    digests = found.pop("sha256", None)
    if not isinstance(digests, dict) or set(digests) != set(_WEIGHTS):
        raise CheckpointError(folder, got=f"no {SUMS}", want=WANT, hint=HINT)
    for name in _WEIGHTS:
        if digest(folder / name) != digests[name]:
            raise CheckpointError(folder / name, got="other bytes than were written", want=WANT, hint=HINT)
    found.pop("best", None)
    state = State.model_validate(found)
    if folder.name != f"step_{state.done:06d}":
        raise CheckpointError(
            folder / _STATE, got=f"step {state.done}", want="the step in the folder's name", hint=HINT
        )
    log.warning("%s was written before %s existed: nothing covers its state.json.", folder, SUMS)
    return state
