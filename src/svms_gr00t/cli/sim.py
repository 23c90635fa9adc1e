"""`svms-gr00t sim`: record demonstrations in the embedded kitchen, and replay them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from svms_gr00t.cli.console import Bars, console


@dataclass(frozen=True, kw_only=True)
class Record:
    """Let the scripted experts demonstrate every task and write a LeRobot v2.1 dataset."""

    output_dir: Path = Path("outputs/kitchen")
    """New dataset folder; one that holds anything is refused."""
    episodes: int = 64
    """Demonstrations in all, spread evenly over the tasks."""
    seed: int = 0
    """First episode's seed."""
    suite: Literal["single", "memory"] = "single"
    """The nine tasks that one frame decides, or those in which the past does."""
    tasks: tuple[str, ...] = ()
    """Task names of any suite; empty takes all of --suite."""
    reveal: bool = False
    """Let the counter's colour say what must be remembered: the oracle of the memory suite."""
    image_size: int = 128
    """Pixels a side of each camera."""
    workers: int = 1
    """Processes; the result does not depend on their number."""

    def run(self) -> int:
        """Record and say where."""
        from svms_gr00t.sim.record import record

        done = record(
            self.output_dir,
            episodes=self.episodes,
            seed=self.seed,
            tasks=self.tasks or None,
            suite=self.suite,
            reveal=self.reveal,
            image_size=self.image_size,
            workers=self.workers,
            progress=Bars(),
        )
        console.print(f"{done.episodes} demonstrations in {done.root}; {done.failed} failed tries were left out")
        return 0


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Drive the simulator with recorded actions and say whether each demonstration still succeeds."""

    dataset_path: Annotated[Path, tyro.conf.Positional]
    """A dataset written by `svms-gr00t sim record`."""

    def run(self) -> int:
        """0 when every demonstration succeeds, else 1."""
        from svms_gr00t.data.lerobot.dataset import LeRobotDataset
        from svms_gr00t.sim.env import KitchenEnv
        from svms_gr00t.sim.replay import replay_recorded

        episodes = LeRobotDataset.open(self.dataset_path).episodes
        env, failed = KitchenEnv(), []
        with Bars().task("replaying", len(episodes)) as bar:
            for episode in episodes:
                if not replay_recorded(env, self.dataset_path, episode.index).success:
                    failed.append(episode.index)
                bar.advance()
        env.close()
        console.print(f"{len(episodes) - len(failed)} of {len(episodes)} demonstrations succeed when replayed")
        if failed:
            console.print(f"failed: {', '.join(map(str, failed))}")
        return 1 if failed else 0
