"""JSON and YAML files read and written one way: every fault becomes one sentence that names the file.

    read_json, read_jsonl    a pydantic schema says what may stand there; the first field that does not fit is named
    filled                   the same for our frozen dataclasses, which refuse nonsense at construction
    named                    what a schema cannot say: whatever goes wrong inside still names the file

A line ends at "\n" and nowhere else: U+2028, U+2029, U+0085, VT and FF may stand inside a JSON string, where
`str.splitlines` would cut it. A byte order mark at the start, which some editors write, is no part of the text.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from svms_gr00t.core.errors import DataError, SvmsError
from svms_gr00t.core.escape import plain
from svms_gr00t.core.files.whole import written
from svms_gr00t.core.sizes import within

Kind = TypeVar("Kind")
Model = TypeVar("Model", bound=BaseModel)
Fault = type[DataError]
"""DataError, or CheckpointError for the files of a checkpoint."""
_repr = Repr()  # of what lies deep inside one another the built-in one ends in a RecursionError
_repr.maxstring = _repr.maxother = 80


def read_text(path: Path, *, want: str, hint: str, fault: Fault = DataError) -> str:
    """The UTF-8 text of `path`, with or without a byte order mark.

    Raises `fault` when it is missing, no text, or larger than the limit "meta_bytes".
    """
    try:
        within("meta_bytes", size := path.stat().st_size, path, f"{size:,} bytes of text", kind=fault)
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise fault(path, got="no such file", want=want, hint=hint) from error
    except UnicodeDecodeError as error:
        got = f"bytes that are no UTF-8 ({error.reason} at byte {error.start})"
        raise fault(path, got=got, want=f"{want}, saved as UTF-8", hint=hint) from error
    except OSError as error:
        raise fault(path, got=f"an unreadable file ({error})", want=want, hint=hint) from error


def parse_json(text: str, where: object, *, want: str, hint: str, fault: Fault = DataError) -> Any:
    """The value in JSON text. Raises `fault` for anything else."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        got = f"broken JSON ({error.msg} at line {error.lineno}, column {error.colno})"
        raise fault(where, got=got, want=want, hint=hint) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, or brackets without end
        raise fault(where, got=f"broken JSON ({_said(error)})", want=want, hint=hint) from error


_DEEPEST = 100


class _Plain(yaml.SafeLoader):
    """YAML without aliases: a few of them inside one another stand for gigabytes, or for themselves."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise yaml.MarkedYAMLError(problem=f"an alias, *{event.anchor}", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, kind: Any) -> None:
        if self.flow_level > _DEEPEST:  # the time that the parser takes grows with the square of the depth
            raise yaml.MarkedYAMLError(problem="brackets without end", problem_mark=self.get_mark())
        super().fetch_flow_collection_start(kind)


def read_yaml(path: Path, *, want: str, hint: str, fault: Fault = DataError) -> dict[str, Any]:
    """A YAML mapping of plain values. Raises `fault` for anything else, aliases (*name) among it."""
    text = read_text(path, want=want, hint=hint, fault=fault)
    try:
        value = yaml.load(text, Loader=_Plain)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        at = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise fault(path, got=f"broken YAML ({error.problem}{at})", want=want, hint=hint) from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise fault(path, got=f"broken YAML ({_said(error)})", want=want, hint=hint) from error
    if not isinstance(value, dict):
        raise fault(path, got=f"a {type(value).__name__}", want=want, hint=hint)
    return value


@cache
def _adapter(kind: Hashable) -> TypeAdapter:
    return TypeAdapter(kind)  # type: ignore[arg-type]  # any type that may be a key


def validate(model: type[Model], value: Any, where: object, *, hint: str, fault: Fault = DataError) -> Model:
    """`value` as `model`. Raises `fault` with the first field that does not fit."""
    return _fitting(lambda: model.model_validate(value), where, hint, fault)


def filled(kind: Any, value: Any, where: object, *, hint: str, fault: Fault = DataError) -> Any:
    """A JSON value as `kind`, any type that pydantic knows: frozen dataclasses, tuples, literals. Numbers are finite.

    Nothing is converted: a text is no number. Raises `fault` with the first field that does not fit, and what the class
    raises itself with `where` before it.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        got, want = ("NaN or infinity" if "Out of range" in str(error) else _said(error)), "what JSON can hold"
        raise fault(where, got=got, want=want, hint=hint) from error
    return _fitting(lambda: _adapter(kind).validate_json(text, strict=True), where, hint, fault)


def _fitting(make: Callable[[], Kind], where: object, hint: str, fault: Fault) -> Kind:
    try:
        return make()
    except ValidationError as error:
        first = error.errors()[0]
        own = first.get("ctx", {}).get("error")
        if isinstance(own, SvmsError):  # of a dataclass that refused its values
            raise own.at(where) from error
        field = ".".join(str(part) for part in first["loc"]) or "the top level"
        got = f"no {field}" if first["type"] == "missing" else f"{short(first['input'])} at {field}"
        raise fault(where, got=got, want=_wanted(first), hint=hint) from error


def short(value: object) -> str:
    """A value of a file as it is shown in a sentence."""
    text = _repr.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _wanted(fault: Any) -> str:
    """Pydantic's complaint as a noun phrase that completes "but need ..."."""
    known = {"missing": "this field", "extra_forbidden": "only documented fields (this one is not)"}
    return known.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")


@contextmanager
def named(where: object, *, want: str, hint: str, fault: Fault = DataError) -> Iterator[None]:
    """Whatever goes wrong inside is said of `where`. For what reads one file, and nothing else.

    A sentence of ours gets the file's name before it unless it has it; any other exception but OSError, which knows its
    file, becomes `fault`. MemoryError and what ends the process pass.
    """
    try:
        yield
    except SvmsError as error:
        if plain(where) in str(error):
            raise
        raise error.at(where) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise fault(where, got=f"what cannot be read ({_said(error)})", want=want, hint=hint) from error


def _said(error: BaseException) -> str:
    """One line about an exception of somebody else's."""
    text = " ".join(str(error).split())
    kind = "" if isinstance(error, ValueError | RecursionError) and text else f"{type(error).__name__}: "
    return f"{kind}{text[:200]}"


def read_json(model: type[Model], path: Path, *, want: str, hint: str, fault: Fault = DataError) -> Model:
    """One JSON file as `model`."""
    text = read_text(path, want=want, hint=hint, fault=fault)
    value = parse_json(text, path, want=want, hint=hint, fault=fault)
    return validate(model, value, path, hint=hint, fault=fault)


def read_raw(
    path: Path, *, want: str = "a JSON object", hint: str = "Fetch the dataset again", fault: Fault = DataError
) -> dict[str, Any]:
    """A JSON object as it is. Raises `fault` when the file is missing, broken or holds something else."""
    text = read_text(path, want=want, hint=hint, fault=fault)
    value = parse_json(text, path, want=want, hint=hint, fault=fault)
    if not isinstance(value, dict):
        raise fault(path, got=f"a {type(value).__name__}", want=want, hint=hint)
    return value


def read_jsonl(model: type[Model], path: Path, *, want: str, hint: str) -> list[Model]:
    """One `model` for each non-blank line of a JSON-lines file; faults name the line."""
    rows = _lines(path, want=want, hint=hint)
    return [validate(model, value, where, hint=hint) for where, value in rows]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every JSON object of a JSON-lines file as it is; none without a file. Raises DataError for other lines."""
    if not path.is_file():
        return []
    want, hint = "a JSON object a line", "Fetch the dataset again"
    rows = list(_lines(path, want=want, hint=hint))
    for where, value in rows:
        if not isinstance(value, dict):
            raise DataError(where, got=f"a {type(value).__name__}", want=want, hint=hint)
    return [value for _, value in rows]


def _lines(path: Path, *, want: str, hint: str) -> Iterator[tuple[str, Any]]:
    """Where each non-blank line stands, and its value."""
    for number, line in enumerate(read_text(path, want=want, hint=hint).split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, parse_json(line, where, want=want, hint=hint)


def dump_json(path: Path, value: Any) -> None:
    """Write indented JSON with the keys in the order given and a final newline; NaN is refused (it is not JSON)."""
    _write(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def dump_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one compact JSON value a line."""
    _write(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Half of a surrogate pair, which JSON allows and UTF-8 does not, stays the escape that it was read from.
    with written(path):
        path.write_bytes(text.encode("utf-8", "backslashreplace"))
