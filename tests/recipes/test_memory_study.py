"""The memory study: every side starts from one base, sees the same batches, and takes its best rate of other seeds."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from svms_gr00t.core.errors import CheckpointError, ConfigError
from svms_gr00t.core.progress import Silent
from svms_gr00t.data.loading.batches import Batches
from svms_gr00t.evaluate.closed_loop.result import Rollout, RolloutConfig, RolloutResult
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.memory_study.arms import ARMS
from svms_gr00t.recipes.memory_study.build import added, experiment_of, samples_of
from svms_gr00t.recipes.memory_study.config import StudyConfig
from svms_gr00t.recipes.memory_study.driving import CLOSED_LOOP, driven_already
from svms_gr00t.recipes.memory_study.result import StudyResult, summarise, table
from svms_gr00t.recipes.memory_study.run import POLICY, SCORES, Place, Scores, run_arm, train_base
from svms_gr00t.recipes.memory_study.score import DecidingScore, score, strayed
from svms_gr00t.recipes.memory_study.study import _rates, run_study
from svms_gr00t.recipes.shipped import shipped

SMALL = StudyConfig(
    held_out=0.4,
    steps_before=1,
    steps=1,
    rates=(1e-3,),
    batch_size=2,
    memory_frames=2,
    rollouts=0,
    rate_seeds=(9,),
    score_every=40,
)


@pytest.fixture(scope="module")
def config(small_kitchen: Path) -> StudyConfig:
    return replace(SMALL, dataset_path=str(small_kitchen))


@pytest.fixture(scope="module")
def place(config: StudyConfig, small_kitchen: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(root=tmp_path_factory.mktemp("study"), dataset=small_kitchen)


def parts(config: StudyConfig, place: Place, arm: str):
    experiment = experiment_of(config, ARMS[arm], place.dataset, shipped("tiny_base"), 0)
    model = experiment.model(use_sheaf_streams=ARMS[arm].between, base=shipped("tiny_base"))
    return model, *samples_of(config, experiment, model, place.root / "of_the_shipped_base")


def test_sides_see_the_same_steps_in_the_same_batches(config: StudyConfig, place: Place) -> None:
    batches = {}
    for arm in ("plain", "full", "alone"):
        _, train, held_out = parts(config, place, arm)
        batches[arm] = (Batches(train, 4, 3)(2), held_out.episodes)
        assert not set(train.episodes) & set(held_out.episodes)
    for arm in ("full", "alone"):
        assert torch.equal(batches["plain"][0].action, batches[arm][0].action)
        assert torch.equal(batches["plain"][0].hidden, batches[arm][0].hidden)
        assert batches["plain"][1] == batches[arm][1]
    assert batches["plain"][0].past is None
    assert batches["full"][0].past is not None


@pytest.mark.whole
def test_the_base_trains_whole_and_then_its_backbone_stays(config: StudyConfig, tmp_path: Path) -> None:
    place = Place(root=tmp_path, dataset=Path(str(config.dataset_path)))
    base = Policy.from_pretrained(train_base(config, place)).model.state_dict()
    given = Policy.from_pretrained(shipped("tiny_base")).model.state_dict()
    moved = {name for name in base if not torch.equal(base[name], given[name].to(base[name].dtype))}
    assert all(any(part in name for name in moved) for part in ("vision_model", "language_model", "action_head"))
    sides = [run_arm(config, place, "plain", seed, 1e-3) / POLICY for seed in (0, 1)]
    first, second = (Policy.from_pretrained(side).model.state_dict() for side in sides)
    apart = {name for name in first if not torch.equal(first[name], second[name])}
    assert apart, "seeds see other batches"
    assert all(name.startswith("action_head.") for name in apart)
    assert all(torch.equal(first[name], base[name]) for name in base if name.startswith("backbone."))


def test_the_memory_alone_is_as_large_as_svms_with_memory(config: StudyConfig, place: Place) -> None:
    full, alone = (parts(config, place, arm)[0].config for arm in ("full", "alone"))
    assert abs(added(alone) / added(full) - 1) < 0.02
    assert added(replace(alone, d_stream=full.d_stream)) < 0.8 * added(full), "mutant: the same width is smaller"


def test_the_clock_and_the_frames_are_inputs(config: StudyConfig, place: Place) -> None:
    plain, clock, frames = (parts(config, place, arm)[1] for arm in ("plain", "plain_clock", "plain_frames"))
    step = next(number for number, at in enumerate(plain.places) if at.step == 32)
    assert float(clock[step].state[0, -1]) == 32 / 256
    assert float(plain[step].state[0, -1]) == 0
    assert torch.equal(clock[step].state[:, :-1], plain[step].state[:, :-1])
    tokens = len(plain[step].input_ids)
    assert len(frames[step].input_ids) > 2 * tokens
    assert frames.processor.config.embodiment.video.delta_indices == (-16, -8, 0)


def test_a_stray_memory_is_another_episode_at_the_same_step(config: StudyConfig, place: Place) -> None:
    model, _, held_out = parts(config, place, "full")
    words = {e: held_out.instruction(replace(held_out.places[0], episode=e)) for e in held_out.episodes}
    alike = [e for e in held_out.episodes if list(words.values()).count(words[e]) > 1]
    number = next((n for n, at in enumerate(held_out.places) if at.step == 20 and (not alike or at.episode in alike)))
    own, other = held_out.batch([number]), strayed(held_out, [number])
    assert torch.equal(own.past.valid, other.past.valid)
    assert torch.equal(own.hidden, other.hidden)
    assert torch.equal(own.past.steps.hidden, other.past.steps.hidden) == (not alike)
    one, two = (score(model, held_out, executed=8, every=40, stray=stray) for stray in (False, True))
    assert one == two, "a fresh memory says nothing, whatever it remembers"


def test_a_run_is_done_once_and_names_what_it_found(config: StudyConfig, place: Place) -> None:
    base = train_base(config, place)
    folder = run_arm(config, place, "full", 0, 1e-3)
    found = Scores.load(folder / "scores.json")
    assert found.stray is not None
    assert found.own.error.keys() == found.stray.error.keys()
    assert (folder / POLICY / "config.json").is_file()
    stamps = [file.stat().st_mtime_ns for file in (folder / "scores.json", base / "config.json")]
    assert run_arm(config, place, "full", 0, 1e-3) == folder
    assert train_base(config, place) == base
    assert stamps == [file.stat().st_mtime_ns for file in (folder / "scores.json", base / "config.json")]


@pytest.mark.whole
def test_rates_are_chosen_on_seeds_that_are_not_reported(config: StudyConfig, place: Place) -> None:
    swept = replace(config, rates=(1e-30, 1e-2))
    result = run_study(swept, place.root, seeds=(0,), arms=("plain", "full"), workers=1)
    for row in result.rows[:2]:
        trials = {r: Scores.load(place.run(row.arm, r, 9) / "scores.json").own.mean for r in swept.rates}
        assert row.rate == min(trials, key=lambda rate: trials[rate])
        assert row.seeds == (0,)
    assert [row.arm for row in result.rows] == ["plain", "full", "full, another's memory"]
    assert StudyResult.load(place.root / "study.json") == result
    text = (place.root / "study.md").read_text(encoding="utf-8")
    assert "on seeds (9,)" in text
    assert "success" not in text.splitlines()[4], "nothing was driven"
    with pytest.raises(ConfigError, match="A rate is chosen"):
        run_study(swept, place.root, seeds=(0, 9), arms=("plain",), workers=1)
    with pytest.raises(CheckpointError, match="other settings: steps"):
        run_study(replace(swept, steps=5), place.root, seeds=(0,), arms=("plain",), workers=1)


def driven_as(won: int, episodes: int, scenes: int = 77 + 9) -> RolloutResult:
    def one(index: int) -> Rollout:
        told = {"task": "Press", "index": index, "seed": index, "instruction": "press"}
        return Rollout(**told, success=index < won, steps=9, ending="success" if index < won else "horizon")

    rules = RolloutConfig(tasks=("Press",), episodes=episodes, seed=scenes)
    return RolloutResult(policy="plain", config=rules, rollouts=tuple(map(one, range(episodes))))


def test_a_rate_is_chosen_by_what_is_won_where_scenes_are_driven(config: StudyConfig, tmp_path: Path) -> None:
    """The rate with the larger error wins more: it is chosen, unless nothing is driven or both win as often."""
    place, slow, fast = Place(root=tmp_path, dataset=tmp_path), 1e-4, 1e-3
    error = {slow: 0.1, fast: 0.2}

    def plant(wins: dict[float, int]) -> None:
        for rate, won in wins.items():
            folder = place.run("plain", rate, 9)
            (folder / POLICY).mkdir(parents=True, exist_ok=True)
            scored = DecidingScore(error={0: error[rate]})
            Scores(arm="plain", seed=9, rate=rate, added=0, own=scored, stray=None).save(folder / SCORES)
            driven_as(won, 4).save(folder / CLOSED_LOOP)

    def chosen(rollouts: int) -> float:
        asked = replace(config, rates=(slow, fast), rollouts=rollouts)
        return _rates(asked, place, ("plain",), 1, Silent())["plain"]

    plant({slow: 1, fast: 3})
    assert chosen(4) == fast
    assert chosen(0) == slow
    plant({slow: 3, fast: 3})
    assert chosen(4) == slow


def test_what_was_driven_in_other_scenes_is_driven_again(config: StudyConfig, tmp_path: Path) -> None:
    """Training seeds have scenes of their own: what a handful of scenes asks for must not look like skill."""
    asked, file = replace(config, rollouts=4), tmp_path / CLOSED_LOOP
    assert not driven_already(file, asked, 9)
    driven_as(1, 4, scenes=asked.scenes_of(9)).save(file)
    assert driven_already(file, asked, 9)
    assert not driven_already(file, asked, 8)
    assert not driven_already(file, replace(asked, rollouts=5), 9)


def test_a_side_of_fewer_seeds_is_compared_on_those_it_shares(config: StudyConfig, tmp_path: Path) -> None:
    place, rates = Place(root=tmp_path, dataset=tmp_path), {"plain": 1e-3, "plain_clock": 1e-3}
    errors = {"plain": {0: 2.0, 1: 4.0, 2: 90.0}, "plain_clock": {0: 1.0, 1: 2.0}}
    for arm, by_seed in errors.items():
        for seed, error in by_seed.items():
            own = DecidingScore(error={5: error, 6: error}, elsewhere={5: 1.0})
            found = Scores(arm=arm, seed=seed, rate=1e-3, added=0, own=own, stray=None)
            found.save(place.run(arm, 1e-3, seed) / "scores.json")
    result = summarise(config, place, rates, range(3))
    against = result.row("plain_clock").against_plain
    assert against is not None
    assert (against.seeds, against.reference, against.candidate) == (2, 3.0, 1.5)
    assert result.row("plain").error == 32.0
    first, second = table(result).splitlines()[-2:]
    assert "seeds" not in first
    assert "that knows the step (seeds 0, 1)" in second
