"""`svms-gr00t sim`: record demonstrations in the embedded kitchen, replay them, and judge its suites."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from svms_gr00t.cli.console import Bars, console
from svms_gr00t.cli.evaluate.rollout import policy_folder
from svms_gr00t.cli.shown.sheet import Sheet, Tables, num, verdict


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


@dataclass(frozen=True, kw_only=True)
class Gates(Tables):
    """What a suite must show before policies are compared on it: measure what is asked for, judge what is known.

    Scripted hands are always measured; the rest needs policies that were trained before. With --output what an earlier
    call measured stays, so that the parts may be measured one by one. What was not measured has not passed.
    """

    suite: Literal["single", "memory"] = "memory"
    """The suite in question."""
    scripted: int = 20
    """Episodes a task of experts, and of hands without the knowledge; 0 leaves them out, fewer than 20 say nothing."""
    model_path: Path | None = None
    """The plain policy."""
    oracle: Path | None = None
    """A plain policy trained alike on demonstrations with --reveal."""
    few: Path | None = None
    """A plain policy trained alike on 3 demonstrations a task."""
    many: Path | None = None
    """And on 8."""
    episodes: int = 20
    """Closed-loop episodes a task of the plain policy and of the oracle; 0 does without."""
    dataset_path: Path | None = None
    """Demonstrations that none of these saw: errors are measured on them."""
    revealed_path: Path | None = None
    """The same recorded with --reveal, for the oracle's error."""
    seed: int = 0
    """First part of every driven episode's seed, and of every noise seed."""
    workers: int = 2
    """Processes that drive."""
    output: Path | None = None
    """JSON of what is known; read first where it exists."""

    def run(self) -> int:
        """0 when every gate was measured and passed, else 1."""
        from svms_gr00t.evaluate.comparison.suite_gates import fit_to_compare, suite_gates
        from svms_gr00t.recipes.benchmarks.suite_measures import Asking, known_already, measured

        known = known_already(self.output, self.suite)
        asking = Asking(
            suite=self.suite,
            scripted=self.scripted,
            episodes=self.episodes,
            seed=self.seed,
            workers=self.workers,
            plain=_folder(self.model_path),
            oracle=_folder(self.oracle),
            few=_folder(self.few),
            many=_folder(self.many),
            data=self.dataset_path,
            revealed=self.revealed_path,
        )
        known = measured(known, asking, Bars())
        gates = suite_gates(known)
        hands = Sheet("task", "chance", "without the knowledge", "expert", title="Scripted hands")
        for name, one in known.tasks.items():
            hands.add_row(name, num(one.chance, ".0%"), str(one.blind), str(one.expert))
        if known.tasks:
            hands.show()
        table = Sheet("gate", "criterion", "measured", "passed", "what to try", title=f"Suite {self.suite}")
        for gate in gates:
            advice = "" if gate.passed else gate.advice
            table.add_row(gate.name, gate.criterion, gate.measured, verdict(gate.passed), advice)
        table.show()
        fit = fit_to_compare(gates)
        console.print("Policies may be compared on it." if fit else "Policies may not be compared on it yet.")
        if self.output is not None:
            console.print(f"written to {known.save(self.output)}", highlight=False, soft_wrap=True)
        return 0 if fit else 1


def _folder(checkpoint: Path | None) -> Path | None:
    return None if checkpoint is None else policy_folder(checkpoint)
