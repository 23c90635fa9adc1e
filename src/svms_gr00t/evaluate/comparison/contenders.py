"""Runs as they are compared: their results by training seed, and the facts that make a comparison fair or not.

folder/open_loop.json, closed_loop.json, facts.json       one run
folder/seed_<k>/...                                       the same for several seeds
<name> beside open_loop_<name>.json, closed_loop_<name>.json, config.json      a demo's policies
open_loop.json                                            one result on its own
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.files.documents import read_raw
from svms_gr00t.evaluate.closed_loop.result import RolloutResult
from svms_gr00t.evaluate.comparison.run_facts import RunFacts
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training seed of a contender."""

    open_loop: OpenLoopResult | None = None
    closed_loop: RolloutResult | None = None
    facts: RunFacts | None = None
    """None: not known."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One side of a comparison."""

    name: str
    runs: dict[int, Run]
    """By training seed."""

    @classmethod
    def load(cls, path: Path | str) -> "Contender":
        """Read a run folder, a folder of seeds, a demo's policy folder or a result. DataError when it is none."""
        path = Path(path)
        if path.is_file():
            run = _result(path)
            return cls(name=(run.open_loop or run.closed_loop).policy, runs={_seed_of(run, path): run})  # type: ignore
        folders = sorted(path.glob("seed_*")) or [path]
        runs = [(folder, _run(folder)) for folder in folders]
        found = {_seed_of(run, folder): run for folder, run in runs if run.open_loop or run.closed_loop}
        if not found:
            want = "open_loop.json or closed_loop.json, of one run or in seed_* folders"
            hint = "Run `svms-gr00t evaluate` with --output, or `svms-gr00t ablate`"
            raise DataError(path, got="no results", want=want, hint=hint)
        return cls(name=path.name, runs=found)

    def errors(self, metric: str) -> dict[int, dict[int, float]]:
        """Open-loop metric by seed and episode. Raises ConfigError where it was not measured."""
        found = {}
        for seed, run in self.runs.items():
            if run.open_loop is None:
                hint = "Run `svms-gr00t evaluate open-loop`"
                raise ConfigError(f"{self.name}, {metric}", got="not measured", want="an open-loop result", hint=hint)
            found[seed] = run.open_loop.scores.metric(metric)
        return found

    def successes(self) -> dict[int, dict[int, float]]:
        """1 or 0 by training seed and scene (the seed that drew it). Raises ConfigError where nothing was driven."""
        found = {}
        for seed, run in self.runs.items():
            if run.closed_loop is None:
                hint = "Run `svms-gr00t evaluate rollout`"
                raise ConfigError(f"{self.name}, success", got="not driven", want="a closed-loop result", hint=hint)
            found[seed] = {one.seed: float(one.success) for one in run.closed_loop.rollouts}
        return found


def _result(path: Path) -> Run:
    """The record in a JSON file, told apart by its fields."""
    if "rollouts" in read_raw(path, want="a result", hint="Pass what `svms-gr00t evaluate --output` wrote"):
        return Run(closed_loop=RolloutResult.load(path), facts=RunFacts.of(path.parent))
    return Run(open_loop=OpenLoopResult.load(path), facts=RunFacts.of(path.parent))


def _run(folder: Path) -> Run:
    def read(kind: Any, stem: str) -> Any:
        beside = folder.parent / f"{stem}_{folder.name}.json"
        file = next((f for f in (folder / f"{stem}.json", beside) if f.is_file()), None)
        return None if file is None else kind.load(file)

    open_loop, closed_loop = read(OpenLoopResult, "open_loop"), read(RolloutResult, "closed_loop")
    return Run(open_loop=open_loop, closed_loop=closed_loop, facts=RunFacts.of(folder))


def _seed_of(run: Run, path: Path) -> int:
    if run.facts is not None:
        return run.facts.seed
    found = re.search(r"seed_(\d+)", path.as_posix())
    return int(found[1]) if found else 0
