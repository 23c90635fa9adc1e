"""Results as plain JSON files: frozen dataclasses that survive a round trip and refuse unknown or ill-typed fields.

Not measured is None, never NaN (JSON has no NaN). Bytes (pictures) are base64.
"""

import json
import os
import tempfile
from codecs import BOM_UTF8
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.documents import named
from svms_gr00t.core.files.whole import written

Record = TypeVar("Record", bound="JsonRecord")


@cache
def _adapter(kind: type) -> TypeAdapter:
    return TypeAdapter(kind)


class JsonRecord:
    """Mixin for frozen dataclasses: `to_json`, `from_json`, `save`, `load`."""

    __pydantic_config__ = ConfigDict(extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    def to_json(self, *, indent: int | None = 2) -> str:
        """The record as JSON text. Half of a surrogate pair, which no UTF-8 holds, becomes a question mark."""
        adapter = _adapter(type(self))  # type: ignore[arg-type]  # hashable
        try:
            return adapter.dump_json(self, indent=indent).decode()
        except PydanticSerializationError:
            text = json.dumps(adapter.dump_python(self, mode="json"), indent=indent, ensure_ascii=False)
            return text.encode("utf-8", "replace").decode()

    @classmethod
    def from_json(cls: type[Record], text: str | bytes, *, where: object = "JSON text") -> Record:
        """The record that `to_json` wrote. Raises DataError for other fields or types; `where` names the source."""
        hint = "Write it again with this version"
        with named(where, want=f"a {cls.__name__}", hint=hint):
            try:
                return _adapter(cls).validate_json(text)  # type: ignore[arg-type]  # hashable
            except ValidationError as error:
                first = error.errors()[0]
                got = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
                raise DataError(where, got=got, want=f"a {cls.__name__}", hint=hint) from error

    def save(self, path: Path | str) -> Path:
        """Write the JSON under a temporary name, then rename, so that a reader never sees half a file."""
        return write_text(path, self.to_json() + "\n")

    @classmethod
    def load(cls: type[Record], path: Path | str) -> Record:
        """Read what `save` wrote. Raises DataError when the file is missing or is another record."""
        path = Path(path)
        if not path.is_file():
            raise DataError(path, got="no such file", want=f"a saved {cls.__name__}", hint="Run the evaluation first")
        return cls.from_json(path.read_bytes().removeprefix(BOM_UTF8), where=path)


def write_text(path: Path | str, text: str) -> Path:
    """Write UTF-8 text atomically, making parent folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with written(path), os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.chmod(temporary, 0o644)  # mkstemp keeps it private; a report is to be shared
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
