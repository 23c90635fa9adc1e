"""Everything that decides the numbers of the memory study."""

from dataclasses import dataclass, replace

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.recipes.shipped import SHIPPED
from svms_gr00t.recipes.training.budget import Budget
from svms_gr00t.train.phases import END_TO_END, Phase


@dataclass(frozen=True, kw_only=True)
class StudyConfig(JsonRecord):
    """Data, budget and memory, the same for every side."""

    dataset_path: str | None = None
    """Demonstrations of the memory suite; None records them."""
    demonstrations: int = 560
    """How many are recorded."""
    held_out: float = 0.1
    """Share of them that no side trains on: the same episodes for every seed."""
    base: str = SHIPPED
    """Plain checkpoint that everything starts from."""
    steps_before: int = 4000
    """Steps in which all of the plain model trains on the demonstrations, once for all sides and seeds; after them its
    backbone stays as it is."""
    rate_before: float = 1e-3
    steps: int = 1500
    """Steps of each side after that, by seed on the same batches and the same noise."""
    rates: tuple[float, ...] = (3e-4, 1e-3)
    """Learning rates of which each side takes its own best."""
    rate_seeds: tuple[int, ...] = (1000,)
    """Seeds on which the rate is chosen, by scenes won where some are driven, else by error; they are not reported."""
    fresh_rate: float = 3.0
    """What is new learns at so many times the rate."""
    batch_size: int = 32
    deciding_share: float = 0.5
    """Share of every batch from steps right before a change of intent."""
    memory_frames: int = 12
    stride: int = 8
    """Steps between two that are remembered, and steps that are executed of a chunk."""
    score_every: int = 2
    """Of the deciding steps every so many is scored, and as many others."""
    tasks: tuple[str, ...] = ()
    """Of the memory suite; empty takes all."""
    rollouts: int = 40
    """Closed-loop episodes for each task; 0 does without the simulator."""
    driven_seeds: int = 5
    """So many of the seeds are driven too."""
    scenes: int = 77
    """Seed of the scenes of training seed 0."""
    checkpoint_every: int = 300
    device: str = "cpu"
    dtype: str | None = None
    """Type in which weights are loaded; by default the preset's. What trains is float32 all the same."""

    def __post_init__(self) -> None:
        if not self.rates:
            raise ConfigError("rates", got=(), want="at least one", hint="Each side takes its best")

    @property
    def offsets(self) -> tuple[int, ...]:
        """Steps that memory keeps, before now."""
        return tuple(-self.stride * k for k in range(self.memory_frames, 0, -1))

    def scenes_of(self, seed: int) -> int:
        """Seed of the scenes in which every side of a training seed is driven; each training seed has its own."""
        return self.scenes + seed

    def before(self) -> Phase:
        """How the plain model learns the suite's scenes and motions, pictures and all."""
        return replace(
            self.after(self.rate_before), name="before", steps=self.steps_before, svms=False, everything=True
        )

    def after(self, rate: float) -> Phase:
        """How each side trains: action head and what is new, on a frozen backbone."""
        return replace(
            END_TO_END,
            name="after",
            llm_share=0.0,
            steps=self.steps,
            learning_rate=rate,
            batch_size=self.batch_size,
            svms_rate=self.fresh_rate,
        )

    def schedules(self) -> dict[str, object]:
        """Schedules of SVMS that fit so few steps."""
        return Budget(
            steps=(0, 0, self.steps), learning_rates=(0.0,) * 3, batch_sizes=(self.batch_size,) * 3
        ).short_schedules()
