"""The memory suite: what a picture must not tell, what a success rule must not forgive, and what an expert shows."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.evaluate.statistics.stats import wilson
from svms_gr00t.sim.camera import VIEWS
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.experts.expert import Expert
from svms_gr00t.sim.record import record, record_episode
from svms_gr00t.sim.replay import replay, replay_recorded
from svms_gr00t.sim.scene import COUNTER
from svms_gr00t.sim.tasks.memory import LIT, QUIET, SLOTS, STATION
from svms_gr00t.sim.tasks.progress import HeldFor, InOrder, LitDrawer, OpenedThenClosed, Presses, Returned
from svms_gr00t.sim.tasks.suites import EVERY, SUITES, suite_named, tasks_named
from svms_gr00t.sim.tasks.task import Progress

MEMORY = SUITES["memory"]
SPOKEN = ("OpenLitDrawer", "OrderByLight")
STILL = np.array([0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1], dtype=np.float64)


@pytest.fixture
def meant(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Fix what the past says of a task: its first or second target, with every other draw as it was."""

    def fix(name: str, which: int) -> None:
        task = MEMORY[name]
        monkeypatch.setitem(EVERY, name, replace(task, targets=(task.targets[which],) * len(task.targets)))

    return fix


def test_suites_have_names_of_their_own() -> None:
    assert len(MEMORY) >= 6
    assert len(EVERY) == sum(map(len, SUITES.values()))
    assert tasks_named((), "memory") == tuple(MEMORY)
    with pytest.raises(ConfigError, match="suite = 'both', but need one of single, memory"):
        suite_named("both")
    sentences = [
        {s.format(target=t) for s in task.phrasings + task.held_out for t in task.targets} for task in EVERY.values()
    ]
    assert len(set().union(*sentences)) == sum(map(len, sentences)), "a sentence belongs to one task"
    assert all(len(task.held_out) >= 2 and not set(task.phrasings) & set(task.held_out) for task in MEMORY.values())


@pytest.mark.parametrize("name", MEMORY)
@pytest.mark.parametrize("seed", [1000, pytest.param(1001, marks=pytest.mark.whole)])
def test_the_expert_succeeds_and_its_actions_replay(kitchen: KitchenEnv, name: str, seed: int) -> None:
    demo = record_episode(kitchen, name, seed, render=False)
    assert demo["success"]
    assert len(demo["action"]) <= MEMORY[name].horizon
    again = replay(kitchen, name, seed, demo["action"], demo["observation.state"])
    assert again.success
    assert again.state_error == 0.0


@pytest.mark.parametrize("name", SPOKEN)
def test_at_the_release_nothing_is_left_of_what_the_light_said(
    kitchen: KitchenEnv, name: str, meant: Callable[[str, int], None]
) -> None:
    """Not even a hand that moves one way at blue and the other way at red: it is held."""
    seen = []
    for which in (0, 1):
        meant(name, which)
        kitchen.reset(seed=5, options={"task": name})
        cue = kitchen.layout.wait
        assert cue is not None
        assert cue.out - cue.lit == LIT
        assert cue.release - cue.out >= QUIET
        moved, frames = STILL.copy(), []
        moved[:3] = (1.0, 0.8, -0.5) if which else (-1.0, -0.8, 0.5)
        while kitchen.held:
            kitchen.drawing = kitchen.steps + 1 in (cue.lit + LIT - 1, cue.out, cue.release)
            frames.append(kitchen.step(moved)[0])
        kitchen.drawing = True
        seen.append([frame for frame in frames if VIEWS[0] in frame])
    lit, *after = zip(*seen, strict=True)
    assert np.abs(lit[0][VIEWS[0]].astype(int) - lit[1][VIEWS[0]]).max() > 100
    for one, other in after:
        for key in one.keys() - {INSTRUCTION}:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("name", MEMORY)
def test_no_picture_and_no_state_shows_what_must_be_remembered(kitchen: KitchenEnv, name: str) -> None:
    kitchen.reset(seed=3, options={"task": name})
    expert = Expert(kitchen, 3)
    kitchen.drawing = False
    for _ in range(75):
        kitchen.step(expert.act())
    kitchen.drawing = True
    looks: dict[bool, list] = {}
    for reveal in (False, True):
        kitchen.reveal = reveal
        looks[reveal] = []
        for hidden in (1, 2):
            kitchen.progress.hidden = hidden
            looks[reveal].append(kitchen._observation())
    kitchen.reveal = False
    for key in looks[False][0].keys() - {INSTRUCTION}:
        np.testing.assert_array_equal(looks[False][0][key], looks[False][1][key])
    view = VIEWS[0]
    assert np.abs(looks[True][0][view].astype(int) - looks[True][1][view]).max() > 100, "the oracle sees it"


def test_the_coffee_lamp_goes_out_when_the_button_is_let_go(kitchen: KitchenEnv) -> None:
    lamps, kitchen.drawing = {}, False
    for name in ("PressTwice", "StartCoffeeMachine"):
        kitchen.reset(seed=0, options={"task": name})
        expert, up = Expert(kitchen, 0), STILL.copy()
        while not kitchen.coffee_on:
            kitchen.step(expert.act())
        up[2] = 1.0
        for _ in range(15):
            kitchen.step(up)
        lamps[name] = kitchen.coffee_on
    kitchen.drawing = True
    assert lamps == {"PressTwice": False, "StartCoffeeMachine": True}


@pytest.mark.parametrize("name", MEMORY)
def test_standing_still_and_moving_at_random_do_not_succeed(kitchen: KitchenEnv, name: str) -> None:
    kitchen.drawing = False
    rng = np.random.default_rng(0)
    for act in (lambda: STILL, lambda: rng.uniform(-1, 1, 12)):
        kitchen.reset(seed=0, options={"task": name})
        assert not any(kitchen.step(act())[4]["success"] for _ in range(80))
    kitchen.drawing = True


def test_what_cannot_be_won_any_more_ends(kitchen: KitchenEnv, meant: Callable[[str, int], None]) -> None:
    """The expert of one side, in an episode whose light said the other."""
    meant("OpenLitDrawer", 0)
    kitchen.drawing = False
    kitchen.reset(seed=4, options={"task": "OpenLitDrawer"})
    kitchen.target = "right"
    expert = Expert(kitchen, 4)
    ends = [kitchen.step(expert.act())[2:] for _ in range(150)]
    kitchen.drawing = True
    first = next(i for i, (terminated, *_) in enumerate(ends) if terminated)
    assert 60 < first < 140
    assert not any(info["success"] for *_, info in ends)


@dataclass
class Scene:
    """A state that a test writes."""

    joints: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("coffee", "drawer_left"), 0.0))
    at: tuple[float, float, float] = (0.0, 0.0, COUNTER + 0.3)
    food: tuple[float, float, float] = (0.0, 0.0, COUNTER + 0.02)
    progress: Progress | None = None
    coffee_on: bool = False

    def joint(self, name: str) -> float:
        return self.joints.get(name, 0.0)

    def position(self, name: str) -> np.ndarray:
        spots = {"button": (0.6, -0.33, COUNTER + 0.12), "drawer_left": (0.72, 0.1, COUNTER + 0.09)}
        return np.array(spots.get(name, self.food))

    def hand(self) -> np.ndarray:
        return np.array(self.at)


OVER, GONE = (0.6, -0.33, COUNTER + 0.2), (0.4, 0.0, COUNTER + 0.3)
DOWN, UP = {"coffee": 0.02}, {"coffee": 0.0}
HOOKED, LIFTED = (0.69, 0.1, COUNTER + 0.105), (0.69, 0.1, COUNTER + 0.2)


def story(progress: Progress, *moments: Scene) -> str:
    for scene in moments:
        progress.see(scene)
    return "done" if progress.done else "failed" if progress.failed else "open"


def presses(count: int) -> Iterator[Scene]:
    for _ in range(count):
        yield from (Scene(at=OVER, joints=DOWN), Scene(at=OVER, joints=UP))


@pytest.mark.parametrize(
    ("wanted", "count", "ends"), [(2, 0, "failed"), (2, 1, "failed"), (2, 2, "done"), (2, 3, "failed"), (3, 3, "done")]
)
def test_presses_are_judged_when_the_hand_leaves(wanted: int, count: int, ends: str) -> None:
    progress = Presses(wanted)
    before = story(progress, Scene(at=GONE), Scene(at=OVER), *presses(count), *[Scene(at=OVER)] * 50)
    assert before == ("failed" if count > wanted else "open"), "waiting above the button decides nothing"
    assert story(progress, Scene(at=GONE)) == ends
    assert story(progress, Scene(at=OVER), *presses(2), Scene(at=GONE)) == ends, "too late"


def test_a_stage_says_in_words_what_happened_so_far() -> None:
    """It is for people: whatever a task follows has a word for it from the first step on, and ends as it is judged."""
    progress = Presses(2)
    said = [progress.stage]
    for scene in (Scene(at=OVER), *presses(2), Scene(at=GONE)):
        progress.see(scene)
        said.append(progress.stage)
    assert list(dict.fromkeys(said)) == ["pressed 0 of 2", "pressed 1 of 2", "pressed 2 of 2", "done"]
    lost = Presses(1)
    assert story(lost, *presses(2)) == lost.stage == "failed"
    others = {OpenedThenClosed("left"): "not opened yet", LitDrawer("left"): "left was lit"}
    others |= {InOrder("drawer"): "drawer was lit", HeldFor(40, 10): "down for 0 of 40 steps"}
    others |= {Returned("apple", SLOTS, STATION, 1): "not shown yet"}
    assert {one: one.stage for one in others} == others


def test_a_button_held_down_is_one_press() -> None:
    progress = Presses(2)
    story(progress, *[Scene(at=OVER, joints=DOWN)] * 9, Scene(at=OVER, joints={"coffee": 0.011}), *presses(1))
    assert progress.hidden == 1, "it did not come up in between"
    story(progress, *presses(1))
    assert progress.hidden == 2


def drawer(travel: float, at: tuple[float, float, float] = HOOKED) -> Scene:
    return Scene(joints={"drawer_left": travel}, at=at)


@pytest.mark.parametrize(
    ("travels", "ends"),
    [
        ((), "failed"),
        ((0.1,), "failed"),
        ((0.1, 0.0), "done"),
        ((0.1, 0.0, 0.1, 0.0), "failed"),
        ((0.07, 0.0), "failed"),
    ],
)
def test_a_drawer_is_judged_when_the_hand_lets_go(travels: tuple[float, ...], ends: str) -> None:
    progress = OpenedThenClosed("left")
    assert story(progress, drawer(0.0, LIFTED), drawer(0.0), *map(drawer, travels)) in ("open", ends)
    assert story(progress, drawer([0.0, *travels][-1], LIFTED)) == ends


def test_the_other_drawer_is_not_forgiven() -> None:
    wrong_first = [Scene(joints={"drawer_right": 0.06}), Scene(), Scene(joints={"drawer_left": 0.1})]
    assert story(LitDrawer("left"), *wrong_first) == "failed"
    assert story(LitDrawer("left"), *wrong_first[1:]) == "done"


def test_the_order_counts_and_both_are_needed() -> None:
    coffee, drawer = Scene(joints={"coffee": 0.02}), Scene(joints={"coffee": 0.0, "drawer_left": 0.1})
    both = Scene(joints={"coffee": 0.02, "drawer_left": 0.1})
    assert story(InOrder("coffee"), coffee, drawer) == "done"
    assert story(InOrder("drawer"), coffee, drawer) == "failed"
    assert story(InOrder("drawer"), drawer, drawer) == "open"
    assert story(InOrder("coffee"), both) == "done"
    assert story(InOrder("drawer"), both) == "failed", "not at once"


def test_food_goes_back_to_where_it_came_from_after_it_was_shown() -> None:
    def lies(slot: int) -> Scene:
        return Scene(food=(*SLOTS[slot], COUNTER + 0.02))

    shown = Scene(food=(*STATION, COUNTER + 0.15), at=(*STATION, COUNTER + 0.15))
    for slot in (0, 1):
        progress = Returned("apple", SLOTS, STATION, slot)
        assert story(progress, lies(slot)) == "open", "it must be shown"
        assert story(progress, shown, lies(slot)) == "done"
        assert story(Returned("apple", SLOTS, STATION, slot), shown, lies(1 - slot)) == "failed"
    dropped = Scene(food=(*STATION, COUNTER + 0.02))
    assert story(Returned("apple", SLOTS, STATION, 0), shown, dropped, lies(0)) == "failed"


@pytest.mark.parametrize(("steps", "ends"), [(29, "failed"), (30, "done"), (50, "done"), (51, "failed")])
def test_two_seconds_are_two_seconds(steps: int, ends: str) -> None:
    """A step counts from the one that presses until the one that lets go, which is counted too."""
    up, down, half = (Scene(joints={"coffee": depth}) for depth in (0.0, 0.02, 0.008))
    assert story(HeldFor(40, 10), up, up) == "open"
    assert story(HeldFor(40, 10), up, *[down] * (steps - 1), up) == ends
    assert story(HeldFor(40, 10), up, down, *[half] * (steps - 2), up) == ends, "half way up is not let go"


def test_chance_is_the_best_that_a_coin_can_do() -> None:
    """`chance_because` gives the formula; its maximum over the coin's bias stands in the task."""
    q = np.linspace(0, 1, 100_001)
    best = {
        "PressTwice": (q * (1 - q)).max(),
        "PressThrice": (q**2 * (1 - q)).max(),
        "OpenThenCloseDrawer": (q * (1 - q)).max(),
        "HoldTwoSeconds": (q**3 * (1 - q**3)).max(),
        **dict.fromkeys(("OpenLitDrawer", "OrderByLight", "PutBack"), 0.5),
    }
    assert best.keys() == MEMORY.keys()
    for name, task in MEMORY.items():
        assert task.chance == pytest.approx(best[name], abs=1e-3), name


@pytest.mark.whole
def test_a_recording_of_the_suite_is_a_dataset_that_replays(kitchen: KitchenEnv, tmp_path: Path) -> None:
    done = record(tmp_path / "demos", episodes=2, seed=3, suite="memory", image_size=32)
    assert replay_recorded(kitchen, done.root, 1).success
    starts = [json.loads(p.read_text())["task"] for p in sorted(done.root.glob("extras/*/episode.json"))]
    assert starts == list(MEMORY)[:2]


def test_the_base_does_not_tell_the_time(kitchen: KitchenEnv) -> None:
    """It sinks by a millimetre an episode, the same every time: a clock, once statistics make it a range of 2."""
    kitchen.drawing, drift = False, {}
    for name in ("PressTwice", "StartCoffeeMachine"):
        first, _ = kitchen.reset(seed=0, options={"task": name})
        expert = Expert(kitchen, 0)
        while not kitchen.over:
            later, *_ = kitchen.step(expert.act())
        keys = ("state.base_position", "state.base_rotation")
        drift[name] = max(float(np.abs(later[key] - first[key]).max()) for key in keys)
    kitchen.drawing = True
    assert drift["PressTwice"] < 1e-5 < 1e-4 < drift["StartCoffeeMachine"], drift


@pytest.mark.parametrize("seed", [2007, 2031])
def test_three_presses_lie_in_a_memory_of_96_steps_and_each_is_kept_once(kitchen: KitchenEnv, seed: int) -> None:
    """A memory of every eighth step sees the lamp of each press, whatever the phase, when it must decide to leave."""
    kitchen.drawing = False
    kitchen.reset(seed=seed, options={"task": "PressThrice"})
    expert, lit = Expert(kitchen, seed), []
    while not kitchen.over:
        kitchen.step(expert.act())
        lit.append(kitchen.coffee_on)
    kitchen.drawing = True
    leaving = next(t for t in range(len(lit), 0, -1) if lit[t - 1]) + 12  # up, and the longest rest is behind
    for phase in range(8):
        kept = [lit[t] for t in range(leaving - phase, max(0, leaving - phase - 97), -8)]
        presses_seen = sum(now and not before for now, before in zip(kept, [False, *kept], strict=False))
        assert presses_seen == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMORY)
def test_who_remembers_nothing_wins_by_chance_alone(kitchen: KitchenEnv, name: str) -> None:
    won = sum(record_episode(kitchen, name, seed, render=False, blind=True)["success"] for seed in range(60))
    rate = wilson(won, 60)
    assert rate is not None
    assert rate.low < MEMORY[name].chance, f"{won} of 60"
    assert rate.high > MEMORY[name].chance / 2, "hands that cannot do the task would prove nothing"


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMORY)
def test_experts_succeed_on_95_percent_of_50_seeds(kitchen: KitchenEnv, name: str) -> None:
    successes = [record_episode(kitchen, name, seed, render=False)["success"] for seed in range(2000, 2050)]
    assert np.mean(successes) >= 0.95
