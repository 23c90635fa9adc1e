"""Open loop from the command line, and the curves it draws."""

import re

import numpy as np
import pytest
from evaluate_toys import Replay, ToyDataset, statistics

from svms_gr00t.cli.main import main
from svms_gr00t.evaluate.open_loop.paraphrases import paraphrase
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, action_specs
from svms_gr00t.evaluate.open_loop.trajectories import draw, trace
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.held_out_wording import kitchen_paraphrases
from svms_gr00t.sim.tasks.suites import TASKS

CONFIG = OpenLoopConfig(executed=8, batch_size=2)


def test_a_perfect_replay_is_drawn_on_top_of_the_recording():
    dataset = ToyDataset()
    found = trace(Replay(dataset), dataset, 2, statistics=statistics(), config=CONFIG)
    for key, rows in found.recorded.items():
        assert rows.shape == found.predicted[key].shape, "as long as the episode, whatever the last chunk says"
        np.testing.assert_allclose(found.predicted[key], rows)
    noisy = trace(Replay(dataset, noise=0.1), dataset, 2, statistics=statistics(), config=CONFIG)
    assert not np.allclose(noisy.predicted["gripper_close"], noisy.recorded["gripper_close"])
    picture = draw(found, action_specs(dataset, statistics(), CONFIG))
    assert picture.count("<svg") == 1
    assert "base_motion" not in picture, "constant elements are left out"
    assert "episode 2: open the drawer" in picture


def test_paraphrases_of_the_kitchen_are_its_own_held_out_sentences():
    given = [task.phrasings[1].format(target=task.targets[0]) for task in TASKS.values()]
    found = kitchen_paraphrases(given)
    assert set(found) == set(given)
    for task, text in zip(TASKS.values(), given, strict=True):
        assert found[text] in {sentence.format(target=task.targets[0]) for sentence in task.held_out}
    assert kitchen_paraphrases(["dance in the kitchen"]) == {}
    assert paraphrase("dance in the kitchen") == "please dance in the kitchen"


def test_the_command_scores_listens_draws_and_writes(small_kitchen, tmp_path, capsys):
    out = tmp_path / "result.json"
    arguments = [
        "--checkpoint",
        shipped("tiny_base"),
        "--dataset-path",
        small_kitchen,
        "--stride",
        "30",
        "--language-tests",
    ]
    arguments += ["--plots", "1", "--plot-dir", tmp_path / "plots", "--output", out, "--html", tmp_path / "page.html"]
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "open-loop", *map(str, arguments)])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    for words in ("by action key", "by step of the chunk", "Language tests", "paraphrased", "swapped", "rotation"):
        assert words in printed
    result = OpenLoopResult.load(out)
    assert f"tiny_base {result.scores.mse:.4f}" in (tmp_path / "page.html").read_text()
    rotation = result.scores.keys["end_effector_rotation"]
    assert rotation.kind == "rotation"
    assert 0 < rotation.angle < np.pi
    assert result.scores.keys["gripper_close"].accuracy is not None
    assert OpenLoopResult.load(tmp_path / "result_swapped.json").scores.mse > result.scores.mse, "it listens"
    (drawn,) = (tmp_path / "plots").iterdir()
    assert re.search(r"episode_\d{6}\.svg", drawn.name)
