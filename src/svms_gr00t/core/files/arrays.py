"""Arrays as .npy files that are complete under their name, and mapped, never read whole.

A header declares shape and type. Mapping compares them with the bytes that are there and takes no memory.
"""

import tokenize
from pathlib import Path

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.whole import whole_file

NO_HEADER = (
    *(ValueError, KeyError, TypeError, SyntaxError, EOFError, MemoryError, RecursionError, OverflowError),
    tokenize.TokenError,
)
"""What numpy raises for a header that is none."""


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an .npy that appears under its name when it is complete."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def map_array(path: Path, *, want: str, hint: str) -> np.ndarray:
    """The array of an .npy, read as it is used. Raises DataError for any other file, and for one that holds less."""
    try:
        with np.errstate(over="raise"):
            array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError as error:
        raise DataError(path, got="no such file", want=want, hint=hint) from error
    except (OSError, ArithmeticError, *NO_HEADER) as error:
        raise DataError(path, got=f"an unreadable file ({str(error)[:80]})", want=want, hint=hint) from error
    return array
