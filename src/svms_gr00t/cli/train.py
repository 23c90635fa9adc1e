"""`svms-gr00t train`: one phase, or the three in turn, on any LeRobot dataset with a modality.json."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from svms_gr00t.cli.console import Bars, console
from svms_gr00t.cli.flags import at_home
from svms_gr00t.cli.line.spelling import PresetName
from svms_gr00t.core.errors import ConfigError

if TYPE_CHECKING:
    from svms_gr00t.recipes.training.config import TrainConfig

SVMS_FLAGS = (
    *("lambda_sheaf_max", "lambda_sheaf_min", "sheaf_schedule_mode", "sheaf_delay_until_diffusion"),
    "grounded_targets",
)


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train SVMS (or, with --no-use-sheaf-streams, the plain model) and save a policy.

    All three phases run in turn, or those that --phase names; the same command again goes on where it stopped. A number
    given once holds for every phase, three numbers for one phase each. Start it with `accelerate launch` for many GPUs.
    """

    dataset_path: tuple[str, ...] = ()
    """LeRobot dataset, v2.0 to v3.0, with meta/modality.json; several of one robot mix as PATH[@N_demos][*WEIGHT]."""
    soup: str | None = None
    """RoboCasa's soup of that name, under the one folder of --dataset-path."""
    mixture_alpha: float = 0.4
    """Without weights a dataset of a mixture counts as (number of its steps) ** alpha."""
    output_dir: Path = Path("runs/train")
    """Run folder."""
    config: Path | None = None
    """YAML settings, such as RUN/config.yaml of another run; flags override them."""
    phase: tuple[int, ...] = (1, 2, 3)
    """1 specialise, 2 couple, 3 end to end."""
    all_phases: bool = False
    """The three in turn, whatever --phase or the configuration file says."""
    base_model_path: str | None = None
    """Checkpoint folder or hub id to start from, or "shipped"; fresh weights without one."""
    preset: PresetName | None = None
    """Model size: tiny or n1d6; by default the base's, and tiny without one."""
    embodiment_tag: str | None = None
    """Robot; by default read from the dataset."""
    views: tuple[str, ...] = ()
    """Cameras by their modality.json names; empty takes all."""
    modality_config_path: str | None = None
    """YAML of what the robot sees and does, instead of all keys of modality.json. An Isaac-GR00T Python file that
    registers one is read as data, never run."""
    color_jitter_params: dict[str, float] = field(default_factory=dict)
    """Half-widths of the training draw: brightness 0.3 contrast 0.4 saturation 0.5 hue 0.08. Those not named stay off;
    by default the base's."""
    random_rotation_angle: float | None = None
    """Largest rotation of training pictures, degrees; by default the base's."""
    min_max_embedding_keys: tuple[str, ...] = ()
    """With a base that normalises by percentiles: keys (action.base_motion) that keep minimum and maximum, so that rare
    commands are not cut off."""
    use_sheaf_streams: bool = True
    """Off trains plain GR00T N1.6 on the same batches."""
    max_steps: tuple[int, ...] = ()
    """Optimiser steps of the phases; empty takes the preset's."""
    learning_rate: tuple[float, ...] = ()
    """Peak learning rates of the phases; empty takes the preset's."""
    svms_rate: float = 1.0
    """SVMS learns at so many times these rates: it is fresh, the rest is not."""
    global_batch_size: tuple[int, ...] = ()
    """Samples of one optimiser step, over all processes and micro-batches; empty takes the preset's."""
    gradient_accumulation_steps: int = 1
    """Micro-batches that a process cuts its part of a batch into."""
    gradient_checkpointing: bool = False
    """Compute blocks again in the backward pass: less memory, more time."""
    lexicon: str | None = None
    """TOML of word labels: any streams, any language; by default English kitchen words. docs/labels.md."""
    lambda_aux: float | None = None
    """Weight of the label loss in every phase; by default 0.5, 0.2, 0.05."""
    lambda_sheaf_max: float | None = None
    """Sheaf loss weight once fully on."""
    lambda_sheaf_min: float | None = None
    """Sheaf loss weight before that."""
    sheaf_schedule_mode: Literal["adaptive", "linear", "constant", "off"] | None = None
    """When the sheaf loss comes on; adaptive leaves it to the phase."""
    sheaf_delay_until_diffusion: float | None = None
    """Smoothed flow loss below which the adaptive sheaf loss rises."""
    grounded_targets: tuple[Literal["where", "when", "how"], ...] = ()
    """What the pictures must tell of the hand's recorded motion, beside the token labels; docs/labels.md."""
    hand_position: tuple[str, ...] = ()
    """States that are the hand's position; by default found by name."""
    hand_gripper: str | None = None
    """State that is its gripper; by default found by name."""
    tune_vision_projector: bool = False
    """Phase 3 trains the projector between vision tower and language model too, so that targets reach the pictures."""
    optimizer: Literal["adamw", "adamw8bit", "adamw-sr", "adamw8bit-sr"] = "adamw"
    """-sr: bf16 weights with stochastic rounding; 8bit: moments in 8 bits (torchao)."""
    precision: Literal["fp32", "bf16"] | None = None
    """Of the forward pass; by default fp32 for the tiny size and bf16 for the released one."""
    ema: float = 0.0
    """Decay of a moving average that replaces the weights at the end of a phase; 0: none."""
    memory_frames: int | None = None
    """Earlier frames that the model remembers; 12 is a start, 0 switches a base's memory off. By default the base's."""
    memory_stride: int = 8
    """Frames between two of them: the steps that the robot executes of a chunk."""
    memory_only: bool = False
    """Memory alone on plain features, without streams and sheaf."""
    feature_cache: str | None = None
    """Folder of `data cache build`: training reads hidden states there instead of pictures. With memory it need not be
    built: it grows as training goes, in OUTPUT_DIR/features by default; "off" reads pictures, the past ones too."""
    feature_copies: int = 2
    """Augmented copies of an episode in a cache that grows."""
    deciding_share: float = 0.5
    """With memory: share of every batch from steps right before a change of intent, where the past decides."""
    dataloader_num_workers: int | None = None
    """Processes of each rank that make batches ahead; the batches are the same. By default up to 4, and none on a CPU,
    for few steps or on one core."""
    seed: int = 0
    """Chooses the held-out episodes, the weights and every random number."""
    validation: float = 0.15
    """Share of held-out episodes."""
    eval_steps: int | None = None
    """Steps between measures on held-out episodes (flow, error, rho, accuracy); by default an eighth of each phase, 0:
    at its end."""
    save_steps: int | None = None
    """Steps between checkpoints; by default 100 for the tiny size and 1,000 for the released one."""
    save_total_limit: int = 2
    """Newest checkpoints that stay."""
    save_moments: bool = True
    """Off leaves the optimiser's moments out of checkpoints (a third of the size); a resumed run starts them anew."""
    resume: str = "auto"
    """auto goes on where --output-dir stopped; never refuses a used folder; a folder goes on there."""
    accept_changes: str = ""
    """data, code or data,code: go on although they are not those that the run began with, and write it down."""
    tracker: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Besides metrics.jsonl, which is always written; their files are in the run folder, and a resumed run goes on."""
    tracker_project: str | None = None
    """W&B's and trackio's project; by default WANDB_PROJECT, then svms-gr00t."""
    tracker_name: str | None = None
    """What the run is called there; by default the name of its folder."""

    def run(self) -> int:
        """Train, say what the gates say and where the policy is."""
        from svms_gr00t.recipes.training.passport import parse_changes
        from svms_gr00t.recipes.training.run import run_training
        from svms_gr00t.train.loop.trackers import Tracking

        output = self.output_dir if self.resume in ("auto", "never") else Path(self.resume)
        mode: Literal["auto", "never"] = "never" if self.resume == "never" else "auto"
        accept = parse_changes(self.accept_changes)
        tracking = Tracking(names=self.tracker, project=self.tracker_project, name=self.tracker_name)
        trained = run_training(self.settings(), output, resume=mode, accept=accept, tracking=tracking, progress=Bars())
        for gate in trained.gates:
            verdict = {True: "pass", False: "FAIL", None: "not measured"}[gate.passed]
            advice = "" if gate.passed else f" ({gate.advice})"
            found = "" if gate.measured is None else f" {gate.measured}:"
            text = f"{gate.phase}: {gate.criterion}:{found} {verdict}{advice}"
            console.print(text, soft_wrap=True)
        console.print(f"Policy: {output / 'policy'}", soft_wrap=True)
        return 0

    def settings(self) -> "TrainConfig":
        """What decides the run. Raises ConfigError without a dataset."""
        from svms_gr00t.recipes.training.config import TrainConfig

        if not self.dataset_path:
            hint = "Pass --dataset-path, or --config RUN/config.yaml"
            raise ConfigError("--dataset-path", got="none", want="a LeRobot dataset", hint=hint)
        names = {f.name for f in fields(TrainConfig)} & {f.name for f in fields(self)}
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        values["phases"] = (1, 2, 3) if self.all_phases else self.phase
        extra = self.stored().svms if self.config is not None else {}
        given = {name: getattr(self, name) for name in SVMS_FLAGS if getattr(self, name) not in (None, ())}
        if self.memory_frames is not None:
            offsets = tuple(-self.memory_stride * k for k in range(self.memory_frames, 0, -1))
            given |= {"memory_offsets": offsets, "memory_only": self.memory_only}
        return TrainConfig(**values, svms=extra | given)

    def stored(self) -> "TrainConfig":
        """The settings in the --config file."""
        from svms_gr00t.recipes.training.config import TrainConfig

        assert self.config is not None
        return TrainConfig.load(self.config)

    @classmethod
    def defaults(cls, args: Sequence[str]) -> "Train":
        """What flags override: the settings of the --config file among `args`, else the class's own.

        Raises ConfigError for a broken file.
        """
        file = _value_of("--config", args)
        if file is None:
            return cls()
        path = at_home(Path(file))
        stored = cls(config=path).stored()
        names = {f.name for f in fields(stored)} & {f.name for f in fields(cls)}
        flags = {name: stored.svms[name] for name in SVMS_FLAGS if name in stored.svms}
        return cls(**{name: getattr(stored, name) for name in names}, **flags, phase=stored.phases, config=path)


def _value_of(flag: str, args: Sequence[str]) -> str | None:
    """The value of a flag in either spelling, `--flag value` or `--flag=value`."""
    for at, arg in enumerate(args):
        if arg == flag and at + 1 < len(args):
            return args[at + 1]
        if arg.startswith(f"{flag}="):
            return arg.removeprefix(f"{flag}=")
    return None


def arguments(args: Sequence[str] | None) -> list[str]:
    """The command line."""
    return list(sys.argv[1:] if args is None else args)
