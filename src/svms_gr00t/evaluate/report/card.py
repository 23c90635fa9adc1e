"""A Hugging Face model card from what a run left behind; what was not measured is not claimed.

report.json (or report/report.json) | open_loop.json, closed_loop.json      results
facts.json | passport.json | demo's config.json                             what was trained, on what
config.json, monitor.json of the policy folder                              the model, its monitor
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.escape import code, markdown, plain
from svms_gr00t.evaluate.comparison.contenders import Contender, Run
from svms_gr00t.evaluate.comparison.run_facts import RunFacts
from svms_gr00t.evaluate.report.comparison import build_comparison
from svms_gr00t.evaluate.report.data import CAVEATS, ReportData
from svms_gr00t.evaluate.report.markdown import comparison_table, facts_table, gates_table, tasks_table
from svms_gr00t.groot.checkpoint.model_card import UNKNOWN, CardFacts, assemble, licence, metadata
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.monitor import Monitor


@dataclass(frozen=True, kw_only=True)
class CardSource:
    """Everything the card may say."""

    name: str
    config: Gr00tN1d6Config
    report: ReportData | None
    run: Run
    facts: RunFacts | None
    monitor: Monitor | None

    @classmethod
    def of(cls, folder: Path | str) -> "CardSource":
        """Read a run folder, a demo (its SVMS policy) or a checkpoint. Raises DataError when it is none of them."""
        folder = Path(folder)
        policy = policy_of(folder)
        run_folder = policy.parent if policy.name == "policy" else policy
        files = (
            folder / "report.json",
            folder / "report" / "report.json",
            run_folder.parent / "report" / "report.json",
        )
        report = next((ReportData.load(file) for file in files if file.is_file()), None)
        return cls(
            name=folder.resolve().name,
            config=Gr00tN1d6Config.load(policy / "config.json"),
            report=report,
            run=_results(run_folder),
            facts=RunFacts.of(run_folder),
            monitor=Monitor.beside(policy),
        )

    @property
    def card(self) -> CardFacts:
        """What holds without any result."""
        return CardFacts(
            name=self.name,
            base=self.facts.base if self.facts is not None else UNKNOWN,
            svms=self.config.has_streams,
            streams=self.config.stream_names,
            d_stream=self.config.d_stream,
            d_overlap=self.config.d_overlap,
            parameters=self.facts.parameters if self.facts is not None else None,
        )


def policy_of(folder: Path | str) -> Path:
    """The policy folder of a run, of a demo's SVMS policy, or itself. Raises DataError when there is none."""
    folder = Path(folder)
    for found in (folder / "svms" / "policy", folder / "policy", folder):
        if (found / "config.json").is_file() and (found / "processor_config.json").is_file():
            return found
    want, hint = "a run or checkpoint folder", "Pass a folder that `svms-gr00t train` or `demo` wrote"
    raise DataError(folder, got="no policy", want=want, hint=hint)


def _results(folder: Path) -> Run:
    try:
        return next(iter(Contender.load(folder).runs.values()))
    except DataError:
        return Run()


def render_card(source: CardSource) -> str:
    """README.md with the metadata block that the Hub reads."""
    facts = source.card
    parts = ["## Results", *_results_text(source)]
    if source.monitor is not None:
        parts += ["## Disagreement monitor", _monitor(source.monitor)]
    parts += ["## Training", _training(source)]
    parts += ["## Limits", "\n".join(f"- {line}" for line in CAVEATS), "## Licence", licence(facts.base)]
    return assemble(facts, metadata(facts, _measured(source)), parts)


def _measured(source: CardSource) -> list[EvalResult]:
    shared: dict[str, Any] = {"task_type": "robotics", "dataset_type": "lerobot", "dataset_name": "held-out episodes"}
    found = []
    if source.run.open_loop is not None:
        error = source.run.open_loop.scores.mse
        found.append(EvalResult(**shared, metric_type="mse", metric_name="normalised action error", metric_value=error))
    if source.run.closed_loop is not None and (rate := source.run.closed_loop.overall.rate) is not None:
        driven = shared | {"dataset_name": plain("closed loop, " + ", ".join(source.run.closed_loop.config.tasks))}
        found.append(EvalResult(**driven, metric_type="success_rate", metric_value=rate.estimate))
    return found


def _results_text(source: CardSource) -> Sequence[str]:
    report, run = source.report, source.run
    if report is not None:
        found = [report.comparison and comparison_table(report.comparison), tasks_table(report), gates_table(report)]
        return [text for text in found if text] or ["Not measured."]
    if run.open_loop is None and run.closed_loop is None:
        return ["Not measured."]
    name = (run.open_loop or run.closed_loop).policy  # type: ignore[union-attr]
    open_loop, closed_loop = ([r] if r is not None else [] for r in (run.open_loop, run.closed_loop))
    built = build_comparison(open_loop, closed_loop, candidate=name, reference=name)  # type: ignore[arg-type]
    return [comparison_table(built)]


def _monitor(monitor: Monitor) -> str:
    return (
        f"A chunk is flagged when the streams' disagreement is above {monitor.threshold:.4f}. Calibrated on "
        f"{monitor.chunks} chunks of {monitor.episodes} clean episodes: at most {monitor.alpha:.0%} of clean "
        f"{monitor.per}s are flagged. A flag says that the streams disagree more than on clean data, not that the "
        "robot will fail; the robot's own state does not pass through the streams."
    )


def _training(source: CardSource) -> str:
    if source.report is not None and source.report.passport:
        return facts_table(source.report)
    if source.facts is None:
        return "Not written down."
    f = source.facts
    rows = {"base": f.base, "data": f.data, "seed": str(f.seed)} | f.budget
    return "\n".join(["| | |", "| --- | --- |", *(f"| {markdown(k)} | {code(v)} |" for k, v in rows.items())])
