"""Open loop: perfect replay scores 0, noise its variance, and nothing but the policy changes the number."""

import numpy as np
import pytest
from evaluate_toys import TASKS, FlowReplay, Replay, ToyDataset, statistics

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.evaluate.open_loop.paraphrases import other_instructions, paraphrase
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, evaluate_open_loop


def score(policy, *, episodes=(1, 2, 3), train=(0,), **config) -> OpenLoopResult:
    return evaluate_open_loop(
        policy,
        policy.dataset,
        list(episodes),
        statistics=statistics(),
        train_episodes=list(train),
        config=OpenLoopConfig(**config),
    )


def test_a_perfect_replay_scores_zero_although_it_babbles_beyond_the_end():
    result = score(Replay(ToyDataset()))
    assert result.scores.mse == 0
    assert result.scores.keys["gripper_close"].accuracy == 1
    assert result.scores.keys["base_motion"].mse is None, "a constant key is not scored"
    assert result.scores.keys["end_effector_position"].by_step == (0.0,) * 16
    assert all(result.methods[name].mse > 0.05 for name in ("mean", "hold", "nearest"))


def test_noise_scores_its_variance_and_seeds_do_not_depend_on_the_batch():
    dataset = ToyDataset(lengths=(30, 200, 200, 200))
    small, large = (score(Replay(dataset, noise=0.1), batch_size=size, stride=2) for size in (1, 7))
    assert small == large
    assert small.scores.mse == pytest.approx(0.01, rel=0.1)
    assert score(Replay(dataset, noise=0.1), stride=2, seed=1).scores.mse != small.scores.mse


def test_each_episode_counts_once():
    result = score(Replay(ToyDataset(lengths=(9, 17, 170, 25)), noise=0.3))
    episodes = result.scores.episodes.values()
    assert result.scores.mse == pytest.approx(np.mean([e.mse for e in episodes]))
    assert [e.looks for e in episodes] == [3, 22, 4]


def test_json_round_trip_keeps_every_number(tmp_path):
    result = score(FlowReplay(ToyDataset(), noise=0.2))
    assert OpenLoopResult.load(result.save(tmp_path / "deep" / "result.json")) == result
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["result.json"], "no temporary file stays"
    with pytest.raises(DataError, match="surprise"):
        OpenLoopResult.from_json(result.to_json().replace('"policy"', '"surprise": 1, "policy"', 1))
    with pytest.raises(DataError, match="no such file"):
        OpenLoopResult.load(tmp_path / "absent.json")


def test_flow_loss_is_measured_when_the_policy_can_and_else_none():
    """The toy's loss is the number of recorded steps it is given: 16, and fewer at an episode's end."""
    result = score(FlowReplay(ToyDataset()), episodes=(1,))
    assert result.scores.flow_loss == pytest.approx((16 + 9 + 1) / 3)
    assert score(Replay(ToyDataset())).scores.flow_loss is None
    with pytest.raises(ConfigError, match="not measured"):
        score(Replay(ToyDataset())).scores.metric("flow_loss")


def test_paired_comparison_finds_the_better_policy():
    dataset = ToyDataset(lengths=(20,) * 12)
    good, bad = (score(Replay(dataset, noise=n), episodes=range(1, 12)) for n in (0.1, 0.2))
    found = good.against(bad)
    assert found.relative.estimate == pytest.approx(-75, abs=10)
    assert found.difference.high < 0
    assert found.p < 0.01
    with pytest.raises(ConfigError, match="alike"):
        good.against(score(Replay(dataset), episodes=range(1, 12), stride=4))


def test_the_language_tests_change_only_the_words():
    for language, expected in {"recorded": {TASKS[1]}, "empty": {""}, "swapped": {TASKS[0]}}.items():
        policy = Replay(ToyDataset())
        score(policy, episodes=(1, 3), language=language)
        assert set(policy.heard) == expected
    policy = Replay(ToyDataset())
    score(policy, episodes=(1, 2), language="paraphrased", paraphrases={TASKS[0]: "pull it"})
    assert set(policy.heard) == {"pull it", "shut the drawer"}, "given words first, then the table's"
    with pytest.raises(DataError, match="one instruction"):
        score(Replay(ToyDataset(tasks={0: "wait", 1: "wait"})), language="swapped")


def test_a_swap_is_no_paraphrase_and_a_paraphrase_is_no_repetition():
    """Two wordings of one task must not be swapped for one another."""
    among = ["turn on the stove", "turn the stove on", "pick up the apple", "make coffee", "open the left drawer"]
    assert "turn the stove on" not in other_instructions("turn on the stove", among)
    assert len(other_instructions("turn on the stove", among)) == 2
    assert other_instructions("wait", ["wait"]) == []
    assert paraphrase("pick up the apple from the counter") == "grab the apple from the countertop"
    assert paraphrase("Switch on the burner") == "turn on the hob"
    assert paraphrase("dance") == "please dance"
    for text in (*among, *TASKS.values()):
        assert paraphrase(text) != text


def test_leaks_and_misfits_are_refused():
    with pytest.raises(DataError, match="both lists"):
        score(Replay(ToyDataset()), train=(0, 2))
    with pytest.raises(DataError, match="no episodes"):
        score(Replay(ToyDataset()), episodes=())
    with pytest.raises(ConfigError, match="Lower horizon"):
        score(Replay(ToyDataset(), horizon=8))
    with pytest.raises(ConfigError, match="stride"):
        OpenLoopConfig(stride=0)
