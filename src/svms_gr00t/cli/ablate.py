"""`svms-gr00t ablate`: what each part of SVMS is worth, on several seeds."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from svms_gr00t.cli.console import Bars, console
from svms_gr00t.cli.evaluate.placement import Placement
from svms_gr00t.cli.shown.sheet import Sheet, Tables, chance, effect, num
from svms_gr00t.core.errors import ConfigError

SINGLE = ("max_steps", "learning_rate", "svms_rate", "global_batch_size")
"""Flags of --suite single alone."""


@dataclass(frozen=True, kw_only=True)
class Ablate(Placement, Tables):
    """Train plain N1.6, an adapter of equal size, SVMS and SVMS without each of its parts, alike; compare them.

    With --suite memory: what memory is worth on tasks that need it, beside the controls that would explain it away.
    Interrupt it at any time: the same command goes on where it stopped. More seeds or variants may be added later.
    """

    dtype: Literal["bfloat16", "float32"] | None = None
    """Number type in which frozen weights are kept, by default float32 for a tiny base and bfloat16 for N1.6's size;
    what trains is float32 all the same."""
    suite: Literal["single", "memory"] = "single"
    """single: the shipped demonstrations. memory: tasks in which the past decides; the experts show them first."""
    recipe: Literal["tiny", "smoke"] = "tiny"
    """tiny: the shipped base and demonstrations. smoke: a few steps, to see that everything runs."""
    output_dir: Path = Path("runs/ablation")
    """Where runs, table and figure go."""
    seeds: int = 5
    """Seeds 0, 1, ...; each splits the data and trains every variant anew."""
    variants: tuple[str, ...] = ()
    """Rows of the table; empty takes all of the suite. --suite single also knows: fast, no_dropout, wide, image_labels,
    plain_together, adapter_together, full_together."""
    dataset_path: str | None = None
    """Other demonstrations than the recipe's."""
    base_model_path: str | None = None
    """Another starting checkpoint than the recipe's, or "none" for fresh weights."""
    max_steps: tuple[int, int, int] | None = None
    """Steps of the three phases, instead of the recipe's."""
    learning_rate: tuple[float, float, float] | None = None
    """Peak learning rates of the three phases, instead of the recipe's."""
    svms_rate: float | None = None
    """SVMS, or the adapter in its place, learns at so many times the learning rate of the rest."""
    global_batch_size: int | None = None
    """Samples of one optimiser step, instead of the recipe's."""
    rollouts: int | None = None
    """Closed-loop episodes for each task and run; 0 does without the simulator. By default 0, and 40 with memory."""
    rates: tuple[float, ...] = ()
    """--suite memory: learning rates of which each side takes its best, chosen on seeds that are not reported."""
    driven_seeds: int | None = None
    """--suite memory: so many of the seeds are driven too; 5 by default."""
    tasks: tuple[str, ...] = ()
    """Kitchen tasks of the closed loop; empty drives all."""
    workers: int = 2
    """Processes of one thread each; results do not depend on their number."""
    backend: Literal["processes", "ray"] = "processes"
    """ray: spread the runs over the machines of RAY_ADDRESS, which must share --output-dir."""

    def run(self) -> int:
        """Run, and print the table."""
        if self.seeds < 1:
            raise ConfigError("--seeds", got=self.seeds, want="at least 1", hint="5 give an interval")
        return self._memory() if self.suite == "memory" else self._single()

    def _memory(self) -> int:
        from svms_gr00t.recipes.memory_study.arms import ARMS
        from svms_gr00t.recipes.memory_study.study import RECIPES, run_study

        if given := [name for name in SINGLE if getattr(self, name) is not None]:
            flags = ", ".join("--" + name.replace("_", "-") for name in given)
            raise ConfigError(flags, got="--suite memory", want="--suite single", hint="The study has its own budget")
        names = ("dataset_path", "rollouts", "rates", "driven_seeds", "tasks")
        given_too = {name: getattr(self, name) for name in names} | {"base": self.base_model_path}
        changes = {name: value for name, value in given_too.items() if value not in (None, ())} | self.place()
        result = run_study(
            replace(RECIPES[self.recipe], **changes),
            self.output_dir,
            seeds=range(self.seeds),
            arms=self.variants or tuple(ARMS),
            workers=self.workers,
            progress=Bars(),
        )
        table = Sheet("side", "error", "against plain", "success", title=f"{self.seeds} seed(s)")
        for row in result.rows:
            gain = effect(row.against_plain.relative if row.against_plain else None, " %")[0]
            success = num(None if row.success is None else row.success.estimate, ".0%")
            table.add_row(row.says, num(row.error), gain, success)
        table.show()
        console.print(f"Table: {self.output_dir / 'study.md'}", highlight=False, soft_wrap=True)
        return 0

    def _single(self) -> int:
        from svms_gr00t.recipes.ablation.study import RECIPES, ablate
        from svms_gr00t.recipes.ablation.variants import VARIANTS

        given: dict[str, Any] = {
            "dataset_path": self.dataset_path,
            "base": self.base_model_path,
            "steps": self.max_steps,
            "learning_rates": self.learning_rate,
            "svms_rate": self.svms_rate,
            "batch_size": self.global_batch_size,
            "rollouts": self.rollouts or 0,
            "tasks": self.tasks,
            **self.place(),
        }
        config = replace(RECIPES[self.recipe], **{k: v for k, v in given.items() if v is not None})
        result = ablate(
            config,
            self.output_dir,
            seeds=range(self.seeds),
            variants=self.variants or tuple(VARIANTS),
            workers=self.workers,
            backend=self.backend,
            progress=Bars(),
        )
        table = Sheet("variant", "error", "against plain", "95 %", "p", title=f"{self.seeds} seed(s)")
        for row in result.rows:
            found = row.against_plain
            cells = (*effect(found.relative, " %"), chance(found.p)) if found is not None else ()
            table.add_row(row.says, num(row.error), *cells)
        table.show()
        console.print(f"Table and figure: {self.output_dir / 'ablation.md'}", highlight=False, soft_wrap=True)
        return 0
