"""What users and files can get wrong, each said in one sentence: where, what was found, what was needed, what next.

Our own bugs are `assert`s; these classes are for input. The command line prints the message and exits with 2.
"""

from typing import Any

MOST_ECHO = 200
"""Letters of somebody's input that an error repeats at most."""


def echo(value: object) -> str:
    """What somebody sent, as an error may repeat it."""
    text = str(value)
    return text if len(text) <= MOST_ECHO else text[: MOST_ECHO - 3] + "..."


class SvmsError(Exception):
    """Base of every error a user can cause and mend. Survives the way back from a worker process."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions come out of a pipe by calling their class with the message alone; ours want more than that.
        return _restored, (type(self), str(self))


def _restored(kind: type[SvmsError], message: str) -> SvmsError:
    return kind.__new__(kind, message)


class ConfigError(SvmsError, ValueError):
    """Reads: "sheaf.step = 3.0, but need 0 < step < 2. 0.5 is a safe start"."""

    def __init__(self, where: str, *, got: object, want: str, hint: str) -> None:
        super().__init__(f"{where} = {got!r}, but need {want}. {hint}")


class DataError(SvmsError, ValueError):
    """A dataset, image, label or statistics file that cannot be used as it is.

    Reads: "/data/kitchen/meta/info.json: found no such file, but need a LeRobot dataset. Pass its root folder".
    """

    def __init__(self, where: object, *, got: object, want: str, hint: str) -> None:
        super().__init__(f"{where}: found {got}, but need {want}. {hint}")


class CheckpointError(DataError):
    """Weights, a run folder or a configuration file that does not fit this code."""


class MissingExtra(SvmsError, ImportError):
    """Reads: "closed-loop evaluation needs robosuite, which is not installed. Run: pip install 'svms-gr00t[sim]'"."""

    def __init__(self, what: str, *, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}, which is not installed. Run: pip install 'svms-gr00t[{extra}]'")


class TrainingError(SvmsError, RuntimeError):
    """Training cannot start or go on; the last good checkpoint is untouched."""

    def __init__(self, where: str, *, got: object, want: str, hint: str) -> None:
        super().__init__(f"{where}: {got}, but need {want}. {hint}")
