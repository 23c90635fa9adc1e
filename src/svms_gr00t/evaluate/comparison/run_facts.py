"""What a run was trained on and with, wherever it is written down.

facts.json                       a run of an ablation
passport.json, config.yaml       `svms-gr00t train`
../config.json                   a demo, which holds for both of its policies
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.records import JsonRecord

FACTS = "facts.json"
_BUDGET = (
    "preset",
    "phases",
    "max_steps",
    "learning_rate",
    "global_batch_size",
    "optimizer",
    "precision",
    "ema",
)
"""Fields of `config.yaml` that decide how much a run may learn; how it is cut into processes does not."""


@dataclass(frozen=True, kw_only=True)
class RunFacts(JsonRecord):
    """`facts.json` of a run folder."""

    name: str
    """What the run calls itself."""
    seed: int
    """Training seed."""
    data: str
    """Fingerprint of the training data, or its name where a run wrote no more."""
    held_out: tuple[int, ...]
    """Episodes that were not trained on; empty: not written down."""
    base: str
    """Checkpoint that training started from."""
    budget: dict[str, str] = field(default_factory=dict)
    """Steps, batch size, learning rates."""
    parameters: int | None = None
    """Of the whole model."""
    added: int | None = None
    """Of them, what the run added to the base's architecture."""

    @classmethod
    def of(cls, folder: Path) -> "RunFacts | None":
        """Facts of a run folder; None where nobody wrote any. Raises DataError for a broken facts.json."""
        if (folder / FACTS).is_file():
            return cls.load(folder / FACTS)
        if (folder / "passport.json").is_file() and (folder / "config.yaml").is_file():
            return _of_training(folder)
        return _of_demo(folder.parent / "config.json", folder.name)

    def differences(self) -> dict[str, str]:
        """Everything that must be equal for a fair comparison, by name, as text."""
        known = {"data": self.data, "base": self.base} | self.budget
        return known | ({"held-out episodes": str(list(self.held_out))} if self.held_out else {})


def _of_training(folder: Path) -> RunFacts | None:
    passport = _mapping(folder / "passport.json", json.loads)
    config = _mapping(folder / "config.yaml", yaml.safe_load)
    data = passport.get("data")
    if not isinstance(data, dict) or "fingerprint" not in data:
        return None
    return RunFacts(
        name=folder.name,
        seed=int(config.get("seed", 0)),
        data=str(data["fingerprint"]),
        held_out=tuple(data.get("held_out", ())),
        base=str(config.get("base_model_path") or "none"),
        budget={name.replace("_", " "): str(config[name]) for name in _BUDGET if name in config},
    )


def _of_demo(file: Path, name: str) -> RunFacts | None:
    if not file.is_file():
        return None
    c = _mapping(file, json.loads)
    if not {"dataset_path", "base", "seed", "steps", "batch_size"} <= c.keys():
        return None
    budget = {"steps": " + ".join(map(str, c["steps"])), "batch size": str(c["batch_size"])}
    budget |= {"learning rates": ", ".join(map(str, c.get("learning_rates", ())))}
    return RunFacts(name=name, seed=c["seed"], data=c["dataset_path"], held_out=(), base=c["base"], budget=budget)


def _mapping(file: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """What a run folder's file says; nothing where it is no mapping. Raises DataError for a damaged file."""
    try:
        value = parse(file.read_text(encoding="utf-8-sig"))
    except (ValueError, yaml.YAMLError) as error:
        said, hint = str(error).splitlines()[0], "Leave that run out, or restore the file"
        raise DataError(file, got=f"a damaged file ({said})", want="what the run wrote", hint=hint) from error
    return value if isinstance(value, dict) else {}
