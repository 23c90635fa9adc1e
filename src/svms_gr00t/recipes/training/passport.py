"""What a run folder says of itself, and whether a training may go on there.

RUN/config.yaml     every setting; --config RUN/config.yaml repeats the run
RUN/passport.json   versions, commit, fingerprint of the data
"""

import json
from pathlib import Path
from typing import Any, Literal

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.provenance import commit, versions
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.loop.run_dir import RunDir

Resume = Literal["auto", "never"]


def claim(config: TrainConfig, output: Path, resume: Resume) -> None:
    """Check that the folder is free, or holds this very run; phases may be chosen anew at each call."""
    file = output / "config.yaml"
    if not file.is_file():
        return
    if resume == "never":
        hint = "Choose another --output-dir, or --resume auto to go on"
        raise CheckpointError(output, got="a run", want="an empty folder", hint=hint)
    if odd := [name for name in config.differences(TrainConfig.load(file)) if name != "phases"]:
        hint = "Choose another --output-dir, or repeat that run with --config"
        raise CheckpointError(output, got=f"a run with other {', '.join(odd)}", want="the same settings", hint=hint)


def write_passport(config: TrainConfig, output: Path, experiment: Experiment) -> None:
    """config.yaml and passport.json of a run."""
    run = RunDir(output).create()
    run.write("config.yaml", config.dumps())
    facts = {
        "versions": versions(),
        "commit": commit(),
        "data": data_facts(experiment),
        "model": experiment.config.to_dict(),
        "seed": config.seed,
    }
    run.write("passport.json", json.dumps(facts, indent=2) + "\n")


def data_facts(experiment: Experiment) -> dict[str, Any]:
    """What was trained on; a mixture says it of each part."""
    found = [
        {
            "fingerprint": source.dataset.fingerprint(),
            "episodes": len(source.dataset.episodes),
            "held_out": list(source.split.validation),
            "skipped": {one.episode: one.reason for one in source.skipped},
        }
        for source in experiment.sources
    ]
    if len(found) == 1:
        return found[0]
    parts = [one | {"weight": source.weight} for one, source in zip(found, experiment.sources, strict=True)]
    fingerprint = " + ".join(f"{part['weight']:.6g} {part['fingerprint']}" for part in parts)
    return {"fingerprint": fingerprint, "episodes": sum(one["episodes"] for one in found), "parts": parts}
