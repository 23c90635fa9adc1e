"""Where metrics go besides the run folder's metrics.jsonl, which is always written; libraries load when asked for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from svms_gr00t.core.errors import MissingExtra
from svms_gr00t.train.loop.hosted import Trackio, Wandb

TrackerName = Literal["tensorboard", "wandb", "trackio"]


@runtime_checkable
class Tracker(Protocol):
    """Takes rows of numbers, each at a step."""

    def log(self, numbers: Mapping[str, float], *, step: int) -> None: ...

    def close(self, *, failed: bool = False) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Which libraries follow a run, and what it is called there."""

    names: tuple[TrackerName, ...] = ()
    project: str | None = None
    """Of W&B and trackio; by default the one that the run began in, then WANDB_PROJECT, then svms-gr00t."""
    name: str | None = None
    """Of the run there; by default the one it had, then WANDB_NAME, then the name of its folder."""

    def check(self) -> None:
        """Raises MissingExtra for a library that is not installed."""
        for name in self.names:
            spec = find_spec(name)
            if spec is None or spec.origin is None:  # a folder ./wandb of old runs is found too, and is no library
                raise MissingExtra(f"--tracker {name}", package=name, extra="trackers")

    @contextmanager
    def follow(self, run: Path, config: dict[str, Any]) -> Iterator[tuple[Tracker, ...]]:
        """The trackers of the run in folder `run`, made with `config`; closed in the end, as failed after an error.

        Raises MissingExtra as `check` does, TrainingError when W&B refuses or the run is in another project.
        """
        self.check()
        found: list[Tracker] = []
        failed = True
        try:
            for name in dict.fromkeys(self.names):
                found.append(self._start(name, run, config))
            yield tuple(found)
            failed = False
        finally:
            for one in found:
                one.close(failed=failed)

    def _start(self, name: TrackerName, run: Path, config: dict[str, Any]) -> Tracker:
        if name == "tensorboard":
            return TensorBoard(run)
        return (Wandb if name == "wandb" else Trackio)(run, self.project, self.name, config)


class TensorBoard:
    """Scalars as event files under `run/tensorboard`."""

    def __init__(self, run: Path) -> None:
        self._folder = run / "tensorboard"
        self._writer: Any = None

    def log(self, numbers: Mapping[str, float], *, step: int) -> None:
        """Every number under its name. The first row of a resumed run hides what a killed one wrote after it."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self, *, failed: bool = False) -> None:
        """Flush."""
        if self._writer is not None:
            self._writer.close()


def grouped(row: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of a row as group/name: accuracy.visual is accuracy/visual, loss is train/loss; without the step."""
    names = {k: k.replace(".", "/", 1) if "." in k else f"train/{k}" for k in row if k != "step"}
    return {name: float(row[k]) for k, name in names.items() if isinstance(row[k], int | float)}
