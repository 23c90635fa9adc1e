"""The settings of what fills an output folder, kept in it: runs of other settings must not be mixed into a table."""

import json
from collections.abc import Collection
from pathlib import Path

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.files.records import JsonRecord

SETTINGS = "config.json"


def claim(config: JsonRecord, output: Path, *, grows: Collection[str] = ()) -> None:
    """Make the folder one of these settings, or check that it is; those that `grows` names may be others later.

    Raises CheckpointError, which names the settings that differ, and DataError for a file that is no such record.
    """
    file = output / SETTINGS
    if file.is_file():
        old, new = (json.loads(one.to_json()) for one in (type(config).load(file), config))
        odd = [name for name in new if old[name] != new[name] and name not in grows]
        if odd:
            got, hint = (
                f"a run with other settings: {', '.join(odd)}",
                "Choose another --output-dir, or delete this one",
            )
            raise CheckpointError(output, got=got, want="the same settings", hint=hint)
    config.save(file)
