"""What ships for the memory demo: demonstrations that replay, and the tiny base with another action head."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.recipes.shipped import MEMORY_TASKS, SHIPPED, SHIPPED_MEMORY, demonstrations, shipped, starting_point
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


def test_the_base_is_the_tiny_base_but_for_its_action_head() -> None:
    ours, tiny = (load_file(folder / "model.safetensors") for folder in (BASE, shipped("tiny_base")))
    assert ours.keys() == tiny.keys()
    changed = {name.split(".")[0] for name in ours if not ours[name].equal(tiny[name])}
    assert changed == {"action_head"}
    assert all(value.isfinite().all() for value in ours.values())


def test_the_base_never_saw_what_ships() -> None:
    origin = json.loads((BASE / "origin.json").read_text(encoding="utf-8"))
    shown = json.loads((ROOT / "meta" / "provenance.json").read_text(encoding="utf-8"))
    assert origin["fingerprint"] != LeRobotDataset.open(ROOT).fingerprint()
    assert "--suite memory" in origin["record"]
    assert f"--seed {shown['seed']}" not in origin["record"]
    assert origin["train"].startswith("python tools/train_memory_base.py DATA OUTPUT --steps ")
