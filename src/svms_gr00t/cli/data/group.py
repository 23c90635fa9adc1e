"""`svms-gr00t data`: everything between files on disk and a training batch."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from svms_gr00t.cli.data.cache import DataCache
from svms_gr00t.cli.data.convert import Convert
from svms_gr00t.cli.data.doctor import Doctor
from svms_gr00t.cli.data.files import DataStatistics, InitModality
from svms_gr00t.cli.data.labels import DataLabels
from svms_gr00t.cli.data.show import Show

_named = tyro.conf.subcommand


@dataclass(frozen=True, kw_only=True)
class Data:
    """Examine, show, convert and summarise a dataset, name its columns, label its language, cache its features."""

    command: (
        Annotated[Doctor, _named("doctor")]
        | Annotated[InitModality, _named("init-modality")]
        | Annotated[Convert, _named("convert")]
        | Annotated[DataStatistics, _named("statistics")]
        | Annotated[Show, _named("show")]
        | Annotated[DataLabels, _named("labels")]
        | Annotated[DataCache, _named("cache")]
    )

    def run(self) -> int:
        """Run the chosen member."""
        return self.command.run()
