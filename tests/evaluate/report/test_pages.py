"""The page of one command: its own sections and tables, nothing about what it did not measure."""

import re
from dataclasses import replace

import pytest
from report_sample import sample
from test_report import Reader

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.evaluate.comparison.compare import compare
from svms_gr00t.evaluate.comparison.contenders import Contender, Run
from svms_gr00t.evaluate.report.data import HeldOutCurves, ReportData, Table
from svms_gr00t.evaluate.report.html import render_html
from svms_gr00t.evaluate.report.pages import compare_page, open_loop_page, rollout_page
from svms_gr00t.recipes.training.evidence import held_out_curves
from svms_gr00t.sheaf.graph import build_graph

GRAPH = ("visual-temporal", "temporal-state")


@pytest.fixture(scope="module")
def data() -> ReportData:
    return sample(episodes=6)


def text_of(page: str) -> str:
    return " ".join(" ".join(Reader(page).text).split())


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="([\w-]+)"', page)


def row(step: int, flow: float, **more: float) -> dict[str, float]:
    return {"step": step, "held_out.flow": flow, "held_out.action_error": flow / 2, **more}


def test_held_out_measures_go_on_from_phase_to_phase() -> None:
    first = [{"step": 0, "loss": 1.0}, row(4, 0.9), row(9, 0.8)]
    second = [row(1, 0.7, **{"held_out.rho.a-b": 0.3}), {"step": 4, "loss": 0.1}]
    third = [row(0, 0.5)]
    found = held_out_curves("svms", {"specialise": first, "couple": second, "end to end": third})
    assert found.steps == (5, 10, 12, 16), "steps done; a phase counts its last row, measured or not"
    assert found.phases == {"specialise": 0, "couple": 10, "end to end": 15}
    assert found.measures["flow"] == (0.9, 0.8, 0.7, 0.5)
    assert found.measures["rho.a-b"] == (None, None, 0.3, None)


def curves(policy: str, *parts: str, start: float) -> HeldOutCurves:
    names = ("flow", "action_error", *parts)
    measures = {name: tuple(start / (k + 1 + i) for k in range(4)) for i, name in enumerate(names)}
    return HeldOutCurves(policy=policy, steps=(5, 10, 15, 20), measures=measures, phases={"one": 0, "two": 10})


def figures(page: str, name: str) -> list[str]:
    return re.findall(rf'<svg role="img" aria-label="held out: {name}".*?</svg>', page, flags=re.DOTALL)


def test_both_policies_are_on_one_axis_and_parts_are_named(data: ReportData) -> None:
    parts = ("rho.visual-temporal", "rho.temporal-state", "accuracy.visual", "accuracy.state")
    both = (curves("svms", *parts, start=0.9), curves("plain", start=0.7))
    page = render_html(replace(data, held_out=both))
    for name in ("flow loss", "action error"):
        (drawn,) = figures(page, name)
        assert {"svms", "plain", "one", "two"} <= set(re.findall(r">([\w.-]+)</text>", drawn))
    (rho,), (accuracy,) = figures(page, "disagreement ρ"), figures(page, "balanced accuracy")
    assert ">visual-temporal</text>" in rho
    assert ">plain</text>" not in rho, "plain has no streams"
    assert ">gate 0.15</text>" in rho
    assert "gate" not in accuracy, "the gate asks for wordings that training does not have"
    two = (both[0], replace(both[0], policy="other"))
    assert ">other state</text>" in figures(render_html(replace(data, held_out=two)), "balanced accuracy")[0]
    assert "held out:" not in render_html(data)


def test_a_page_has_its_own_sections_and_says_nothing_of_the_others(data: ReportData) -> None:
    driven, offline = data.closed_loop[0], data.open_loop[0]
    page = render_html(rollout_page(driven))
    assert sections(page) == ["summary", "closed-loop", "rollout", "run", "limits"]
    assert f"{driven.overall.successes} of {driven.overall.episodes}" in text_of(page)
    assert "Open-loop error measures agreement" not in page, "a caveat of what was not measured"
    assert {">edge 1</text>", ">stream 1</text>"} <= set(re.findall(r">\w+ 1</text>", page)), "no name is known"
    named = render_html(rollout_page(driven, build_graph(("look", "recall", "feel"))))
    assert {">look-recall</text>", ">recall-feel</text>"} <= set(re.findall(r">\w+-\w+</text>", named))
    assert not re.search(r">(edge|stream) 1</text>", named)
    page = render_html(open_loop_page(offline))
    assert sections(page) == ["summary", "comparison", "open-loop", "run", "limits"]
    assert f"{offline.scores.mse:.4f}" in text_of(page)
    with pytest.raises(ConfigError, match="gossip"):
        replace(data, sections=("gossip",))


def test_tables_stand_as_they_were_printed(data: ReportData) -> None:
    table = Table(title="By <task>", head=("task", "success"), rows=(("open & close", "3/4"), ("press", "")))
    page = render_html(replace(data, tables=(table,)))
    assert sections(page)[-3:] == ["tables", "run", "limits"]
    assert "<h3>By &lt;task&gt;</h3>" in page
    assert '<th scope="row">open &amp; close</th><td>3/4</td>' in page
    assert "tables" not in sections(render_html(data)), "no empty place for them"


def test_a_comparison_opens_with_success_and_names_its_sides(data: ReportData) -> None:
    svms, plain = (
        Contender(name=name, runs={0: Run(open_loop=data.open_loop[i], closed_loop=data.closed_loop[i])})
        for i, name in enumerate(("with <b>", "without"))
    )
    report = compare([plain, svms])
    page = compare_page(report, [plain, svms], [curves("with <b>", start=0.9), curves("without", start=0.8)])
    assert page.title == "with <b> against without"
    assert [line.split(":")[0] for line in page.summary] == ["Success", "Error", "Error of executed steps"]
    (metric,) = (m for m in report.pairs[0].metrics if m.metric == "mse")
    assert f"with <b> {metric.found.candidate:.4f}, without {metric.found.reference:.4f}" in page.summary[1]
    assert page.summary[1].endswith(f"{metric.verdict}.")
    html = render_html(page)
    training = html[html.index('<section id="training"') : html.index('<section id="open-loop"')]
    assert "not measured" not in text_of(training), "a comparison knows the held-out side alone"
    assert sections(html) == ["summary", "closed-loop", "comparison", "training", "open-loop", "run", "limits"]
    assert "<b>" not in html.replace('<b style="left', "")
    assert html.count("film pair") == 2, "a film a task, side by side"
    twice = Contender(name="without", runs={0: plain.runs[0], 1: plain.runs[0]})
    several = compare([twice, replace(twice, name="x")])
    assert "training seed 0, the tables of all" in compare_page(several, [twice, replace(twice, name="x")]).subtitle
