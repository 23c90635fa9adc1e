"""Where metrics go besides the run folder's metrics.jsonl, which is always written; libraries load when asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from svms_gr00t.core.errors import MissingExtra

TrackerName = Literal["tensorboard", "wandb", "trackio"]


@runtime_checkable
class Tracker(Protocol):
    """Takes one row of numbers at a step."""

    def log(self, row: dict[str, Any], *, step: int) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Scalars as event files under `run/tensorboard`."""

    def __init__(self, run: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("--tracker tensorboard", package="tensorboard", extra="trackers") from error
        self._writer = SummaryWriter(str(run / "tensorboard"))

    def log(self, row: dict[str, Any], *, step: int) -> None:
        """Every number under its name."""
        for name, value in numbers(row).items():
            self._writer.add_scalar(name.replace(".", "/"), value, step)

    def close(self) -> None:
        """Flush."""
        self._writer.close()


class Hosted:
    """wandb, or trackio, which speaks the same three calls."""

    def __init__(self, library: Literal["wandb", "trackio"], run: Path, config: dict[str, Any]) -> None:
        try:
            self._library = __import__(library)
        except ImportError as error:
            raise MissingExtra(f"--tracker {library}", package=library, extra="trackers") from error
        self._library.init(project="svms-gr00t", name=run.name, config=config)

    def log(self, row: dict[str, Any], *, step: int) -> None:
        """One call for the row."""
        self._library.log(numbers(row), step=step)

    def close(self) -> None:
        """Finish the remote run."""
        self._library.finish()


def make_trackers(names: Sequence[TrackerName], run: Path, config: dict[str, Any]) -> tuple[Tracker, ...]:
    """Trackers by name. Raises MissingExtra for a library that is not installed."""
    return tuple(TensorBoard(run) if name == "tensorboard" else Hosted(name, run, config) for name in names)


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """The entries that are numbers, without the step itself."""
    return {k: float(v) for k, v in row.items() if isinstance(v, int | float) and k != "step"}
