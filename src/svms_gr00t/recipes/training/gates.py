"""The gates of a run folder: phases 1 and 2 as measured where they ended, phase 3 against a plain run."""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.train.gates import GateResult, end_gate
from svms_gr00t.train.loop.run_dir import RunDir

FREE = (
    *(
        "phases",
        "use_sheaf_streams",
        "save_steps",
        "save_total_limit",
        "save_moments",
        "svms",
        "svms_rate",
        "lambda_aux",
    ),
    *("hand_position", "hand_gripper"),
)
"""Settings in which a run and its plain reference may differ."""


def run_gates(folder: Path, reference: Path | None = None) -> list[GateResult]:
    """Every gate that can be told. Raises CheckpointError for a folder without a run, and for an unfair reference."""
    found: list[GateResult] = []
    for phase in sorted(folder.glob("phase_*")):
        file = phase / "gate.json"
        if file.is_file():
            found += read_measured(file, list[GateResult])
    if not found and not (folder / "phase_1").is_dir():
        hint = "Pass a folder that svms-gr00t train wrote"
        raise CheckpointError(folder, got="no phase_1", want="a training run", hint=hint)
    if (folder / "phase_3" / "gate.json").is_file():
        found.append(_end(folder, reference))
    return found


def read_measured(file: Path, kind: Any) -> Any:
    """What was measured where a phase ended, as `kind`. Raises CheckpointError for a damaged file."""
    try:
        return TypeAdapter(kind).validate_json(file.read_bytes())
    except ValidationError as error:
        got, hint = f"a damaged file ({error.errors()[0]['msg']})", "The training command measures it again"
        raise CheckpointError(file, got=got, want="what was measured there", hint=hint) from error


def _end(folder: Path, reference: Path | None) -> GateResult:
    ours = _error(folder)
    if reference is None:
        advice = "train the same with --no-use-sheaf-streams into another folder, and pass it as --reference"
        criterion = "held-out action error below the equally trained plain model"
        return GateResult(phase="end to end", criterion=criterion, measured=None, passed=None, advice=advice)
    configs = [TrainConfig.load(root / "config.yaml") for root in (folder, reference)]
    if odd := [name for name in configs[0].differences(configs[1]) if name not in FREE]:
        hint = "Train both on the same data, steps and seed"
        raise CheckpointError(reference, got=f"other {', '.join(odd)}", want=f"those of {folder}", hint=hint)
    (result,) = end_gate(ours, _error(reference))
    return result


def _error(folder: Path) -> float:
    rows = RunDir(folder / "phase_3").rows()
    known = [row["held_out.action_error"] for row in rows if "held_out.action_error" in row]
    if not known:
        hint = "Finish its phase 3"
        raise CheckpointError(folder / "phase_3", got="no held-out error", want="a finished phase", hint=hint)
    return float(known[-1])
