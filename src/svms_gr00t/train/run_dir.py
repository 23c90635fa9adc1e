"""A run folder: config.yaml, passport.json, metrics.jsonl and the last checkpoint, each complete or absent.

A checkpoint holds what trained and its optimiser moments as safetensors, and the numbers of the schedules as JSON.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.groot.saving import whole_folder

Row = dict[str, Any]
_FILES = ("model.safetensors", "optimizer.safetensors", "state.json")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything a resume needs."""

    model: dict[str, Tensor]
    """Tensors that trained, and SVMS buffers."""
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

    def save(self, snapshot: Snapshot) -> None:
        """Replace the checkpoint at once; a crash while writing leaves the old one."""
        with whole_folder(self.root / "checkpoint") as partial:
            save_file(snapshot.model, partial / "model.safetensors")
            save_file(snapshot.optimizer, partial / "optimizer.safetensors")
            (partial / "state.json").write_text(json.dumps(snapshot.state) + "\n", encoding="utf-8")

    def load(self) -> Snapshot | None:
        """The last checkpoint, or None. Raises CheckpointError for a broken one."""
        folder = self.root / "checkpoint"
        if not folder.is_dir():
            return None
        try:
            model, optimizer = (load_file(folder / name) for name in _FILES[:2])
            state = json.loads((folder / _FILES[2]).read_text(encoding="utf-8"))
        except (OSError, ValueError, SafetensorError) as error:
            hint = "Delete the run folder and start again"
            raise CheckpointError(
                folder, got=f"a broken checkpoint ({error})", want="a whole one", hint=hint
            ) from error
        return Snapshot(model=model, optimizer=optimizer, state=state)

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


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """Moments and step counts of each parameter, by name."""
    found: dict[str, Tensor] = {}
    for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
        for kind, value in optimizer.state.get(parameter, {}).items():
            found[f"{kind}.{name}"] = value.detach().clone()
    return found


def restore_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]) -> None:
    """Put `optimizer_tensors` back."""
    for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
        kinds = ("step", "exp_avg", "exp_avg_sq")
        if all(f"{kind}.{name}" in tensors for kind in kinds):
            optimizer.state[parameter] = {kind: tensors[f"{kind}.{name}"].clone() for kind in kinds}
