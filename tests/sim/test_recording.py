"""Experts solve their tasks, recordings replay exactly, and the number of workers changes nothing."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from lerobot_files import tree

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.progress import Silent
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.record import Recorded, record, record_episode
from svms_gr00t.sim.replay import replay, replay_recorded
from svms_gr00t.sim.tasks.suites import TASKS

KITCHEN = Path(__file__).parents[2] / "src" / "svms_gr00t" / "assets" / "kitchen"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", [1000, pytest.param(1001, marks=pytest.mark.whole)])
def test_the_expert_succeeds_and_its_actions_replay(kitchen: KitchenEnv, task: str, seed: int) -> None:
    demo = record_episode(kitchen, task, seed, render=False)
    assert demo["success"]
    assert 15 <= len(demo["action"]) <= TASKS[task].horizon
    again = replay(kitchen, task, seed, demo["action"], demo["observation.state"])
    assert again.success
    assert again.state_error == 0.0


def test_a_changed_action_or_seed_does_not_replay(kitchen: KitchenEnv) -> None:
    demo = record_episode(kitchen, "PickFood", 1000, render=False)
    assert replay(kitchen, "PickFood", 1001, demo["action"], demo["observation.state"]).state_error > 1e-3
    bent = demo["action"].copy()
    bent[:, 5] = -bent[:, 5]
    bent[:, 6] += 0.5
    assert not replay(kitchen, "PickFood", 1000, bent, demo["observation.state"]).success


def test_a_recording_is_a_dataset_that_replays(kitchen: KitchenEnv, tmp_path: Path) -> None:
    done = record(tmp_path / "demos", episodes=2, seed=3, tasks=["StartCoffeeMachine", "CloseDrawer"], image_size=96)
    dataset = LeRobotDataset.open(done.root)
    assert (done.episodes, done.failed, len(dataset.episodes), dataset.fps) == (2, 0, 2, 20)
    for index in range(2):
        assert replay_recorded(kitchen, done.root, index).success
        columns = dataset.lowdim(index)
        assert columns["state.end_effector_rotation_relative"].shape[1] == 4
        np.testing.assert_array_equal(columns["action.base_motion"], 0)
        np.testing.assert_array_equal(columns["action.control_mode"], -1)
        assert set(np.unique(columns["action.gripper_close"])) <= {-1.0, 1.0}


class Stopper(Silent):
    """Ctrl-C when so many episodes are there."""

    def __init__(self, after: int) -> None:
        self.after, self.made = after, 0

    @contextmanager
    def task(self, _title: str, _total: int) -> Iterator["Stopper"]:
        yield self

    def advance(self, steps: int = 1) -> None:
        self.made += steps
        if self.made >= self.after > 0 and steps:
            raise KeyboardInterrupt

    def note(self, text: str) -> None: ...


@pytest.mark.whole
def test_finished_episodes_survive_a_ctrl_c_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    tries = iter([False, True, True, False, True])  # the expert "fails" at the first and the third episode

    def watched(env: KitchenEnv, task: str, seed: int, **more: bool) -> dict[str, object]:
        made.append(seed)
        return record_episode(env, task, seed, **more) | {"success": next(tries)}

    def run(folder: str, episodes: int, after: int = 0) -> Recorded:
        tasks = ["CloseDrawer", "StartCoffeeMachine"]
        return record(tmp_path / folder, episodes=episodes, seed=3, tasks=tasks, image_size=32, progress=Stopper(after))

    monkeypatch.setattr("svms_gr00t.sim.record.record_episode", watched)
    with pytest.raises(KeyboardInterrupt):
        run("set", 3, after=2)
    assert not (tmp_path / "set").exists()
    assert len(made) == 3
    with pytest.raises(DataError, match="2 episodes recorded already, but need 1 at most"):
        run("set", 1)
    with pytest.raises(DataError, match="unfinished job with another seed"):
        record(tmp_path / "set", episodes=3, seed=4, tasks=["CloseDrawer", "StartCoffeeMachine"], image_size=32)
    done = run("set", 3)
    assert len(made) == 5, "finished episodes were recorded again"
    assert (done.episodes, done.failed) == (3, 2)
    tries = iter([False, True, True, False, True])
    run("whole", 3)
    ours, theirs = (tree(tmp_path / name) for name in ("set", "whole"))
    assert ours.keys() == theirs.keys()
    drawn = {name for name in ours if name.startswith("videos/")} | {"meta/episodes_stats.jsonl"}
    # The software renderer rounds a pixel otherwise now and then; what else there is is equal to the byte.
    assert {n: ours[n] for n in ours.keys() - drawn} == {n: theirs[n] for n in theirs.keys() - drawn}
    assert {path.name for path in tmp_path.iterdir()} == {"set", "whole"}


@pytest.mark.slow
@pytest.mark.parametrize("index", range(54))
def test_every_shipped_demonstration_replays_to_success(kitchen: KitchenEnv, index: int) -> None:
    again = replay_recorded(kitchen, KITCHEN, index)
    assert again.success
    assert again.state_error < 1e-3  # metres; 0 where it was recorded, but another processor rounds differently


@pytest.mark.slow
def test_workers_change_nothing(tmp_path: Path) -> None:
    digests = []
    for workers in (1, 2):
        root = record(tmp_path / str(workers), episodes=4, seed=5, image_size=64, workers=workers).root
        files = sorted(path for path in root.rglob("*") if path.is_file())
        digests.append([(str(p.relative_to(root)), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files])
    assert digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_experts_succeed_on_95_percent_of_50_seeds(kitchen: KitchenEnv, task: str) -> None:
    successes = [record_episode(kitchen, task, seed, render=False)["success"] for seed in range(2000, 2050)]
    assert np.mean(successes) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_random_never_succeeds_in_a_whole_episode(kitchen: KitchenEnv, task: str) -> None:
    kitchen.drawing = False
    for seed in range(20):
        kitchen.reset(seed=seed, options={"task": task})
        rng = np.random.default_rng(seed)
        assert not any(kitchen.step(rng.uniform(-1, 1, 12))[4]["success"] for _ in range(TASKS[task].horizon))
