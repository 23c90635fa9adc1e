"""The model card says what the run's files say, in the form that the Hub reads, and claims nothing else."""

import shutil

import pytest
from huggingface_hub import ModelCard
from report_sample import sample

from svms_gr00t.cli.main import main
from svms_gr00t.core.errors import DataError
from svms_gr00t.evaluate.comparison.run_facts import RunFacts
from svms_gr00t.evaluate.report.card import CardSource, render_card
from svms_gr00t.monitor import FILE, calibrate
from svms_gr00t.recipes.shipped import shipped

FACTS = RunFacts(name="svms", seed=3, data="abc123", held_out=(1,), base="shipped", budget={"steps": "1 + 2 + 3"})


@pytest.fixture
def run(tmp_path):
    """A run folder around the shipped base's processor and configuration."""
    policy = tmp_path / "drawer-svms" / "policy"
    policy.mkdir(parents=True)
    for name in ("config.json", "processor_config.json"):
        shutil.copy(shipped("tiny_base") / name, policy / name)
    FACTS.save(policy.parent / "facts.json")
    return policy.parent


def read(text: str) -> ModelCard:
    return ModelCard(text)


def test_a_run_without_results_claims_none(run):
    text = render_card(CardSource.of(run))
    card = read(text)
    assert card.data.license == "apache-2.0"
    assert card.data.eval_results is None
    assert "## Results\n\nNot measured." in text
    assert "plain GR00T N1.6" in text
    assert "monitor" not in text
    assert "abc123" in text
    assert "1 + 2 + 3" in text


def test_results_and_monitor_are_those_of_the_files(run):
    data = sample()
    result = data.open_loop[0]
    result.save(run / "open_loop.json")
    data.closed_loop[0].save(run / "closed_loop.json")
    calibrate({k: [0.1 * k] for k in range(10)}, alpha=0.1, edges=("a-b",)).save(run / "policy" / FILE)
    text = render_card(CardSource.of(run))
    measured = {one.metric_type: one.metric_value for one in read(text).data.eval_results}
    assert measured["mse"] == pytest.approx(result.scores.mse)
    assert measured["success_rate"] == pytest.approx(data.closed_loop[0].overall.rate.estimate)
    assert "0.9000" in text
    assert "at most 10% of clean chunks" in text


def test_a_report_is_quoted(run):
    data = sample()
    data.save(run / "report" / "report.json")
    text = render_card(CardSource.of(run))
    for row in data.comparison.rows:
        assert row.name in text
    assert all(gate.criterion in text for gate in data.gates)


@pytest.mark.parametrize(("base", "named"), [("nvidia/GR00T-N1.6-3B", True), ("/data/mine/base", False)])
def test_other_bases_keep_their_licence(run, base, named):
    RunFacts(name="a", seed=0, data="d", held_out=(), base=base).save(run / "facts.json")
    text = render_card(CardSource.of(run))
    card = read(text)
    assert card.data.license == "other"
    assert (card.data.base_model == base) is named
    assert "NVIDIA's own" in text


def test_the_command_writes_beside_the_weights_and_refuses_other_folders(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["card", str(run)])
    assert stopped.value.code == 0
    written = (run / "policy" / "README.md").read_text(encoding="utf-8")
    assert written == render_card(CardSource.of(run))
    assert "drawer-svms" in written
    capsys.readouterr()
    with pytest.raises(DataError, match="no policy"):
        CardSource.of(tmp_path)
