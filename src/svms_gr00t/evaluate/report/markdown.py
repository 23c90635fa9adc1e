"""The report in a page of Markdown: summary, comparison, gates, caveats. For logs, pull requests and model cards."""

from collections.abc import Sequence

from svms_gr00t.core.escape import code, markdown
from svms_gr00t.evaluate.report.data import Comparison, ReportData
from svms_gr00t.evaluate.report.format import NOT_MEASURED, cell_effect, cell_value, percent, span


def render_markdown(data: ReportData) -> str:
    """GitHub-flavoured Markdown; what was not measured says so."""
    parts = [f"# {markdown(data.title)}", markdown(data.subtitle)]
    parts += ["\n".join(f"- {markdown(line)}" for line in data.summary) or NOT_MEASURED]
    failed = [f"- Gate failed, {markdown(gate.phase)}: {markdown(gate.criterion)}" for gate in data.failed]
    parts += ["\n".join(failed)]
    parts += ["## Success by task", tasks_table(data) or NOT_MEASURED]
    parts += ["## Comparison", comparison_table(data.comparison) if data.comparison else NOT_MEASURED]
    parts += [f"Intervals: {percent(data.level)}. Effects are against {markdown(data.reference)}, paired by episode."]
    parts += ["## Gates", gates_table(data) or NOT_MEASURED]
    parts += [
        "## What was run",
        facts_table(data) or NOT_MEASURED,
    ]
    parts += ["## What this does not show", "\n".join(f"- {markdown(caveat)}" for caveat in data.caveats)]
    return "\n\n".join(part for part in parts if part) + "\n"


def facts_table(data: ReportData) -> str:
    """The passport; empty without one."""
    return _table(("", ""), [(markdown(f.name), code(f.value)) for f in data.passport])


def comparison_table(table: Comparison) -> str:
    """Every policy and baseline with every measured metric."""
    rows = []
    for row in table.rows:
        cells = []
        for cell, metric in zip(row.cells, table.metrics, strict=True):
            text = cell_value(cell, metric)
            if cell is not None and (interval := span(cell.low, cell.high, as_percent=metric.percent)):
                text += f" ({interval})"
            if cell is not None and (effect := cell_effect(cell, metric)):
                text += f"; {effect}"
            cells.append(text)
        name = markdown(row.name)
        rows.append((f"**{name}**" if row.role == "candidate" else name, *cells))
    return _table(("Policy", *(markdown(m.name) for m in table.metrics)), rows)


def tasks_table(data: ReportData) -> str:
    """Closed-loop success; empty when nothing was driven."""
    rows = []
    for result in data.closed_loop:
        for task, found in result.tasks.items():
            interval = span(found.rate.low, found.rate.high, as_percent=True) if found.rate else ""
            rows.append((markdown(task), markdown(result.policy), f"{found.successes} of {found.episodes}", interval))
    return _table(("Task", "Policy", "Success", "Interval"), rows)


def gates_table(data: ReportData) -> str:
    """Criteria after each phase; empty without any."""
    word = {True: "pass", False: "**fail**", None: NOT_MEASURED}
    rows = []
    for g in data.gates:
        said = (markdown(text) for text in (g.phase, g.criterion, g.measured or NOT_MEASURED))
        rows.append((*said, word[g.passed], "" if g.passed else markdown(g.advice)))
    return _table(("Phase", "Criterion", "Measured", "Result", "Advice"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
