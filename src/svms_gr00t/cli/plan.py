"""`svms-gr00t plan`: the memory of each phase before anything is loaded, and the cheapest switch that makes it fit."""

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from svms_gr00t.cli.console import console
from svms_gr00t.cli.line.spelling import PresetName
from svms_gr00t.cli.shown.sheet import Sheet, num

if TYPE_CHECKING:
    from svms_gr00t.groot.config import Gr00tN1d6Config
    from svms_gr00t.train.phases import Phase


@dataclass(frozen=True, kw_only=True)
class PlanMemory:
    """Print the estimated peak memory of each phase at the released size. Exit code 1 when a phase does not fit."""

    gpu_gb: float = 32.0
    """The card's memory as it is sold; a tenth of it is left to the driver and to other programs."""
    views: int = 3
    """Cameras."""
    global_batch_size: tuple[int, ...] = ()
    """Samples of a step: one number, or one for each phase; empty takes 16, 12, 8."""
    base_model_path: str = "none"
    """Checkpoint to plan for; without one, the released model."""
    preset: PresetName | None = None
    """As in svms-gr00t train: by default the base's. Only the released size, n1d6, has a plan."""
    optimizer: Literal["adamw", "adamw8bit", "adamw-sr", "adamw8bit-sr"] = "adamw"
    """As in svms-gr00t train."""
    gradient_accumulation_steps: int = 1
    """Micro-batches of a step."""
    gradient_checkpointing: bool = False
    """Compute blocks again in the backward pass."""
    cached: bool = False
    """Train from a feature cache of layer 12."""
    memory_frames: int = 0
    """Earlier frames that the model remembers."""
    use_sheaf_streams: bool = True
    """Off plans plain GR00T N1.6 (phase 1 then trains a quarter of the DiT)."""
    ema: bool = False
    """Keep a moving average of the weights, as --ema does in svms-gr00t train."""
    exact: bool = False
    """Simulate a step of each phase on the real modules without storage (seconds) instead of using the formula."""
    format: Literal["table", "json"] = "table"
    """How to print."""
    json: bool = False
    """The same as --format json."""

    def run(self) -> int:
        """Print the table."""
        from svms_gr00t.train.memory.planner import CONTEXT_GIB, FRAGMENTATION, Setup, cheapest, plan, usable
        from svms_gr00t.train.memory.simulate import exact_plan
        from svms_gr00t.train.phases import plain_counterpart

        (config, phases), room = self._planned(), usable(self.gpu_gb)
        columns = ("phase", "trains", "batch", "peak GiB", "checkpoint GiB", f"fits {room:.1f} GiB")
        table = Sheet(*columns, "cheapest switch that fits")
        rows, fits, planner = [], True, exact_plan if self.exact else plan
        for phase in phases:
            setup = Setup(
                batch_size=phase.batch_size,
                views=self.views,
                optimizer=self.optimizer,
                accumulation=self.gradient_accumulation_steps,
                checkpointing=self.gradient_checkpointing,
                cached=self.cached,
                ema=self.ema,
            )
            used = phase if self.use_sheaf_streams else plain_counterpart(phase)
            found, flags = planner(config, used, setup), cheapest(config, used, setup, room, planner=planner)
            fits &= flags == ""
            help_ = {"": "", None: "none: a smaller batch, or a feature cache"}.get(flags, flags)
            trains = num(found.trained / 1e6, ",.1f", " M")
            verdict = "yes" if flags == "" else "NO"
            sizes = (num(found.peak_gib, ".1f"), num(found.checkpoint_gib, ".1f"))
            table.add_row(phase.name, trains, setup.batch_size, *sizes, verdict, help_)
            rows.append(asdict(found) | {"fits": flags == "", "switch": flags})
        if self.json or self.format == "json":
            console.print_json(json.dumps(rows))
        else:
            table.show()
            said = f"{FRAGMENTATION - 1:.0%} for fragmentation and {CONTEXT_GIB} GiB for the CUDA context are assumed"
            text = (
                f"Estimated from simulated runs; not measured on a GPU: {said}. Saving takes nothing more of the card"
            )
            console.print(f"{text}; a checkpoint takes its size of the host while it is written.")
        return int(not fits)

    def _planned(self) -> "tuple[Gr00tN1d6Config, tuple[Phase, ...]]":
        """The model and the phases. Raises ConfigError for a preset that contradicts the base, and for batch sizes."""
        from svms_gr00t.data.processor.tokenizer import load_tokenizer
        from svms_gr00t.recipes.shipped import starting_point
        from svms_gr00t.recipes.training.experiment import continued
        from svms_gr00t.recipes.training.presets import preset_for

        base = starting_point(self.base_model_path)
        chosen = preset_for(self.preset or (None if base else "n1d6"), base)
        config = chosen.config(load_tokenizer("tiny"))
        config = replace(continued(base, config, {}) if base else config, use_sheaf_streams=self.use_sheaf_streams)
        if self.memory_frames:
            config = replace(config, memory_offsets=tuple(range(-self.memory_frames, 0)))
        return config, chosen.budget.changed(batch_sizes=self.global_batch_size).phases()
