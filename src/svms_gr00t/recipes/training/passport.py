"""What a run folder says of itself, and whether a training may go on there.

RUN/config.yaml     every setting; --config RUN/config.yaml repeats the run
RUN/passport.json   versions, commit and digest of the code; fingerprints of data and base; changes that were accepted
RUN/.lock           held by the process that trains there
"""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from svms_gr00t.core.errors import CheckpointError, ConfigError, DataError
from svms_gr00t.core.files.digest import folder_fingerprint
from svms_gr00t.core.files.documents import read_raw
from svms_gr00t.core.files.lock import only_one
from svms_gr00t.core.provenance import commit, source_digest, versions
from svms_gr00t.data.labels.own import OwnLabeler
from svms_gr00t.recipes.training.config import TrainConfig
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.processes.cluster import Cluster

Resume = Literal["auto", "never"]
Change = Literal["data", "code"]
FILE = "passport.json"
_CHANGES: tuple[Change, ...] = ("data", "code")


def parse_changes(text: str) -> tuple[Change, ...]:
    """ "data,code" as a tuple. Raises ConfigError for other words."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if odd := [word for word in words if word not in _CHANGES]:
        hint = "--accept-changes data,code accepts both"
        raise ConfigError("--accept-changes", got=odd[0], want=f"{' or '.join(_CHANGES)}", hint=hint)
    return tuple(change for change in _CHANGES if change in words)


@contextmanager
def claimed(config: TrainConfig, output: Path, resume: Resume, here: Cluster) -> Iterator[None]:
    """Hold the folder. Raises DataError when another process trains in it, CheckpointError when another run is there.

    Phases, and processes that read ahead, may be chosen anew at each call.
    """
    with only_one(output) if here.rank == 0 else nullcontext():
        _check_settings(config, output, resume)
        yield


def _check_settings(config: TrainConfig, output: Path, resume: Resume) -> None:
    file = output / "config.yaml"
    if not file.is_file():
        return
    if resume == "never":
        hint = "Choose another --output-dir, or --resume auto to go on"
        raise CheckpointError(output, got="a run", want="an empty folder", hint=hint)
    if odd := config.differences(TrainConfig.load(file)):
        hint = "Choose another --output-dir, or repeat that run with --config"
        raise CheckpointError(output, got=f"a run with other {', '.join(odd)}", want="the same settings", hint=hint)


def write_passport(
    config: TrainConfig, output: Path, experiment: Experiment, *, base: Path | None, accept: Collection[Change] = ()
) -> None:
    """config.yaml and passport.json of a run, if what was trained there so far was trained with the same.

    Raises CheckpointError when data or code changed since and `accept` does not name it, or when the base did.
    """
    run = RunDir(output).create()
    facts: dict[str, Any] = {
        "versions": versions(),
        "commit": commit(),
        "source": source_digest(),
        "data": data_facts(experiment),
        "base": None if base is None else _base_fingerprint(base),
        "model": experiment.config.to_dict(),
        "seed": config.seed,
    }
    facts = json.loads(json.dumps(facts))  # as it will be read
    if trained := {p.name: [c.name for c in RunDir(p).checkpoints()] for p in sorted(output.glob("phase_*"))}:
        facts["accepted"] = _compared(output, facts, accept, trained)
    run.write("config.yaml", config.dumps())
    run.write(FILE, json.dumps(facts, indent=2) + "\n")


def _compared(
    output: Path, facts: Mapping[str, Any], accept: Collection[Change], trained: Mapping[str, list[str]]
) -> list[dict[str, Any]]:
    """The changes accepted so far, and now."""
    stored = _stored(output, accept) if any(trained.values()) else {}
    accepted = list(stored.get("accepted", ()))
    if stored.get("base", facts["base"]) != facts["base"]:
        hint = "Choose another --output-dir: what is trained here fits the weights that it began with"
        raise CheckpointError(output, got="a run from another base checkpoint", want=str(stored["base"]), hint=hint)
    found = {"data": _data_changes(stored, facts), "code": _code_changes(stored, facts)}
    found = {name: changes for name, changes in found.items() if changes}
    if refused := [name for name in found if name not in accept]:
        said = "; ".join(line for name in refused for line in found[name])
        hint = f"--accept-changes {','.join(found)} goes on and writes it down; else choose another --output-dir"
        raise CheckpointError(output, got=f"a run with {said}", want="the same data and code", hint=hint)
    if found:
        steps = {phase: names[-1] for phase, names in trained.items() if names}
        accepted.append({"when": datetime.now(UTC).isoformat(timespec="seconds"), "trained": steps, **found})
    return accepted


def _stored(output: Path, accept: Collection[Change]) -> dict[str, Any]:
    """The passport; empty when it is lost and every change is accepted."""
    try:
        return read_raw(output / FILE)
    except DataError as error:
        if set(accept) >= set(_CHANGES):
            return {}
        want, hint = "the passport of what was trained here", "--accept-changes data,code goes on without comparing"
        raise CheckpointError(output / FILE, got="no readable file", want=want, hint=hint) from error


def _data_changes(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs in the data, said old first; nothing where no passport says."""
    before, after = (_parts(facts.get("data")) for facts in (stored, now))
    if not before:
        return []
    if len(before) != len(after):
        return [f"{len(before)} datasets instead of {len(after)}"]
    names = {"fingerprint": "other data", "held_out": "other held-out episodes", "weight": "another weight of a part"}
    names |= {"labels": "another lexicon"}
    return [
        f"{said} ({_short(old.get(name))} instead of {_short(new.get(name))})"
        for old, new in zip(before, after, strict=True)
        for name, said in names.items()
        if name in old and old[name] != new.get(name)
    ]


def _code_changes(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    before, after = stored.get("versions", {}), now["versions"]
    found = [f"{name} {before[name]} instead of {new}" for name, new in after.items() if before.get(name, new) != new]
    name = "source" if "source" in stored else "commit"  # passports written before know the commit alone
    if stored.get(name) is not None and stored[name] != now[name]:
        was, is_now = (facts.get("commit") or facts[name] for facts in (stored, now))
        same = "" if was != is_now else f" ({name} {stored[name]} instead of {now[name]})"
        found.append(f"code {was} instead of {is_now}{same}")
    return found


def _parts(data: Any) -> list[dict[str, Any]]:
    """The facts of each dataset."""
    found = data.get("parts", [data]) if isinstance(data, dict) else []
    return [part for part in found if isinstance(part, dict)]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _base_fingerprint(base: Path) -> str:
    return folder_fingerprint(base, [*base.glob("*.safetensors"), *base.glob("*.json")])


def data_facts(experiment: Experiment) -> dict[str, Any]:
    """What was trained on; a mixture says it of each part."""
    own = experiment.labeler
    found = [
        {
            "fingerprint": source.dataset.fingerprint(),
            "episodes": len(source.dataset.episodes),
            "held_out": list(source.split.validation),
            "skipped": {one.episode: one.reason for one in source.skipped},
            **({"labels": sha256(own.text.encode()).hexdigest()} if isinstance(own, OwnLabeler) else {}),
        }
        for source in experiment.sources
    ]
    if len(found) == 1:
        return found[0]
    parts = [one | {"weight": source.weight} for one, source in zip(found, experiment.sources, strict=True)]
    fingerprint = " + ".join(f"{part['weight']:.6g} {part['fingerprint']}" for part in parts)
    return {"fingerprint": fingerprint, "episodes": sum(one["episodes"] for one in found), "parts": parts}
