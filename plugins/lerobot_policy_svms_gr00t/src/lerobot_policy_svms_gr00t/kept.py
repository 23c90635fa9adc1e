"""What a saved policy holds beside LeRobot's own files, so that it is one folder that needs no base and no dataset.

svms_gr00t/config.json                               the model
svms_gr00t/processor_config.json, statistics.json,   the processor, as beside any N1.6 checkpoint
           embodiment_id.json, tokenizer.json
svms_gr00t/modality.json                             which column and slice is which key
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot_policy_svms_gr00t.configuration_svms_gr00t import SvmsGr00tConfig
from svms_gr00t import Gr00tN1d6Config, Modality, Robot, set_up
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.files.documents import dump_json
from svms_gr00t.core.files.records import write_text
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.recipes.setup import Setup

FOLDER = "svms_gr00t"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Processor, columns and model configuration of one policy."""

    processor: Processor
    modality: Modality
    model: Gr00tN1d6Config

    def save(self, folder: Path) -> None:
        """Write the files of `FOLDER` into a policy's folder."""
        self.processor.save(folder / FOLDER)
        dump_json(folder / FOLDER / "modality.json", self.modality.to_dict())
        write_text(folder / FOLDER / "config.json", self.model.dumps())

    @classmethod
    def load(cls, folder: Path) -> "Kept":
        """Read them back. Raises CheckpointError or DataError for files that are missing or broken."""
        own = folder / FOLDER
        return cls(
            processor=Processor.load(own),
            modality=Modality.load(own / "modality.json"),
            model=Gr00tN1d6Config.load(own / "config.json"),
        )


def begin(config: SvmsGr00tConfig, meta: Any) -> tuple[Kept, Setup]:
    """From LeRobot's metadata of a dataset and a base. Raises ConfigError without metadata, and what `set_up` raises.

    A dataset's own meta/modality.json names its keys; without one the names of its elements do.
    """
    if meta is None:
        hint = "Train on a dataset, or load a trained policy by --policy.path"
        raise ConfigError("policy", got="no dataset", want="its features and statistics", hint=hint)
    file = Path(meta.root) / "meta" / "modality.json"
    robot = Robot.from_columns(
        meta.features,
        meta.stats,
        tag=config.embodiment_tag,
        modality=Modality.load(file) if file.is_file() else None,
    )
    memory = {"memory_offsets": config.memory_offsets} if config.memory_offsets else {}
    svms = {name: tuple(v) if isinstance(v, list) else v for name, v in config.svms.items()}
    ready = set_up(robot, config.base_model_path, svms=svms | memory)
    return Kept(processor=ready.processor, modality=robot.modality, model=ready.config), ready
