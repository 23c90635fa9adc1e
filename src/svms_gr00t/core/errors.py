"""What users and files can get wrong, each said in one sentence: where, what was found, what was needed, what next.

Our own bugs are `assert`s; these classes are for input. The command line prints the message and exits with 2, and with
70 for anything that it did not foresee.
"""

from difflib import get_close_matches
from typing import Any, TypeVar

from svms_gr00t.core.escape import plain

Error = TypeVar("Error", bound="SvmsError")
_MOST = 600
"""Characters of a place, or of what was found there, that a sentence repeats."""


class SvmsError(Exception):
    """Base of every error a user can cause and mend. Survives the way back from a worker process."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions come out of a pipe by calling their class with the message alone; ours want more than that.
        return _restored, (type(self), str(self))

    def at(self: "Error", where: object) -> "Error":
        """The same sentence with the place before it: a file whose values a class refused without knowing the file."""
        return _restored(type(self), f"{plain(where, most=_MOST)}: {self}")


def near(name: str, known: list[str]) -> str:
    """A hint that names the closest known keys."""
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(sorted(known))}"


def _restored(kind: type[Error], message: str) -> Error:
    return kind.__new__(kind, message)


def _sentence(where: str, got: str, want: str, hint: str) -> str:
    """One line, however long and strange what it quotes is."""
    return f"{plain(where, most=_MOST)}{plain(got, most=_MOST)}, but need {plain(want, most=2000)}. {plain(hint)}"


class ConfigError(SvmsError, ValueError):
    """Reads: "sheaf.step = 3.0, but need 0 < step < 2. 0.5 is a safe start"."""

    def __init__(self, where: str, *, got: object, want: str, hint: str) -> None:
        super().__init__(_sentence(f"{where}", f" = {got!r}", want, hint))


class DataError(SvmsError, ValueError):
    """A dataset, image, label or statistics file that cannot be used as it is.

    Reads: "/data/kitchen/meta/info.json: found no such file, but need a LeRobot dataset. Pass its root folder".
    """

    def __init__(self, where: object, *, got: object, want: str, hint: str) -> None:
        super().__init__(_sentence(f"{where}", f": found {got}", want, hint))


class CheckpointError(DataError):
    """Weights, a run folder or a configuration file that does not fit this code."""


class MissingExtra(SvmsError, ImportError):
    """Reads: "closed-loop evaluation needs robosuite, which is not installed. Run: pip install 'svms-gr00t[sim]'"."""

    def __init__(self, what: str, *, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}, which is not installed. Run: pip install 'svms-gr00t[{extra}]'")


class TrainingError(SvmsError, RuntimeError):
    """Training cannot start or go on; the last good checkpoint is untouched."""

    def __init__(self, where: str, *, got: object, want: str, hint: str) -> None:
        super().__init__(_sentence(f"{where}", f": {got}", want, hint))
