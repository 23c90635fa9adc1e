"""Measures what the gates of a kitchen suite ask for, one part at a time; what a part needs, the caller has.

Scripted hands need nothing. Success needs a policy. Errors need a policy and demonstrations that it was not trained on.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.core.protocols import fixed_seed
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.evaluate.comparison.suite_gates import Measured, Scripted, Wins
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, evaluate_open_loop
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.benchmarks.closed_loop import drive_kitchen
from svms_gr00t.recipes.training.held_out import held_out
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.record import record_episode
from svms_gr00t.sim.tasks.suites import SuiteName, suite_named, task_named

SEED = 5000
"""First scene of the scripted hands."""


def scripted(suite: SuiteName, episodes: int, progress: Progress | None = None) -> dict[str, Scripted]:
    """Experts and hands without knowledge on every task of a suite. Raises MissingExtra without the simulator."""
    tasks, env, found = suite_named(suite), KitchenEnv(image_size=32), {}
    try:
        with (progress or Silent()).task("scripted hands", 2 * episodes * len(tasks)) as bar:
            for name, task in tasks.items():
                won = [0, 0]
                for seed in range(SEED, SEED + episodes):
                    won[0] += record_episode(env, name, seed, render=False)["success"]
                    won[1] += _without_knowledge(env, name, seed)
                    bar.advance(2)
                expert, blind = (Wins(successes=int(count), episodes=episodes) for count in won)
                found[name] = Scripted(chance=task.chance, expert=expert, blind=blind)
    finally:
        env.close()
    return found


def _without_knowledge(env: KitchenEnv, task: str, seed: int) -> bool:
    """Hands that do not remember; where nothing needs to be, hands that do not know what to do."""
    if task_named(task).progress is not None:
        return bool(record_episode(env, task, seed, render=False, blind=True)["success"])
    env.drawing = False
    env.reset(seed=seed, options={"task": task})
    rng = np.random.default_rng([seed, 9])
    while not env.over and env.steps < task_named(task).horizon:
        env.step(rng.uniform(-1, 1, 12))
    env.drawing = True
    return env.success


class OtherPictures:
    """A dataset in which every episode shows the pictures of another one at the same step; numbers and words stay.

    Of the `episodes` with the same instruction where there is another, else of any.
    """

    def __init__(self, dataset: LeRobotDataset, episodes: tuple[int, ...], seed: int) -> None:
        """Raises DataError for fewer than two episodes."""
        if len(episodes) < 2:
            hint = "Judge on more episodes"
            raise DataError(dataset.root, got=f"{len(episodes)} episode", want="two to swap pictures", hint=hint)
        self._dataset, self._other = dataset, dict[int, int]()
        words = {index: dataset.instructions(index)[0] for index in episodes}
        for index in episodes:
            others = [one for one in episodes if one != index]
            alike = [one for one in others if words[one] == words[index]] or others
            self._other[index] = alike[fixed_seed(seed, index) % len(alike)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def frames(self, index: int, view: str, steps: list[int]) -> Any:
        """(n, H, W, 3) of the other episode; it stands still after its end."""
        other = self._other[index]
        last = self._dataset.episode(other).length - 1
        return self._dataset.frames(other, view, [min(step, last) for step in steps])


def fresh_error(
    folder: Path, dataset_path: Path, *, swap: bool = False, seed: int = 0, progress: Progress | None = None
) -> float:
    """Denoised action error of a saved policy on every episode of a dataset, or with another episode's pictures.

    Raises ConfigError for data that its run was trained on: policies of several runs are judged on the same episodes.
    """
    found = held_out(folder, dataset_path, seed=seed, progress=progress)
    if found.known:
        hint = "Record others: svms-gr00t sim record with another --seed"
        raise ConfigError("--dataset-path", got=dataset_path, want=f"data that {folder} did not see", hint=hint)
    policy, episodes = Policy.from_pretrained(folder), tuple(one.index for one in found.dataset.episodes)
    horizon = policy.processor.codec.horizon
    result = evaluate_open_loop(
        policy,
        OtherPictures(found.dataset, episodes, seed) if swap else found.dataset,
        episodes,
        statistics=policy.processor.statistics[policy.processor.config.embodiment_tag],
        config=OpenLoopConfig(horizon=horizon, executed=min(8, horizon), batch_size=32, seed=seed),
        name="other pictures" if swap else "policy",
        progress=progress,
    )
    return float(result.scores.mse)


def known_already(file: Path | None, suite: SuiteName) -> Measured:
    """What an earlier call wrote, or nothing. Raises ConfigError for another suite's file."""
    if file is None or not file.is_file():
        return Measured(suite=suite)
    found = Measured.load(file)
    if found.suite != suite:
        hint = "Name another --output"
        raise ConfigError(str(file), got=f"suite {found.suite}", want=suite, hint=hint)
    return found


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is to be measured now, and with what; None: not now."""

    suite: SuiteName
    scripted: int = 0
    """Episodes a task of the scripted hands."""
    episodes: int = 0
    """Closed-loop episodes a task of the plain policy and the oracle."""
    seed: int = 0
    workers: int = 1
    plain: Path | None = None
    """Policy folders."""
    oracle: Path | None = None
    few: Path | None = None
    many: Path | None = None
    data: Path | None = None
    """Demonstrations that none of them saw."""
    revealed: Path | None = None
    """The same with the counter's colour telling."""


def measured(known: Measured, asking: Asking, progress: Progress | None = None) -> Measured:
    """`known` with what was asked for. Raises as its parts do."""
    numbers: dict[str, Any] = {}
    if asking.scripted:
        numbers["tasks"] = scripted(asking.suite, asking.scripted, progress)
    for name, folder in (("plain", asking.plain), ("oracle", asking.oracle)):
        if folder is not None and asking.episodes:
            numbers[name] = _driven(folder, asking, name, progress)
    return replace(known, **(numbers | _errors(asking, progress)))


def _driven(folder: Path, asking: Asking, name: str, progress: Progress | None) -> Wins:
    """Over all tasks, in scenes that depend on the seed alone."""
    result = drive_kitchen(
        folder,
        name=name,
        suite=asking.suite,
        reveal=name == "oracle",
        episodes=asking.episodes,
        seed=asking.seed,
        workers=asking.workers,
        progress=progress,
    )
    return Wins(successes=result.overall.successes, episodes=result.overall.episodes)


def _errors(asking: Asking, progress: Progress | None) -> dict[str, float]:
    policies = {
        "error": asking.plain,
        "swapped_error": asking.plain,
        "few_error": asking.few,
        "many_error": asking.many,
    }
    wanted = {name: (folder, asking.data) for name, folder in policies.items()}
    wanted["oracle_error"] = (asking.oracle, asking.revealed)
    return {
        name: fresh_error(folder, data, swap=name == "swapped_error", seed=asking.seed, progress=progress)
        for name, (folder, data) in wanted.items()
        if folder is not None and data is not None
    }
