"""Comparing runs: paired by seed and episode, refused when it would not be fair, and read from every kind of folder."""

import json
from dataclasses import replace

import pytest
from evaluate_toys import LineEnv, Listener, Replay, ToyDataset, statistics

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.escape import markdown
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
    report = compare([contender("plain", 0.2, skill=0.2), contender("svms", 0.1, skill=0.95)])
    found = {m.metric: m for m in report.pairs[0].metrics}
    assert set(found) == {"mse", "executed_mse", "first_mse", SUCCESS}
    assert found["mse"].found.relative.estimate == pytest.approx(-75, abs=8)
    assert found["mse"].verdict == "better"
    assert found["mse"].found.p < 0.01
    assert found[SUCCESS].verdict == "better"
    test = found[SUCCESS].tests[0]
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
    assert markdown(report.pairs[0].differences[0]) in render_markdown(report)


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


def changed(side: Contender, result: str, **fields) -> Contender:
    """The same numbers under other rules: a field of the open-loop result, or of the closed loop's config."""
    run = side.runs[0]
    found = getattr(run, result)
    if result == "open_loop":
        other = replace(found, **fields)
    else:
        other = replace(found, config=replace(found.config, **fields))
    return Contender(name="other", runs={0: replace(run, **{result: other})})


RULES = [
    ("open_loop", {"horizon": 8}, "open-loop horizon: 16 against 8"),
    ("open_loop", {"executed": 4}, "open-loop executed: 8 against 4"),
    ("open_loop", {"language": "empty"}, "open-loop language"),
    ("open_loop", {"seed": 3}, "open-loop seed"),
    ("closed_loop", {"n_action_steps": 4}, "closed-loop n_action_steps: 8 against 4"),
    ("closed_loop", {"horizon": 80}, "closed-loop horizon: 40 against 80"),
    ("closed_loop", {"horizons": {"left": 20}}, "closed-loop horizons"),
    ("closed_loop", {"episodes": 11}, "closed-loop episodes"),
    ("closed_loop", {"seed": 6}, "closed-loop seed"),
    ("closed_loop", {"split": "paraphrase"}, "closed-loop split"),
    ("closed_loop", {"threshold": 0.5}, "closed-loop threshold"),
]


@pytest.mark.parametrize(("result", "fields", "says"), RULES, ids=[says for *_, says in RULES])
def test_other_rules_are_other_questions(result, fields, says):
    a = contender("plain", 0.2, skill=0.5)
    with pytest.raises(ConfigError, match=says):
        compare([a, changed(a, result, **fields)])
    (pair,) = compare([a, changed(a, result, **fields)], force=True).pairs
    assert len(pair.differences) == 1
    assert compare([a, changed(a, result)]).pairs[0].differences == ()


def with_flow(run: Run, losses: dict[int, float | None]) -> Run:
    scores = run.open_loop.scores
    episodes = {e: replace(one, flow_loss=losses.get(e)) for e, one in scores.episodes.items()}
    methods = {run.open_loop.policy: replace(scores, episodes=episodes)}
    return replace(run, open_loop=replace(run.open_loop, methods=methods))


def test_a_metric_counts_only_where_every_episode_has_it():
    """One episode without a flow loss takes it from that seed, not from the other one."""
    every = {e: 0.1 * e for e in range(1, 10)}
    a, b = (contender(name, noise, seeds=2) for name, noise in (("plain", 0.2), ("svms", 0.1)))
    a = Contender(name="plain", runs={s: with_flow(run, every) for s, run in a.runs.items()})
    holes = {0: every, 1: {e: v for e, v in every.items() if e != 4}}
    b = Contender(name="svms", runs={s: with_flow(run, holes[s]) for s, run in b.runs.items()})
    found = {m.metric: m.found for m in compare([a, b]).pairs[0].metrics}
    assert found["mse"].seeds == 2
    assert (found["flow_loss"].seeds, found["flow_loss"].episodes) == (1, 9)


def test_pairs_without_any_spread_ask_for_no_number_of_episodes():
    """Equal flow losses everywhere: no more episodes would tell anything; unequal ones give a number."""
    losses = dict.fromkeys(range(1, 10), 0.5)
    a, b = (with_flow(one(name, noise), losses) for name, noise in (("plain", 0.2), ("svms", 0.1)))
    sides = [Contender(name=name, runs={0: run}) for name, run in (("plain", a), ("svms", b))]
    found = {m.metric: m for m in compare(sides).pairs[0].metrics}
    assert found["flow_loss"].episodes_needed is None
    assert found["flow_loss"].found.p == 1.0
    assert found["mse"].episodes_needed >= 2
    assert found["flow_loss"].verdict == "unclear"


def test_outcomes_of_several_seeds_are_not_pooled():
    """One McNemar test a seed, each over its own 24 scenes, and an interval that agrees with the p beside it."""
    a, b = contender("plain", 0.2, seeds=2, skill=0.3), contender("svms", 0.1, seeds=2, skill=0.9)
    report = compare([a, b])
    found = next(m for m in report.pairs[0].metrics if m.metric == SUCCESS)
    assert sorted(found.tests) == [0, 1]
    for seed, test in found.tests.items():
        wins = [{r.seed: r.success for r in side.runs[seed].closed_loop.rollouts} for side in (a, b)]
        assert test.only_candidate == sum(wins[1][scene] and not wins[0][scene] for scene in wins[0])
    assert found.found.difference.excludes(0.0) == (found.found.p < 0.05)
    text = render_markdown(report)
    assert "McNemar, seed 0: only plain won" in text
    assert "McNemar, seed 1: only plain won" in text
    assert CompareReport.from_json(report.to_json()) == report


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
        with pytest.raises(DataError, match=f"{name}: found b(roken|ytes)"):
            Contender.load(trained)
        (trained / name).write_bytes(whole)
    with pytest.raises(DataError, match="no results"):
        Contender.load(tmp_path)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DataError, match="broken JSON"):
        Contender.load(tmp_path / "x.json")


def test_the_command_prints_and_writes(tmp_path, capsys):
    saved(tmp_path / "a", one("plain", 0.2, skill=0.4))
    saved(tmp_path / "b", one("svms", 0.1, skill=0.9, facts=replace(FACTS, data="d2")))
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert stopped.value.code == 2
    assert "data: d1 against d2" in capsys.readouterr().err
    out, page = tmp_path / "report.json", tmp_path / "report.html"
    with pytest.raises(SystemExit) as stopped:
        main(
            ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--force", "--output", str(out), "--html", str(page)]
        )
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    text = page.read_text()
    assert f"svms-gr00t compare {tmp_path}/a {tmp_path}/b --html {page} --force --output {out}" in text, "what was run"
    assert "<h1>b against a</h1>" in text
    assert "<h3>b against a</h3>" in text, "the printed table"
    assert "Not equal: data: d1 against d2." in text
    assert "not equal: data" in printed
    assert "McNemar" in printed
    assert CompareReport.load(out).pairs[0].candidate == "b"
