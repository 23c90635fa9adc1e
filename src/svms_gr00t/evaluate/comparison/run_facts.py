"""What a run was trained on and with, wherever it is written down.

facts.json                       a run of an ablation
passport.json, config.yaml       `svms-gr00t train`
../config.json                   a demo, which holds for both of its policies
"""

from dataclasses import dataclass, field
from pathlib import Path

from svms_gr00t.core.files.documents import filled, named, read_raw, read_yaml
from svms_gr00t.core.files.records import JsonRecord

FACTS = "facts.json"
_WANT, _HINT = "what the run wrote", "Leave that run out, or restore the file"
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
    passport = read_raw(folder / "passport.json", want=_WANT, hint=_HINT)
    config = read_yaml(folder / "config.yaml", want=_WANT, hint=_HINT)
    data = passport.get("data")
    if not isinstance(data, dict) or "fingerprint" not in data:
        return None
    facts = {
        "name": folder.name,
        "seed": config.get("seed", 0),
        "data": data["fingerprint"],
        "held_out": data.get("held_out", ()),
        "base": config.get("base_model_path") or "none",
        "budget": {name.replace("_", " "): str(config[name]) for name in _BUDGET if name in config},
    }
    return filled(RunFacts, facts, f"{folder}: passport.json, config.yaml", hint=_HINT)


def _of_demo(file: Path, name: str) -> RunFacts | None:
    if not file.is_file():
        return None
    c = read_raw(file, want=_WANT, hint=_HINT)
    if not {"dataset_path", "base", "seed", "steps", "batch_size"} <= c.keys():
        return None
    with named(file, want=_WANT, hint=_HINT):
        budget = {"steps": " + ".join(map(str, c["steps"])), "batch size": str(c["batch_size"])}
        budget |= {"learning rates": ", ".join(map(str, c.get("learning_rates", ())))}
        facts = {"name": name, "seed": c["seed"], "data": c["dataset_path"], "held_out": (), "base": c["base"]}
        return filled(RunFacts, facts | {"budget": budget}, file, hint=_HINT)
