"""`svms-gr00t data`: everything between files on disk and a training batch."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from svms_gr00t.cli.data_doctor import Doctor
from svms_gr00t.cli.data_labels import DataLabels

_named = tyro.conf.subcommand


@dataclass(frozen=True, kw_only=True)
class Data:
    """Examine a dataset and label its language."""

    command: Annotated[Doctor, _named("doctor")] | Annotated[DataLabels, _named("labels")]

    def run(self) -> int:
        """Run the chosen member."""
        return self.command.run()
