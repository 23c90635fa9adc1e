"""From a base checkpoint and the description of a robot to processor, configuration and model; no dataset is opened.

    features and statistics by column -> Robot -> set_up(robot, base) -> processor, config -> model() -> policy(model)

It is what training does with a dataset (`training/experiment.py`), for those who have one of another library's open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.init_modality import propose_modality
from svms_gr00t.data.lerobot.metadata import Info
from svms_gr00t.data.lerobot.modality import Modality
from svms_gr00t.data.processor.embodiment import EmbodimentConfig, from_modality
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.data.processor.statistics import Statistics, statistics_by_key
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import NONE, starting_point
from svms_gr00t.recipes.training.experiment import begun, processor_and_config
from svms_gr00t.recipes.training.presets import preset_for


@dataclass(frozen=True, kw_only=True)
class Robot:
    """What a robot's vectors and cameras are called, and how its numbers spread."""

    modality: Modality
    """Slices of the state and action vectors, cameras and the instruction, in the model's order."""
    statistics: Statistics
    """Of every state and action key."""
    tag: str = "new_embodiment"
    """Embodiment tag; a tag that the base knows keeps the base's keys and statistics."""

    @classmethod
    def from_columns(
        cls,
        features: Mapping[str, Mapping[str, Any]],
        statistics: Mapping[str, Mapping[str, Any]],
        *,
        tag: str = "new_embodiment",
        modality: Modality | None = None,
    ) -> "Robot":
        """From `features` and `statistics` as LeRobot keeps them, by whole column: info.json's and stats.json's.

        Without a `modality` the names of the columns' elements say which belong together ("gripper.pos"), as
        `svms-gr00t data init-modality` proposes them. Raises DataError for a robot without a state, action or camera,
        and for statistics of other columns or widths.
        """
        if modality is None:
            plain = {name: {**feature, "shape": list(feature.get("shape") or ())} for name, feature in features.items()}
            said = {"codebase_version": "", "fps": 1.0, "features": plain, "data_path": ""}
            proposed = propose_modality(Info.model_validate(said))
            if proposed.missing:
                hint = "LeRobot's names are observation.state, action and observation.images.<camera>"
                raise DataError("robot", got=proposed.missing[0], want="state, action and camera", hint=hint)
            modality = proposed.modality
        return cls(modality=modality, statistics=statistics_by_key(statistics, modality), tag=tag)

    def described(self, horizon: int, views: Sequence[str] = ()) -> EmbodimentConfig:
        """All its keys, absolute actions, chunks of at most 16 steps and of the model's `horizon`."""
        return from_modality(self.modality, horizon=min(16, horizon), views=views or None)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a robot and a base make together."""

    processor: Processor
    config: Gr00tN1d6Config
    base: Path | None
    """None: fresh weights."""

    def model(self, *, use_sheaf_streams: bool = True, dtype: torch.dtype = torch.float32, seed: int = 0) -> Gr00tN1d6:
        """The base's weights, or fresh ones of that seed; SVMS starts fresh where the base has none."""
        return begun(self.config, self.base, use_sheaf_streams=use_sheaf_streams, dtype=dtype, seed=seed)

    def policy(self, model: Gr00tN1d6) -> Policy:
        """The model as a policy of this robot."""
        return Policy(model, self.processor)


def set_up(
    robot: Robot,
    base: Path | str | None = None,
    *,
    preset_name: str | None = None,
    views: Sequence[str] = (),
    svms: Mapping[str, Any] | None = None,
) -> Setup:
    """Processor and configuration of `robot` on `base`: a folder, a hub id, "shipped"; None for fresh weights.

    Dimensions, image sizes and tokenizer are the base's, or those of the preset; `svms` changes fields of the SVMS
    configuration; `views` chooses cameras. Raises CheckpointError, ConfigError or DataError for what does not exist or
    fit, and for a robot that lacks keys which the base has under its tag.
    """
    folder = starting_point(str(base) if base is not None else NONE)
    chosen = preset_for(preset_name, folder)

    def described(horizon: int) -> tuple[EmbodimentConfig, Statistics]:
        return robot.described(horizon, views), robot.statistics

    changes = dict(svms or {})
    processor, config = processor_and_config(
        chosen, folder, robot.tag, described, changes, modality=robot.modality, views=tuple(views)
    )
    _check_keys(processor.config.embodiment, robot)
    return Setup(processor=processor, config=config, base=folder)


def _check_keys(wanted: EmbodimentConfig, robot: Robot) -> None:
    """The robot has every key that its processor reads and writes."""
    for kind in ("state", "action", "video"):
        there = getattr(robot.modality, kind)
        if missing := [key for key in getattr(wanted, kind).modality_keys if key not in there]:
            got = f"{kind} {', '.join(there) or 'none'}"
            want = f"{', '.join(missing)} too, which the base has for {robot.tag}"
            raise ConfigError("robot", got=got, want=want, hint="Name them in its modality, or take tag new_embodiment")
