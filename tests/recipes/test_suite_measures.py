"""What a suite's gates are measured by, and the command that prints them."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

if find_spec("robosuite") is None:
    pytest.skip("needs the sim extra", allow_module_level=True)

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.evaluate.comparison.suite_gates import Measured, Scripted, Wins
from svms_gr00t.recipes.benchmarks import suite_measures
from svms_gr00t.recipes.benchmarks.suite_measures import Asking, OtherPictures, measured, scripted
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.sim.record import record
from svms_gr00t.sim.tasks.suites import SUITES

VIEW = "res256_image_side_0"


def gates(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["sim", "gates", *words])
    return int(stopped.value.code or 0)


def full(suite: str = "memory", swapped_error: float = 0.2) -> Measured:
    sure = Scripted(chance=0.5, expert=Wins(successes=20, episodes=20), blind=Wins(successes=9, episodes=20))
    return Measured(
        suite=suite,
        tasks=dict.fromkeys(SUITES["memory"], sure),
        plain=Wins(successes=50, episodes=100),
        oracle=Wins(successes=90, episodes=100),
        error=0.1,
        swapped_error=swapped_error,
        few_error=0.15,
        many_error=0.1,
    )


def test_the_command_passes_what_was_measured_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "gates.json"
    words = ("--scripted", "0", "--output", str(file))
    assert gates(*words) == 1
    assert capsys.readouterr().out.count("not measured") == 5
    full().save(file)
    assert gates(*words) == 0
    said = capsys.readouterr().out
    assert "Policies may be compared on it." in said
    assert all(name in said for name in SUITES["memory"]), "a row for every task"
    assert Measured.load(file) == full(), "what was known stays"
    full(swapped_error=0.1).save(file)
    assert gates(*words) == 1
    assert "FAIL" in capsys.readouterr().out
    full("single").save(file)
    assert gates(*words) == 2, "another suite's numbers"


@pytest.mark.whole
def test_scripted_hands_are_counted_by_task(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {name: SUITES["memory"][name] for name in ("OpenLitDrawer",)}
    monkeypatch.setattr(suite_measures, "suite_named", lambda _name: chosen)
    found = scripted("memory", 4)["OpenLitDrawer"]
    assert found.expert == Wins(successes=4, episodes=4)
    assert found.blind.successes < 4
    assert found.chance == 0.5


def test_pictures_come_from_another_episode_of_the_same_words_and_numbers_stay() -> None:
    data = LeRobotDataset.open(shipped("kitchen"))
    words: dict[str, list[int]] = {}
    for one in data.episodes:
        words.setdefault(data.instructions(one.index)[0], []).append(one.index)
    alike = next(tuple(found) for found in words.values() if len(found) == 2)
    lonely = next(found[0] for found in words.values() if len(found) == 1)
    other = OtherPictures(data, (*alike, lonely), seed=0)
    late = data.episode(alike[1]).length + 50
    for steps in ([0, 3], [late]):
        want = data.frames(alike[1], VIEW, [min(step, data.episode(alike[1]).length - 1) for step in steps])
        np.testing.assert_array_equal(other.frames(alike[0], VIEW, steps), want)
    assert not np.array_equal(other.frames(lonely, VIEW, [0]), data.frames(lonely, VIEW, [0]))
    for key, rows in data.lowdim(lonely).items():
        np.testing.assert_array_equal(other.lowdim(lonely)[key], rows)
    with pytest.raises(DataError, match="two to swap pictures"):
        OtherPictures(data, (lonely,), seed=0)


@pytest.mark.whole
def test_errors_are_measured_on_data_that_the_policies_did_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = record(tmp_path / "fresh", episodes=2, seed=9, tasks=["PickFood"], image_size=64).root
    asking = Asking(suite="single", plain=shipped("tiny_base"), data=root)
    known = measured(Measured(suite="single", few_error=0.5), asking)
    assert known.few_error == 0.5
    assert known.plain is None
    assert known.many_error is None
    assert 0 < known.error < known.swapped_error, "the shipped base looks at its pictures"
    seen = suite_measures.held_out
    monkeypatch.setattr(suite_measures, "held_out", lambda *a, **b: replace(seen(*a, **b), known=True))
    with pytest.raises(ConfigError, match="did not see"):
        measured(known, asking)
