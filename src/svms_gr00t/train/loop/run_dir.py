"""A run folder: metrics.jsonl and the newest checkpoints, each complete or absent.

    checkpoints/step_000200/   model.safetensors, optimizer.safetensors, state.json (with the SHA-256 of both)

A checkpoint holds what trained and its optimiser moments as safetensors, and the numbers of the schedules as JSON.
"""

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.checkpoint.saving import whole_folder

log = logging.getLogger(__name__)
Row = dict[str, Any]
_FILES = ("model.safetensors", "optimizer.safetensors", "state.json")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything a resume needs."""

    model: dict[str, Tensor]
    """Tensors that trained, SVMS buffers, and with EMA their means as "ema.<name>"."""
    optimizer: dict[str, Tensor]
    """"exp_avg.<name>", "exp_avg_sq.<name>" and "step.<name>"."""
    state: dict[str, Any]
    """Steps done, and the state of the schedules."""


class RunDir:
    """Files of one run or one phase of it."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def create(self) -> "RunDir":
        """Make the folder. OSError when it cannot be written."""
        self.root.mkdir(parents=True, exist_ok=True)
        return self

    def save(self, snapshot: Snapshot, *, keep_last: int = 1) -> None:
        """Add a checkpoint, then drop all but the newest `keep_last`; a crash at any moment leaves a whole one."""
        folder = self.root / "checkpoints" / f"step_{int(snapshot.state['done']):06d}"
        folder.parent.mkdir(exist_ok=True)
        with whole_folder(folder) as partial:
            save_file(snapshot.model, partial / _FILES[0])
            save_file(snapshot.optimizer, partial / _FILES[1])
            state = snapshot.state | {"sha256": {name: _digest(partial / name) for name in _FILES[:2]}}
            (partial / _FILES[2]).write_text(json.dumps(state) + "\n", encoding="utf-8")
        for old in self.checkpoints()[:-keep_last]:
            shutil.rmtree(old)

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted((self.root / "checkpoints").glob("step_*"))

    def load(self) -> Snapshot | None:
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
        with (self.root / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self, *, below: int | None = None) -> list[Row]:
        """Metrics so far; `below` also drops the lines from that step on, which a resume will write again."""
        path = self.root / "metrics.jsonl"
        if not path.is_file():
            return []
        rows: list[Row] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break  # a line cut off by a crash; every line after the last checkpoint is written again
        if below is not None:
            rows = [row for row in rows if row["step"] < below]
            self.write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    def write(self, name: str, text: str) -> Path:
        """A text file that is complete or absent."""
        path = self.root / name
        partial = path.with_name(f".{name}.partial")
        partial.write_text(text, encoding="utf-8")
        return partial.replace(path)


def _read(folder: Path) -> Snapshot:
    want = "a whole checkpoint"
    hint = "Delete that folder to go on from the checkpoint before it, or the run folder to start again"
    try:
        state = json.loads((folder / _FILES[2]).read_text(encoding="utf-8"))
        for name, digest in state.pop("sha256", {}).items():
            if _digest(folder / name) != digest:
                raise CheckpointError(folder / name, got="other bytes than were written", want=want, hint=hint)
        model, optimizer = (load_file(folder / name) for name in _FILES[:2])
    except (OSError, ValueError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(folder, got=f"a broken checkpoint ({error})", want=want, hint=hint) from error
    return Snapshot(model=model, optimizer=optimizer, state=state)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
