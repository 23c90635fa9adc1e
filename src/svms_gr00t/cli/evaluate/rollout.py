"""`svms-gr00t evaluate rollout`: closed loop in the simulator. Open loop is in `open_loop.py`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from svms_gr00t.cli.console import Bars, console
from svms_gr00t.cli.evaluate.placement import Placement
from svms_gr00t.cli.shown.page import Paged
from svms_gr00t.cli.shown.sheet import Sheet, num, span
from svms_gr00t.core.errors import CheckpointError

if TYPE_CHECKING:
    from svms_gr00t.evaluate.closed_loop.result import RolloutResult
    from svms_gr00t.sheaf.graph import StreamGraph


def policy_folder(path: Path) -> Path:
    """A checkpoint folder, or the policy inside a run folder. Raises CheckpointError for neither."""
    for folder in (path, path / "policy"):
        if (folder / "config.json").is_file():
            return folder
    hint = "Pass a folder that `svms-gr00t train` wrote"
    raise CheckpointError(path, got="no config.json", want="a checkpoint or run folder", hint=hint)


@dataclass(frozen=True, kw_only=True)
class ClosedLoop(Placement, Paged):
    """Drive a simulator and count successes, with Wilson intervals.

    Before the embedded kitchen judges a policy, recorded demonstrations must still succeed in it.
    """

    model_path: Path
    """A checkpoint or run folder."""
    benchmark: Literal["kitchen", "robocasa365", "n1d6", "libero", "robomme"] = "kitchen"
    """The embedded kitchen, RoboCasa365, the 24 RoboCasa tasks of GR00T N1.6's own table, LIBERO-90's kitchens, or
    RoboMME's 16 memory tasks."""
    simulator: Path | None = None
    """robomme: the Python of its own environment, such as the one that scripts/set_up_robomme.sh makes."""
    episodes: int = 10
    """Episodes for each task."""
    suite: Literal["single", "memory"] = "single"
    """kitchen: the nine tasks that one frame decides, or those in which the past does."""
    tasks: tuple[str, ...] = ()
    """Task names; empty takes all, in the kitchen all of --suite."""
    reveal: bool = False
    """kitchen: let the counter's colour say what must be remembered, for a policy trained on such demonstrations."""
    seed: int = 0
    """First part of every episode's seed."""
    split: str | None = None
    """kitchen: train, or paraphrase for wordings that no demonstration has; robocasa365: target or pretrain; robomme:
    test, val or train."""
    n_action_steps: int = 8
    """Steps of a chunk that are executed before the policy is asked again."""
    workers: int = 2
    """Processes; the result does not depend on their number."""
    horizon: int | None = None
    """Steps after which an episode has failed; by default what the benchmark says."""
    fault: str = ""
    """What a sensor suffers: "VIEW black", "cameras black", "state 20 steps stale", "cameras 20 steps stale", ..."""
    videos: int = 0
    """Filmed episodes for each task, as GIF beside --output and in --html."""
    monitor: Path | None = None
    """kitchen: a consistency monitor (`svms-gr00t monitor train`) that looks on; the result keeps what it says."""
    output: Path | None = None
    """Write the result as JSON here."""
    leaderboard: Path | None = None
    """Write rates, intervals and the protocol as one JSON object here."""

    def run(self) -> int:
        """Print success for each task, with the published rate of GR00T N1.6 where there is one."""
        from svms_gr00t.evaluate.closed_loop.leaderboard import N1D6_24, ROBOMME, save_leaderboard
        from svms_gr00t.evaluate.report.pages import rollout_page

        result = self._drive()
        published = N1D6_24 if self.benchmark == "n1d6" else {}
        extra = ("N1.6, published",) if published else ()
        table = Sheet("task", "success", "95 %", *extra, title=f"{self.episodes} episodes a task, seed {self.seed}")
        for name, task in (*result.tasks.items(), ("all", result.overall)):
            ends = span(None, None) if task.rate is None else span(task.rate.low, task.rate.high, ".0%")
            known = (num(published.get(name), ".1f", " %"),) if published else ()
            broken = f", {task.broken} broken" if task.broken else ""
            table.add_row(name, f"{task.successes}/{task.episodes}{broken}", ends, *known)
        table.show()
        if self.benchmark == "robomme":
            others = Sheet("policy", "success", title="Reported elsewhere, mean of 16 tasks")
            for name, rate in ROBOMME.items():
                others.add_row(name, num(rate, ".1f", " %"))
            others.show()
        if self.output is not None:
            console.print(f"written to {result.save(self.output)}")
            for one in result.rollouts:
                if one.video:
                    self.output.with_name(f"{self.output.stem}_{one.task}_{one.index}.gif").write_bytes(one.video)
        if self.leaderboard is not None:
            console.print(f"written to {save_leaderboard(result, self.leaderboard, benchmark=self.benchmark)}")
        self.write_page("evaluate rollout", lambda: rollout_page(result, self._graph()))
        return 0

    def _graph(self) -> "StreamGraph | None":
        """The policy's streams by name; None for one without."""
        from svms_gr00t.groot.checkpoint.loading import read_config
        from svms_gr00t.sheaf.graph import build_graph

        config = read_config(policy_folder(self.model_path))
        return build_graph(config.stream_names, config.stream_edges) if config.has_streams else None

    def _drive(self) -> "RolloutResult":
        from svms_gr00t.recipes.benchmarks.closed_loop import check_memory, drive_kitchen, drive_robocasa, replay_gate

        bars = Bars()
        shared: dict[str, Any] = {
            "name": self.model_path.name,
            "tasks": self.tasks,
            "episodes": self.episodes,
            "seed": self.seed,
            "n_action_steps": self.n_action_steps,
            "videos": self.videos,
            "fault": self.fault,
            "workers": self.workers,
            "progress": bars,
            "placement": self.place(),
        }
        if self.horizon is not None:
            shared["horizon"] = self.horizon
        folder = policy_folder(self.model_path)
        check_memory(folder, self.n_action_steps)
        if self.benchmark == "libero":
            from svms_gr00t.recipes.benchmarks.libero import drive_libero

            return drive_libero(folder, split=self.split, **shared)
        if self.benchmark == "robomme":
            from svms_gr00t.recipes.benchmarks.robomme import drive_robomme

            return drive_robomme(folder, simulator=self.simulator, split=self.split, **shared)
        if self.benchmark != "kitchen":
            return drive_robocasa(folder, suite=self.benchmark, split=self.split, **shared)
        replay_gate(self.tasks, bars, suite=self.suite)
        shared |= {"suite": self.suite, "reveal": self.reveal, "split": self.split or "train", "monitor": self.monitor}
        return drive_kitchen(folder, **shared)
