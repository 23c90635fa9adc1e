"""What ships for the memory demo: demonstrations that replay, and a base that has the skill and sees one frame."""

import json
from pathlib import Path

import pytest
import torch

from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.recipes.shipped import MEMORY_TASKS, SHIPPED, SHIPPED_MEMORY, demonstrations, shipped, starting_point
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.replay import replay, replay_recorded
from svms_gr00t.sim.tasks.suites import SUITES

ROOT, BASE = shipped("memory_kitchen"), shipped("memory_base")


def beginnings() -> list[dict[str, object]]:
    """Task, seed and target of every shipped episode."""
    files = sorted((ROOT / "extras").glob("*/episode.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def test_the_words_mean_the_shipped_folders() -> None:
    assert demonstrations(SHIPPED_MEMORY) == ROOT
    assert starting_point(SHIPPED_MEMORY) == BASE
    assert demonstrations(SHIPPED) == shipped("kitchen") != ROOT
    assert demonstrations("memory") == Path("memory")


def test_the_demonstrations_are_of_the_tasks_that_are_driven_and_know_both_sides() -> None:
    assert set(MEMORY_TASKS) <= set(SUITES["memory"])
    episodes = LeRobotDataset.open(ROOT).episodes
    starts = beginnings()
    assert len(starts) == len(episodes) == 24
    assert {start["task"] for start in starts} == set(MEMORY_TASKS)
    lit = [start["target"] for start in starts if start["task"] == "OpenLitDrawer"]
    assert min(lit.count("left"), lit.count("right")) >= 5
    assert len({start["seed"] for start in starts}) == 24


@pytest.mark.parametrize("episode", range(4))
def test_demonstrations_succeed_when_replayed(kitchen: KitchenEnv, episode: int) -> None:
    assert replay_recorded(kitchen, ROOT, episode).success


def test_the_other_lights_actions_do_not(kitchen: KitchenEnv) -> None:
    """Else success would not depend on what the light said."""
    starts = beginnings()
    lit = {start["target"]: i for i, start in enumerate(starts) if start["task"] == "OpenLitDrawer"}
    actions = LeRobotDataset.open(ROOT).columns(lit["right"], ["action"])["action"]
    assert not replay(kitchen, "OpenLitDrawer", int(str(starts[lit["left"]]["seed"])), actions).success


def test_the_base_is_plain_and_has_the_skill_of_what_ships() -> None:
    losses = []
    for base in (BASE, shipped("tiny_base")):
        experiment = Experiment.prepare(ROOT, base=base)
        model = experiment.model(use_sheaf_streams=False, base=base).eval()
        assert model.svms is None
        assert all(value.isfinite().all() for value in model.state_dict().values())
        torch.manual_seed(0)
        with torch.no_grad():
            batch = Batches(experiment.first_samples(train=True, frames="clips"), 24, 0)(0)
            losses.append(float(model(batch).terms["flow"]))
    assert losses[0] < 0.5 * losses[1]


def test_the_base_never_saw_what_ships() -> None:
    origin = json.loads((BASE / "origin.json").read_text(encoding="utf-8"))
    shown = json.loads((ROOT / "meta" / "provenance.json").read_text(encoding="utf-8"))
    assert origin["fingerprint"] != LeRobotDataset.open(ROOT).fingerprint()
    assert "--suite memory" in origin["record"]
    assert f"--seed {shown['seed']}" not in origin["record"]
    assert origin["train"].startswith("python tools/train_memory_base.py DATA OUTPUT --steps ")
