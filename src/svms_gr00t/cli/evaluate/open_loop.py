"""`svms-gr00t evaluate open-loop`: recorded episodes, no simulator."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svms_gr00t.cli.console import Bars, console, tell_skipped
from svms_gr00t.cli.evaluate.placement import Placement
from svms_gr00t.cli.evaluate.rollout import policy_folder
from svms_gr00t.cli.shown.page import Paged
from svms_gr00t.cli.shown.sheet import Cell, Sheet, chance, effect, num, span

if TYPE_CHECKING:
    from svms_gr00t.data.lerobot.dataset import LeRobotDataset
    from svms_gr00t.data.loading.split import Split
    from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
    from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig
    from svms_gr00t.policy import Policy
    from svms_gr00t.recipes.training.held_out import HeldOut

HALF_RADIANS = {"robocasa_panda_omron": 0.5}
"""Radians for one unit of axis-angle actions, by robot, where it is not 1."""
SHOWN_STEPS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class OpenLoop(Placement, Paged):
    """Denoised action error on held-out episodes, by key and horizon step, beside three naive baselines."""

    model_path: Path
    """A checkpoint or run folder."""
    dataset_path: Path
    """A LeRobot dataset with modality.json."""
    embodiment_tag: str | None = None
    """Needed only when the checkpoint knows several robots."""
    seed: int = 0
    """Chooses the noise, and the held-out episodes where no run says which they are."""
    validation: float = 0.15
    """Their share, in the same case."""
    stride: int = 8
    """Every so many steps is looked at."""
    language_tests: bool = False
    """Also with empty, swapped and paraphrased instructions: does the policy listen, and to the meaning?"""
    radians: float | None = None
    """Radians for one unit of axis-angle actions; by default 0.5 for RoboCasa's robot, else 1."""
    plots: int = 0
    """Held-out episodes whose recorded and predicted actions are drawn, as SVG in --plot-dir."""
    plot_dir: Path = Path("outputs/trajectories")
    """Where plots go."""
    output: Path | None = None
    """Write the result as JSON here; language tests go beside it."""

    def run(self) -> int:
        """Print the tables."""
        from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig
        from svms_gr00t.evaluate.report.pages import open_loop_page
        from svms_gr00t.recipes.training.held_out import held_out

        self.place()  # before the data take their time
        found = held_out(
            self.model_path, self.dataset_path, seed=self.seed, validation=self.validation, progress=Bars()
        )
        tell(found)
        dataset, split = found.dataset, found.split
        policy = self.load(policy_folder(self.model_path), embodiment_tag=self.embodiment_tag)
        tag, horizon = policy.processor.config.embodiment_tag, policy.processor.codec.horizon
        config = OpenLoopConfig(
            horizon=horizon,
            executed=min(8, horizon),
            stride=self.stride,
            seed=self.seed,
            batch_size=32,
            radians=self.radians or HALF_RADIANS.get(tag, 1.0),
        )
        result = self._score(policy, dataset, split, config)
        _print_methods(result, len(split.validation))
        _print_keys(result)
        _print_horizon(result)
        if self.language_tests:
            self._listen(policy, dataset, split, config, result)
        if self.plots:
            self._draw(policy, dataset, split, config)
        if self.output is not None:
            console.print(f"written to {result.save(self.output)}", soft_wrap=True)
        self.write_page("evaluate open-loop", lambda: open_loop_page(result))
        return 0

    def _score(
        self, policy: "Policy", dataset: "LeRobotDataset", split: "Split", config: "OpenLoopConfig"
    ) -> "OpenLoopResult":
        from svms_gr00t.evaluate.open_loop.scoring import evaluate_open_loop

        return evaluate_open_loop(
            policy,
            dataset,
            split.validation,
            statistics=policy.processor.statistics[policy.processor.config.embodiment_tag],
            train_episodes=split.train if config.language == "recorded" else (),
            config=config,
            name=self.model_path.name,
            progress=Bars(),
        )

    def _listen(
        self, policy: Any, dataset: Any, split: "Split", config: "OpenLoopConfig", result: "OpenLoopResult"
    ) -> None:
        from svms_gr00t.evaluate.statistics.stats import compare_paired
        from svms_gr00t.recipes.training.held_out_wording import kitchen_paraphrases

        words = kitchen_paraphrases(set(dataset.tasks.values()))
        table = Sheet("instruction", "MSE", "against recorded", "95 %", "p", title="Language tests, paired by episode")
        table.add_row("recorded", num(result.scores.mse))
        for language in ("paraphrased", "empty", "swapped"):
            if language == "swapped" and len(set(dataset.tasks.values())) < 2:
                continue
            asked = replace(config, language=language, paraphrases=words)
            found = self._score(policy, dataset, split, asked)
            paired = compare_paired(result.scores.metric("mse"), found.scores.metric("mse"))
            table.add_row(language, num(found.scores.mse), *effect(paired.relative, " %"), chance(paired.p))
            if self.output is not None:
                found.save(self.output.with_stem(f"{self.output.stem}_{language}"))
        table.show()

    def _draw(self, policy: Any, dataset: Any, split: "Split", config: "OpenLoopConfig") -> None:
        from svms_gr00t.core.files.records import write_text
        from svms_gr00t.evaluate.open_loop.scoring import action_specs
        from svms_gr00t.evaluate.open_loop.trajectories import draw, trace

        statistics = policy.processor.statistics[policy.processor.config.embodiment_tag]
        specs = action_specs(dataset, statistics, config)
        for episode in split.validation[: self.plots]:
            drawn = draw(trace(policy, dataset, episode, statistics=statistics, config=config), specs)
            path = write_text(self.plot_dir / f"episode_{episode:06d}.svg", drawn)
            console.print(f"drawn: {path}", soft_wrap=True)


def tell(found: "HeldOut") -> None:
    """Say which episodes are judged on, and which were left out."""
    console.print(found.says, style=None if found.known else "yellow")
    tell_skipped(found.skipped)


def _print_methods(result: "OpenLoopResult", episodes: int) -> None:
    title = f"{episodes} held-out episodes, normalised action error"
    table = Sheet("method", "MSE", "95 %", "L1", f"first {result.executed}", "first step", "flow loss", title=title)
    for name, method in result.methods.items():
        ends = method.mse_interval
        interval = span(None, None) if ends is None else span(ends.low, ends.high)
        numbers = (method.mae, method.executed_mse, method.first_mse, method.flow_loss)
        table.add_row(name, num(method.mse), interval, *map(num, numbers))
    table.show()


def _print_keys(result: "OpenLoopResult") -> None:
    head = ("action key", "kind", "MSE", "L1, own unit", "first step", "right side", "angle")
    table = Sheet(*head, title=f"{result.policy} by action key")
    for key, one in result.scores.keys.items():
        mse = Cell(None, "constant") if one.mse is None else num(one.mse)
        rest = (num(one.accuracy, ".1%"), num(one.angle, ".4f", " rad"))
        table.add_row(key, one.kind, mse, num(one.physical), num(one.first_physical), *rest)
    table.show()


def _print_horizon(result: "OpenLoopResult") -> None:
    steps = [step for step in SHOWN_STEPS if step <= result.horizon]
    table = Sheet("method", *(f"step {step}" for step in steps), title="MSE by step of the chunk")
    for name, method in result.methods.items():
        values = [method.by_step[step - 1] for step in steps]
        table.add_row(name, *map(num, values))
    table.show()
