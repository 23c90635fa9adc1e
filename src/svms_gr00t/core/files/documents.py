"""Small JSON files read and written one way: every fault becomes one `DataError` sentence that names the file.

A line ends at "\n" and nowhere else: U+2028, U+2029, U+0085, VT and FF may stand inside a JSON string, where
`str.splitlines` would cut it. A byte order mark at the start, which some editors write, is no part of the text.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from svms_gr00t.core.errors import DataError

Model = TypeVar("Model", bound=BaseModel)


def read_text(path: Path, *, want: str, hint: str) -> str:
    """The UTF-8 text of `path`, with or without a byte order mark. Raises DataError when it is missing or no text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(path, got="no such file", want=want, hint=hint) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, got=f"an unreadable file ({error})", want=want, hint=hint) from error


def _loads(text: str, where: object, *, want: str, hint: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        got = f"broken JSON ({error.msg} at line {error.lineno}, column {error.colno})"
        raise DataError(where, got=got, want=want, hint=hint) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, or brackets without end
        raise DataError(where, got=f"broken JSON ({error})", want=want, hint=hint) from error


def validate(model: type[Model], value: Any, where: object, *, hint: str) -> Model:
    """`value` as `model`. Raises DataError with the first field that does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the top level"
        shown = repr(first["input"])
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise DataError(where, got=f"{shown} at {field}", want=_wanted(first), hint=hint) from error


def _wanted(fault: Any) -> str:
    """Pydantic's complaint as a noun phrase that completes "but need ..."."""
    known = {"missing": "this field", "extra_forbidden": "only documented fields (this one is not)"}
    return known.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")


def read_json(model: type[Model], path: Path, *, want: str, hint: str) -> Model:
    """One JSON file as `model`."""
    return validate(model, _loads(read_text(path, want=want, hint=hint), path, want=want, hint=hint), path, hint=hint)


def read_raw(path: Path) -> dict[str, Any]:
    """A JSON object as it is. Raises DataError when the file is missing, broken or holds something else."""
    want, hint = "a JSON object", "Fetch the dataset again"
    value = _loads(read_text(path, want=want, hint=hint), path, want=want, hint=hint)
    if not isinstance(value, dict):
        raise DataError(path, got=f"a {type(value).__name__}", want=want, hint=hint)
    return value


def read_jsonl(model: type[Model], path: Path, *, want: str, hint: str) -> list[Model]:
    """One `model` for each non-blank line of a JSON-lines file; faults name the line."""
    rows = _lines(path, want=want, hint=hint)
    return [validate(model, value, where, hint=hint) for where, value in rows]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every JSON object of a JSON-lines file as it is; none without a file. Raises DataError for broken lines."""
    if not path.is_file():
        return []
    want, hint = "a JSON object a line", "Fetch the dataset again"
    return [value for _, value in _lines(path, want=want, hint=hint)]


def _lines(path: Path, *, want: str, hint: str) -> Iterator[tuple[str, Any]]:
    """Where each non-blank line stands, and its value."""
    for number, line in enumerate(read_text(path, want=want, hint=hint).split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _loads(line, where, want=want, hint=hint)


def dump_json(path: Path, value: Any) -> None:
    """Write indented JSON with the keys in the order given and a final newline; NaN is refused (it is not JSON)."""
    _write(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def dump_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one compact JSON value a line."""
    _write(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Half of a surrogate pair, which JSON allows and UTF-8 does not, stays the escape that it was read from.
    path.write_bytes(text.encode("utf-8", "backslashreplace"))
