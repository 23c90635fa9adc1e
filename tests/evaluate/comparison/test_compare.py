"""Comparing runs: paired by seed and episode, refused when it would not be fair, and read from every kind of folder."""

import json
from dataclasses import replace

import pytest
from evaluate_toys import LineEnv, Listener, Replay, ToyDataset, statistics

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.evaluate.comparison.compare import SUCCESS, CompareReport, compare, render_markdown
from svms_gr00t.evaluate.comparison.contenders import Contender, Run
from svms_gr00t.evaluate.comparison.run_facts import RunFacts
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, evaluate_open_loop

DATASET = ToyDataset(lengths=(21, 17, 30, 25, 22, 19, 28, 24, 20, 26))
FACTS = RunFacts(
    name="a", seed=0, data="d1", held_out=(1, 2), base="b", budget={"steps": "60 + 60", "batch size": "16"}
)


def one(name: str, noise: float, *, seed: int = 0, skill: float | None = None, facts: RunFacts | None = FACTS) -> Run:
    policy = Replay(DATASET, noise=noise, salt=seed)
    config = OpenLoopConfig(seed=0, stride=8)
    result = evaluate_open_loop(policy, DATASET, range(1, 10), statistics=statistics(), config=config, name=name)
    rules = RolloutConfig(tasks=("left", "right"), episodes=12, horizon=40, seed=5)
    driven = None if skill is None else rollout(Listener(skill=skill), LineEnv(), rules, name=name)
    return Run(open_loop=result, closed_loop=driven, facts=facts and replace(facts, name=name, seed=seed))


def contender(name: str, noise: float, seeds: int = 1, **given) -> Contender:
    return Contender(name=name, runs={s: one(name, noise, seed=s, **given) for s in range(seeds)})


def test_the_better_run_is_found_with_its_size_and_its_certainty():
    report = compare([contender("plain", 0.2, skill=0.35), contender("svms", 0.1, skill=0.95)])
    found = {m.metric: m for m in report.pairs[0].metrics}
    assert set(found) == {"mse", "executed_mse", "first_mse", SUCCESS}
    assert found["mse"].found.relative.estimate == pytest.approx(-75, abs=8)
    assert found["mse"].verdict == "better"
    assert found["mse"].found.p < 0.01
    assert found[SUCCESS].verdict == "better"
    test = found[SUCCESS].test
    assert test.only_candidate > test.only_reference
    won = found[SUCCESS].found
    assert test.only_candidate - test.only_reference == round((won.candidate - won.reference) * won.episodes)
    assert found["mse"].episodes_needed < 100
    assert report.pairs[0].differences == ()


def test_a_run_against_itself_is_unclear_everywhere():
    a = contender("plain", 0.2, seeds=3)
    (pair,) = compare([a, a]).pairs
    assert all(m.verdict == "unclear" and m.found.p == 1.0 for m in pair.metrics)
    assert all(m.found.seeds == 3 for m in pair.metrics)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": "d2"}, "data: d1 against d2"),
        ({"budget": {"steps": "120 + 60", "batch size": "16"}}, "steps: 60 \\+ 60 against 120 \\+ 60"),
        ({"base": "other"}, "base: b against other"),
        ({"held_out": (1, 3)}, "held-out episodes"),
    ],
)
def test_unfair_comparisons_are_refused_and_said(change, says):
    a, b = contender("plain", 0.2), contender("svms", 0.1, facts=replace(FACTS, **change))
    with pytest.raises(ConfigError, match=says):
        compare([a, b])
    report = compare([a, b], force=True)
    assert len(report.pairs[0].differences) == 1
    assert report.pairs[0].differences[0] in render_markdown(report)


def test_another_evaluation_is_another_question():
    a, b = contender("plain", 0.2), contender("svms", 0.1)
    config = OpenLoopConfig(seed=0, stride=4)
    other = evaluate_open_loop(
        Replay(DATASET, noise=0.1), DATASET, range(3, 10), statistics=statistics(), config=config
    )
    b = Contender(name="svms", runs={0: replace(b.runs[0], open_loop=other)})
    with pytest.raises(ConfigError, match="stride"):
        compare([a, b])
    (pair,) = compare([a, b], force=True).pairs
    assert pair.metrics[0].found.episodes == 7, "only the episodes that both saw are paired"
    with pytest.raises(ConfigError, match="two or more"):
        compare([a])
    with pytest.raises(ConfigError, match="training seeds"):
        compare([a, contender("svms", 0.1, seeds=2)])


def test_what_nobody_wrote_down_is_unknown_not_equal():
    report = compare([contender("plain", 0.2, facts=None), contender("svms", 0.1)])
    assert report.pairs[0].unknown == ("plain: data, steps and budget (nobody wrote them down)",)
    assert "Unknown" in render_markdown(report)


def saved(folder, run: Run) -> None:
    run.open_loop.save(folder / "open_loop.json")
    run.facts.save(folder / "facts.json")
    if run.closed_loop is not None:
        run.closed_loop.save(folder / "closed_loop.json")


def test_runs_are_read_from_folders_seeds_demos_and_files(tmp_path):
    run = one("plain", 0.2, skill=0.5)
    saved(tmp_path / "single", run)
    assert Contender.load(tmp_path / "single").runs == {0: run}
    for seed in (3, 4):
        saved(tmp_path / "several" / f"seed_{seed}", one("plain", 0.2, seed=seed))
    assert sorted(Contender.load(tmp_path / "several").runs) == [3, 4]
    demo = {"dataset_path": "shipped", "base": "shipped", "seed": 7, "steps": [1, 2, 3], "batch_size": 4}
    (tmp_path / "demo" / "plain").mkdir(parents=True)
    (tmp_path / "demo" / "config.json").write_text(json.dumps(demo))
    run.open_loop.save(tmp_path / "demo" / "open_loop_plain.json")
    found = Contender.load(tmp_path / "demo" / "plain")
    assert found.runs[7].facts.budget["steps"] == "1 + 2 + 3"
    for name in ("open_loop", "closed_loop"):
        file = Contender.load(tmp_path / "single" / f"{name}.json")
        assert (file.name, getattr(file.runs[0], name)) == ("plain", getattr(run, name))
    trained = tmp_path / "trained"
    run.open_loop.save(trained / "open_loop.json")
    (trained / "passport.json").write_text('{"data": {"fingerprint": "f", "held_out": [1, 4]}}')
    (trained / "config.yaml").write_text("seed: 5\nmax_steps: [3, 4, 5]\nbase_model_path: b\nsave_steps: 100\n")
    facts = Contender.load(trained).runs[5].facts
    assert facts.differences() == {"data": "f", "base": "b", "max steps": "[3, 4, 5]", "held-out episodes": "[1, 4]"}
    for name, damage in (("passport.json", b'{"data": {"finger'), ("config.yaml", b"seed: \xff")):
        whole = (trained / name).read_bytes()
        (trained / name).write_bytes(damage)
        with pytest.raises(DataError, match=f"{name}: found a damaged file"):
            Contender.load(trained)
        (trained / name).write_bytes(whole)
    with pytest.raises(DataError, match="no results"):
        Contender.load(tmp_path)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        Contender.load(tmp_path / "x.json")


def test_the_command_prints_and_writes(tmp_path, capsys):
    saved(tmp_path / "a", one("plain", 0.2, skill=0.4))
    saved(tmp_path / "b", one("svms", 0.1, skill=0.9, facts=replace(FACTS, data="d2")))
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert stopped.value.code == 2
    assert "data: d1 against d2" in capsys.readouterr().err
    out = tmp_path / "report.json"
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--force", "--output", str(out)])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "not equal: data" in printed
    assert "McNemar" in printed
    assert CompareReport.load(out).pairs[0].candidate == "b"
