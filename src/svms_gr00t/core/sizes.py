"""How large a thing may be that a file or a message only declares: one table, looked up before memory is taken.

A few bytes can ask for gigabytes: a clip of 17 kB decodes to 1.6 GB, 5 kB of HDF5 declare 559 GiB. `--limit
NAME=NUMBER`, with any command, raises one of these for files that you trust; it sets an environment variable, so worker
processes inherit it.
"""

import math
import os
from functools import lru_cache
from typing import Any, NamedTuple

from svms_gr00t.core.errors import ConfigError, DataError

RAISED = "SVMS_LIMITS"
"""Environment variable with raised (or lowered) limits: "picture_pixels=1e9 clip_frames=1e7"."""


class Limit(NamedTuple):
    """A row of the table."""

    most: int
    of: str
    """Unit and thing, as the table of docs/data.md says it."""


LIMITS: dict[str, Limit] = {
    "picture_pixels": Limit(1 << 25, "pixels of a picture or a frame, as stored and as resized (8K has 33 million)"),
    "clip_frames": Limit(4_000_000, "frames that the index of a clip declares, all tracks together"),
    "frames_bytes": Limit(2 << 30, "bytes of pictures in one array, at the size at which they are used"),
    "table_bytes": Limit(512 << 20, "bytes of the columns read at once from a parquet file, unpacked"),
    "meta_bytes": Limit(256 << 20, "the same of a table in `meta/`, and of JSON and YAML: they become Python objects"),
    "array_bytes": Limit(256 << 20, "bytes of the numbers of an HDF5 demonstration, or of a block of its pictures"),
    "model_layers": Limit(1_000, "layers of a tower, of the memory or of the DiT in `config.json`"),
    "model_width": Limit(1 << 20, "any other number of `config.json` that sizes a tensor, and the length of a list"),
    "model_steps": Limit(10_000, "steps of an action chunk, and of the sampler"),
    "fresh_parameters": Limit(1 << 28, "parameters of a configuration that its weight files do not hold"),
    "list_bytes": Limit(256 << 20, "bytes of the array that a list in a request would become"),
}
"""Defaults, by the name that `--limit` takes."""


def limit(name: str) -> int:
    """The limit in force. Raises ConfigError for an environment variable that says nothing of this form."""
    return _raised(os.environ.get(RAISED, "")).get(name, LIMITS[name].most)


def within(name: str, number: int, where: object, got: str, *, kind: type[DataError] = DataError) -> None:
    """Raise `kind`, which says `where`, what was found and the flag that lets it pass, above the limit."""
    if number > (most := limit(name)):
        hint = f"If you trust it, pass --limit {name}={number}"
        raise kind(where, got=got, want=f"at most {most:,} ({LIMITS[name].of})", hint=hint)


def raise_limits(words: list[str]) -> None:
    """Put `NAME=NUMBER` words into the environment. Raises ConfigError for an unknown name and for no number."""
    joined = " ".join([os.environ.get(RAISED, ""), *words]).strip()
    _raised(joined)
    os.environ[RAISED] = joined


@lru_cache(maxsize=16)
def _raised(text: str) -> dict[str, int]:
    return dict(_row(word) for word in text.replace(",", " ").split())


def _row(word: str) -> tuple[str, int]:
    name, _, number = word.partition("=")
    if name not in LIMITS:
        raise _fault(word, f"one of {', '.join(LIMITS)}", "The table stands in docs/data.md")
    try:
        value: Any = float(number)
    except ValueError:
        value = math.nan
    if not 1 <= value < math.inf:
        raise _fault(word, "NAME=NUMBER with a number from 1", f"For example {name}={LIMITS[name].most}")
    return name, int(number) if number.isdigit() else int(value)


def _fault(word: str, want: str, hint: str) -> ConfigError:
    return ConfigError("--limit", got=word[:80], want=want, hint=hint)
