"""`svms-gr00t`: one command, a subcommand for each job.

Exit code 0: done. 1: a check found something. 2: one sentence says what to mend. 70: a fault of ours, with a report.

--follow-links, anywhere, lets datasets hold links to files outside their folder; --limit NAME=NUMBER raises one of the
sizes that files may declare (docs/data.md).
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import tyro

from svms_gr00t import __version__
from svms_gr00t.cli import checkpoint, sim
from svms_gr00t.cli.ablate import Ablate
from svms_gr00t.cli.console import console, ended, errors
from svms_gr00t.cli.data.group import Data
from svms_gr00t.cli.demo import Demo
from svms_gr00t.cli.evaluate import monitor, open_loop, rollout, streams
from svms_gr00t.cli.evaluate.card import Card
from svms_gr00t.cli.evaluate.compare import Compare
from svms_gr00t.cli.evaluate.view import View
from svms_gr00t.cli.flags import at_home, joined, set_aside
from svms_gr00t.cli.gate import Gate
from svms_gr00t.cli.inspect import InspectModel
from svms_gr00t.cli.labels import Labels
from svms_gr00t.cli.line.nvidia import ours
from svms_gr00t.cli.line.spelling import chosen, spelled
from svms_gr00t.cli.plan import PlanMemory
from svms_gr00t.cli.serve import Serve
from svms_gr00t.cli.shown.sheet import Tables, as_json
from svms_gr00t.cli.train import Train, arguments

# Read when torch loads its thread pool, which no command has done yet: threads that spin while they wait make a step
# many times slower as soon as another process wants the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_named = tyro.conf.subcommand


@runtime_checkable
class Command(Protocol):
    """What every subcommand is: a filled-in dataclass that can run."""

    def run(self) -> int:
        """Do it; the exit code."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Group:
    def run(self) -> int:
        """Run the chosen member."""
        return self.command.run()  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class Evaluate(_Group):
    """Score a policy on recorded episodes, or drive the simulator with it."""

    command: (
        Annotated[open_loop.OpenLoop, _named("open-loop")]
        | Annotated[rollout.ClosedLoop, _named("rollout")]
        | Annotated[streams.Streams, _named("streams")]
        | Annotated[streams.Calibrate, _named("calibrate")]
    )


@dataclass(frozen=True, kw_only=True)
class Checkpoint(_Group):
    """Look into a checkpoint, make or merge a delta, or verify this installation against the reference model."""

    command: (
        Annotated[checkpoint.Inspect, _named("inspect")]
        | Annotated[checkpoint.MakeDelta, _named("delta")]
        | Annotated[checkpoint.Merge, _named("merge")]
        | Annotated[checkpoint.Verify, _named("verify")]
    )


@dataclass(frozen=True, kw_only=True)
class Sim(_Group):
    """Record or replay demonstrations in the embedded kitchen, and judge its suites."""

    command: (
        Annotated[sim.Record, _named("record")]
        | Annotated[sim.Replay, _named("replay")]
        | Annotated[sim.Gates, _named("gates")]
    )


@dataclass(frozen=True, kw_only=True)
class Monitor(_Group):
    """Train the consistency monitor: do pictures, measurements and expectations fit together?"""

    command: Annotated[monitor.TrainMonitor, _named("train")] | Annotated[monitor.ShowMonitor, _named("show")]


Commands = (
    Annotated[Demo, _named("demo")]
    | Annotated[Train, _named("train")]
    | Annotated[Gate, _named("gate")]
    | Annotated[PlanMemory, _named("plan")]
    | Annotated[Evaluate, _named("evaluate")]
    | Annotated[Serve, _named("serve")]
    | Annotated[Monitor, _named("monitor")]
    | Annotated[Compare, _named("compare")]
    | Annotated[Ablate, _named("ablate")]
    | Annotated[View, _named("view")]
    | Annotated[Card, _named("card")]
    | Annotated[InspectModel, _named("inspect")]
    | Annotated[Checkpoint, _named("checkpoint")]
    | Annotated[Data, _named("data")]
    | Annotated[Labels, _named("labels")]
    | Annotated[Sim, _named("sim")]
)


def parse(args: Sequence[str] | None = None) -> Command:
    """The chosen subcommand as a filled-in dataclass."""
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    given = joined(_told(set_aside(arguments(args))), Commands)
    if given[:1] == ["train"]:  # its defaults may come from a file
        start = Train.defaults(given)
        return at_home(tyro.cli(Train, prog="svms-gr00t train", default=start, args=given[1:], config=config))
    return at_home(tyro.cli(Commands, prog="svms-gr00t", description=__doc__, args=given, config=config))  # type: ignore[arg-type]


def _wants_json(command: object) -> bool:
    """Whether the chosen subcommand prints its tables as JSON."""
    while hasattr(command, "command"):
        command = command.command
    return isinstance(command, Tables) and command.json


def _told(args: list[str]) -> list[str]:
    """`args` in our spelling; NVIDIA's lines are understood, and what they ask for in vain is said on stderr."""
    if (found := chosen(args, Commands)) is None:
        return args
    line, notes = ours(spelled(args, found), found)
    for note in notes:
        errors.print(note, style="yellow", soft_wrap=True)
    return line


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    if arguments(args) == ["--version"]:
        console.print(f"svms-gr00t {__version__}")
        sys.exit(0)
    sys.exit(ended(lambda: _run(parse(args)), arguments(args)))


def _run(command: Command) -> int:
    with as_json(_wants_json(command)):
        return command.run()
