"""Everything that decides a training run, as one value that reads and writes YAML."""

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.files.documents import filled, named, read_yaml
from svms_gr00t.core.svms_config import SvmsConfig
from svms_gr00t.data.loading.mixture import ALPHA, Part, soup
from svms_gr00t.recipes.shipped import NONE, demonstrations
from svms_gr00t.recipes.training.budget import Budget
from svms_gr00t.recipes.training.presets import preset, preset_for
from svms_gr00t.train.loop.step import Precision
from svms_gr00t.train.optimizers.optimizer import OptimizerName
from svms_gr00t.train.phases import Phase

TINY = "tiny"
HINT = "See svms-gr00t train --help for the names"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run. A value given once holds for every phase, three values for one phase each; none takes the preset's."""

    dataset_path: str | tuple[str, ...]
    """LeRobot datasets, v2.0 to v3.0, with meta/modality.json; several are mixed: PATH[@N_demos][*WEIGHT]."""
    soup: str | None = None
    """RoboCasa's soup of that name, under the one folder of dataset_path."""
    mixture_alpha: float = ALPHA
    """Without weights a dataset counts as (number of its steps) ** alpha."""
    base_model_path: str | None = None
    """Checkpoint to start from, or "shipped"; fresh weights without one."""
    preset: str | None = None
    """tiny, or n1d6 for the released size; by default the base's, and tiny without one."""
    embodiment_tag: str | None = None
    """Robot; by default read from the dataset."""
    views: tuple[str, ...] = ()
    """Cameras by their modality.json names; empty takes all."""
    modality_config_path: str | None = None
    """YAML of what the robot sees and does (N1.6's modality config), instead of all keys of modality.json."""
    color_jitter_params: dict[str, float] = field(default_factory=dict)
    """Half-widths of brightness, contrast, saturation and hue; those not named stay off. Empty takes the base's."""
    random_rotation_angle: float | None = None
    """Largest rotation of training pictures, degrees; by default the base's."""
    min_max_embedding_keys: tuple[str, ...] = ()
    """With a base that normalises by percentiles: keys ("action.base_motion") that keep minimum and maximum."""
    use_sheaf_streams: bool = True
    """Off trains plain GR00T N1.6 on the same batches."""
    phases: tuple[int, ...] = (1, 2, 3)
    """Which of the three, in order."""
    max_steps: tuple[int, ...] = ()
    """Optimiser steps of the phases."""
    learning_rate: tuple[float, ...] = ()
    """Peak learning rates of the phases."""
    svms_rate: float = 1.0
    """SVMS learns at so many times these rates."""
    global_batch_size: tuple[int, ...] = ()
    """Samples of one optimiser step, over all processes and micro-batches."""
    gradient_accumulation_steps: int = 1
    """Micro-batches that one process cuts its part of a batch into."""
    gradient_checkpointing: bool = False
    """Compute blocks again in the backward pass: less memory, more time."""
    lexicon: str | None = None
    """TOML of word labels, for any streams and any language; by default English kitchen words."""
    lambda_aux: float | None = None
    """Weight of the auxiliary loss in every phase; by default each phase has its own."""
    svms: dict[str, Any] = field(default_factory=dict)
    """Other fields of the SVMS configuration, such as lambda_sheaf_max."""
    hand_position: tuple[str, ...] = ()
    """States that are the hand's position, for grounded targets; empty finds them by name."""
    hand_gripper: str | None = None
    """State that is its gripper."""
    tune_vision_projector: bool = False
    """Phase 3 trains the projector between vision tower and language model too."""
    optimizer: OptimizerName = "adamw"
    precision: Precision | None = None
    """By default the preset's: fp32 for tiny, bf16 for n1d6."""
    ema: float = 0.0
    feature_cache: str | None = None
    """Folder of `data cache build`: training reads hidden states there instead of pictures. With memory it need not be
    built: it grows as training goes, in RUN/features by default; "off" reads pictures, the past ones too."""
    feature_copies: int = 2
    """Augmented copies of an episode in a cache that grows."""
    deciding_share: float = 0.5
    """With memory: share of every batch from steps right before a change of intent, where the past decides."""
    dataloader_num_workers: int | None = None
    """Processes of each rank that make batches ahead; the batches are the same. By default as many as fit data and
    device; a run may go on with another number."""
    seed: int = 0
    """Chooses the held-out episodes, the weights and every random number."""
    validation: float = 0.15
    """Share of held-out episodes."""
    eval_steps: int | None = None
    """Steps between measures on held-out episodes; by default an eighth of each phase, 0: at its end."""
    save_steps: int | None = None
    """Steps between checkpoints; by default the preset's: 100 for tiny, 1,000 for n1d6."""
    save_total_limit: int = 2
    save_moments: bool = True
    """Off leaves the optimiser's moments out of checkpoints, and a resumed run starts them anew."""

    def __post_init__(self) -> None:
        if isinstance(self.dataset_path, str):
            object.__setattr__(self, "dataset_path", (self.dataset_path,))
        if self.soup is not None and len(self.dataset_path) != 1:
            want, hint = "the one folder that holds the soup", "Name soup or datasets, not both"
            raise ConfigError("dataset_path", got=self.dataset_path, want=want, hint=hint)
        if self.phases not in ((1,), (2,), (3,), (1, 2), (2, 3), (1, 2, 3)):
            want = "1, 2, 3 or neighbours in this order"
            raise ConfigError("phases", got=self.phases, want=want, hint="Leave it out for all")
        known = {f.name for f in fields(SvmsConfig)}
        if unknown := sorted(self.svms.keys() - known):
            raise ConfigError("svms", got=unknown, want=f"fields among {', '.join(sorted(known))}", hint=HINT)
        if not self.svms_rate > 0:
            raise ConfigError("svms_rate", got=self.svms_rate, want="above 0", hint="1 learns as fast as the rest")
        if self.save_steps is not None and self.save_steps < 1:
            hint = "Leave it out for the preset's; the end of a phase is always saved"
            raise ConfigError("save_steps", got=self.save_steps, want="1 or more", hint=hint)
        if self.base_model_path == NONE:
            object.__setattr__(self, "base_model_path", None)
        if self.preset is None and self.base_model_path is None:
            object.__setattr__(self, "preset", TINY)
        self._budget(self.preset or TINY)  # refuses what it cannot read

    def parts(self) -> tuple[Part, ...]:
        """The datasets to train on. Raises ConfigError or DataError for what cannot be read."""
        if self.soup is not None:
            return soup(Path(self.dataset_path[0]), self.soup)
        return tuple(_shipped(Part.parse(text)) for text in self.dataset_path)

    def settled(self, base: Path | None) -> "TrainConfig":
        """With the preset of the base where none was given. Raises ConfigError for one that contradicts it."""
        chosen = preset_for(self.preset, base)
        return replace(self, preset=chosen.name, save_steps=self.save_steps or chosen.save_steps)

    def budget(self) -> Budget:
        """The preset's, with this run's steps, rates and batch sizes. Raises ConfigError before it is `settled`."""
        if self.preset is None:
            hint = "Settle the configuration on its base first; a run's config.yaml names what it settled on"
            raise ConfigError("preset", got=None, want="a preset by name", hint=hint)
        return self._budget(self.preset)

    def _budget(self, name: str) -> Budget:
        return preset(name).budget.changed(
            steps=self.max_steps,
            learning_rates=self.learning_rate,
            batch_sizes=self.global_batch_size,
            svms_rate=self.svms_rate,
        )

    def phase_values(self) -> tuple[Phase, ...]:
        """All three phases of this run."""
        found = self.budget().phases()
        if self.tune_vision_projector:
            found = tuple(replace(phase, vision_projector=phase.projectors) for phase in found)
        return found if self.lambda_aux is None else tuple(replace(phase, lambda_aux=None) for phase in found)

    def svms_fields(self) -> dict[str, Any]:
        """What this run changes in the SVMS configuration; a tiny run scales the schedules to its few steps."""
        short = self.budget().short_schedules() if self.preset == TINY else {}
        aux = {} if self.lambda_aux is None else {"lambda_aux": self.lambda_aux}
        return short | aux | {k: tuple(v) if isinstance(v, list) else v for k, v in self.svms.items()}

    def dumps(self) -> str:
        """The text of `config.yaml`."""
        return yaml.safe_dump(_lists(asdict(self)), sort_keys=False)

    @classmethod
    def load(cls, file: Path | str) -> "TrainConfig":
        """Read what `dumps` writes. Raises DataError or ConfigError, which name file and setting."""
        path = Path(file)
        values = read_yaml(path, want="a YAML mapping of settings", hint="A run folder has config.yaml")
        if unknown := [name for name in values if name not in {f.name for f in fields(cls)}]:
            raise ConfigError(str(path), got=unknown, want="settings of a training run", hint=HINT)
        with named(path, want="settings of a training run", hint=HINT):
            found: TrainConfig = filled(cls, values, path, hint=HINT)
            kinds = get_type_hints(SvmsConfig)
            svms = {name: filled(kinds[name], v, f"{path}, svms.{name}", hint=HINT) for name, v in found.svms.items()}
            return replace(found, svms=svms)

    def differences(self, other: "TrainConfig") -> list[str]:
        """Names of settings that differ and make another run."""
        free = ("phases", "dataloader_num_workers", "eval_steps")
        return [f.name for f in fields(self) if f.name not in free and getattr(self, f.name) != getattr(other, f.name)]


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(one) for key, one in value.items()}
    return [_lists(one) for one in value] if isinstance(value, tuple) else value


def _shipped(part: Part) -> Part:
    """The word `shipped` is the demonstrations that come with the package."""
    return replace(part, path=demonstrations(str(part.path)))
