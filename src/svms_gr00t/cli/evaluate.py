"""`svms-gr00t evaluate`: open loop on recorded episodes, closed loop in the simulator."""

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from svms_gr00t.cli.console import Bars, console
from svms_gr00t.core.errors import CheckpointError


def policy_folder(path: Path) -> Path:
    """A checkpoint folder, or the policy inside a run folder. Raises CheckpointError for neither."""
    for folder in (path, path / "policy"):
        if (folder / "config.json").is_file():
            return folder
    hint = "Pass a folder that `svms-gr00t train` wrote"
    raise CheckpointError(path, got="no config.json", want="a checkpoint or run folder", hint=hint)


@dataclass(frozen=True, kw_only=True)
class OpenLoop:
    """Denoised action error on held-out episodes, beside three naive baselines; no simulator needed."""

    checkpoint: Path
    """A checkpoint or run folder."""
    dataset_path: Path
    """A LeRobot dataset with modality.json."""
    embodiment_tag: str | None = None
    """Needed only when the checkpoint knows several robots."""
    seed: int = 0
    """Chooses the held-out episodes as training did, and the noise."""
    validation: float = 0.15
    """Share of held-out episodes; use the training run's."""
    stride: int = 8
    """Every so many steps is looked at."""
    output: Path | None = None
    """Write the result as JSON here."""

    def run(self) -> int:
        """Print one row for the policy and one for each baseline."""
        from svms_gr00t.data.lerobot import LeRobotDataset
        from svms_gr00t.data.split import split_episodes
        from svms_gr00t.evaluate.open_loop import OpenLoopConfig, evaluate_open_loop
        from svms_gr00t.policy import Policy

        dataset = LeRobotDataset.open(self.dataset_path)
        policy = Policy.from_pretrained(policy_folder(self.checkpoint), embodiment_tag=self.embodiment_tag)
        split = split_episodes(dataset.episodes, validation=self.validation, seed=self.seed)
        tag = policy.processor.config.embodiment_tag
        result = evaluate_open_loop(
            policy,
            dataset,
            split.validation,
            statistics=policy.processor.statistics[tag],
            train_episodes=split.train,
            config=OpenLoopConfig(stride=self.stride, seed=self.seed, batch_size=32),
            name=self.checkpoint.name,
            progress=Bars(),
        )
        title = f"{len(split.validation)} held-out episodes, normalised action error"
        table = Table("method", "MSE", "95 %", "first step", "flow loss", title=title)
        for name, method in result.methods.items():
            span = method.mse_interval
            interval = "" if span is None else f"[{span.low:.4f}, {span.high:.4f}]"
            flow = "" if method.flow_loss is None else f"{method.flow_loss:.4f}"
            table.add_row(name, f"{method.mse:.4f}", interval.replace("[", r"\["), f"{method.first_mse:.4f}", flow)
        console.print(table)
        if self.output is not None:
            console.print(f"written to {result.save(self.output)}")
        return 0


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """Drive the embedded kitchen and count successes, with Wilson intervals."""

    checkpoint: Path
    """A checkpoint or run folder."""
    episodes: int = 10
    """Episodes for each task."""
    tasks: tuple[str, ...] = ()
    """Task names; empty takes all."""
    seed: int = 0
    """First part of every episode's seed."""
    split: str = "train"
    """train, or paraphrase for wordings that no demonstration has."""
    n_action_steps: int = 8
    """Steps of a chunk that are executed before the policy is asked again."""
    workers: int = 2
    """Processes; the result does not depend on their number."""
    output: Path | None = None
    """Write the result as JSON here."""

    def run(self) -> int:
        """Print success for each task."""
        from svms_gr00t.recipes.closed_loop import drive_kitchen

        result = drive_kitchen(
            policy_folder(self.checkpoint),
            name=self.checkpoint.name,
            tasks=self.tasks,
            episodes=self.episodes,
            seed=self.seed,
            split=self.split,
            n_action_steps=self.n_action_steps,
            workers=self.workers,
            progress=Bars(),
        )
        table = Table("task", "success", "95 %", title=f"{self.episodes} episodes a task, seed {self.seed}")
        for name, task in (*result.tasks.items(), ("all", result.overall)):
            span = "" if task.rate is None else f"{task.rate.low:.0%} to {task.rate.high:.0%}"
            table.add_row(name, f"{task.successes}/{task.episodes}", span)
        console.print(table)
        if self.output is not None:
            console.print(f"written to {result.save(self.output)}")
        return 0
