"""The study's one table: success, points over plain, error where the past decides. What was not run is absent.

Sides are paired by training seed and by episode or scene; intervals are those of a new seed (`statistics/seeds.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from svms_gr00t.core.escape import markdown
from svms_gr00t.core.files.records import JsonRecord, write_text
from svms_gr00t.evaluate.closed_loop.result import RolloutResult
from svms_gr00t.evaluate.statistics.seeds import BySeed, SeedComparison, compare_seeds, success_rate
from svms_gr00t.evaluate.statistics.stats import Interval, effect_text, points
from svms_gr00t.recipes.memory_study.arms import ARMS, PLAIN
from svms_gr00t.recipes.memory_study.config import StudyConfig
from svms_gr00t.recipes.memory_study.driving import driven_files
from svms_gr00t.recipes.memory_study.run import SCORES, Place, Scores


@dataclass(frozen=True, kw_only=True)
class StudyRow(JsonRecord):
    """One side."""

    arm: str
    says: str
    added: int
    """Parameters beside plain N1.6."""
    rate: float
    """Its learning rate, chosen on other seeds."""
    seeds: tuple[int, ...]
    error: float
    """Normalised error over the executed steps at deciding steps of held-out episodes, mean over seeds."""
    against_plain: SeedComparison | None
    elsewhere: float
    """The error at other steps."""
    driven: tuple[int, ...]
    """Seeds whose policies were driven."""
    success: Interval | None
    success_against_plain: SeedComparison | None
    tasks: dict[str, float]
    """Success rate by task, mean over seeds."""


@dataclass(frozen=True, kw_only=True)
class StudyResult(JsonRecord):
    """The whole table."""

    config: StudyConfig
    rows: tuple[StudyRow, ...]

    def row(self, arm: str) -> StudyRow:
        """The row of a side. KeyError when it was not run."""
        return {row.arm: row for row in self.rows}[arm]

    def write(self, folder: Path) -> None:
        """study.json and study.md."""
        self.save(folder / "study.json")
        write_text(folder / "study.md", table(self))


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What is known of one side."""

    scores: dict[int, Scores]
    driven: dict[int, RolloutResult]

    def errors(self) -> BySeed:
        return {seed: one.own.error for seed, one in self.scores.items()}

    def wins(self) -> BySeed:
        return wins_of(self.driven)


def wins_of(driven: Mapping[int, RolloutResult]) -> BySeed:
    """Training seed -> scene -> 1 where it was won, else 0."""
    return {seed: {one.seed: float(one.success) for one in r.rollouts} for seed, r in driven.items()}


def summarise(config: StudyConfig, place: Place, rates: Mapping[str, float], seeds: Sequence[int]) -> StudyResult:
    """The table of finished runs, each side at its rate."""
    found = {arm: _found(place, arm, rate, seeds) for arm, rate in rates.items()}
    strays = {f"{arm}, another's memory": _strayed(place, arm, rates[arm], one) for arm, one in found.items()}
    everyone = found | {name: one for name, one in strays.items() if one.scores}
    plain = found.get(PLAIN)
    return StudyResult(config=config, rows=tuple(_row(name, one, plain) for name, one in everyone.items()))


def _found(place: Place, arm: str, rate: float, seeds: Sequence[int]) -> _Found:
    scores = {s: Scores.load(f) for s in seeds if (f := place.run(arm, rate, s) / SCORES).is_file()}
    return _Found(scores=scores, driven=driven_files(place, arm, rate, seeds))


def _strayed(place: Place, arm: str, rate: float, own: _Found) -> _Found:
    """The same policies with the memory of another episode."""
    scores = {s: Scores(**vars(one) | {"own": one.stray}) for s, one in own.scores.items() if one.stray is not None}
    return _Found(scores=scores, driven=driven_files(place, arm, rate, tuple(scores), stray=True))


def _row(name: str, own: _Found, plain: _Found | None) -> StudyRow:
    arm = name.split(",")[0]
    first = next(iter(own.scores.values()))
    reference = None if plain is None or own is plain else plain
    wins = own.wins()
    return StudyRow(
        arm=name,
        says=ARMS[arm].says + name.removeprefix(arm),
        added=first.added,
        rate=first.rate,
        seeds=tuple(own.scores),
        error=_mean_of_means(own.errors()),
        against_plain=None if reference is None else _paired(reference.errors(), own.errors()),
        elsewhere=_mean_of_means({seed: one.own.elsewhere for seed, one in own.scores.items()}),
        driven=tuple(own.driven),
        success=success_rate(wins) if wins else None,
        success_against_plain=None if reference is None else _paired(reference.wins(), wins, outcomes=True),
        tasks=_by_task(own.driven),
    )


def _paired(reference: BySeed, own: BySeed, *, outcomes: bool = False) -> SeedComparison | None:
    """On the seeds that both have: a side may have been run on fewer than another."""
    shared = sorted(set(reference) & set(own))
    both = ({seed: side[seed] for seed in shared} for side in (reference, own))
    return compare_seeds(*both, outcomes=outcomes) if shared else None


def _by_task(driven: Mapping[int, RolloutResult]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for result in driven.values():
        for one in result.rollouts:
            found.setdefault(one.task, []).append(float(one.success))
    return {task: sum(wins) / len(wins) for task, wins in found.items()}


def _mean_of_means(runs: BySeed) -> float:
    means = [sum(errors.values()) / len(errors) for errors in runs.values()]
    return sum(means) / len(means)


def table(result: StudyResult) -> str:
    """GitHub-flavoured Markdown."""
    tasks = next((list(row.tasks) for row in result.rows if row.tasks), [])
    head = ["side", "adds", "rate", "error where the past decides", "against plain (95 %)", "elsewhere"]
    head += ["success (95 %)", "points over plain (95 %)", *map(markdown, tasks)] * bool(tasks)
    lines, most = [head, ["---"] * len(head)], max((row.seeds for row in result.rows), key=len)
    for row in result.rows:
        fewer = "" if row.seeds == most else f" (seeds {', '.join(map(str, row.seeds))})"
        cells = [markdown(row.says) + fewer, f"{row.added:,}", f"{row.rate:g}", f"{row.error:.4f}"]
        cells += [span_text(row.against_plain.relative if row.against_plain else None, " %"), f"{row.elsewhere:.4f}"]
        if tasks:
            difference = row.success_against_plain.difference if row.success_against_plain else None
            cells += [rate_text(row.success), span_text(points(difference), "")]
            cells += [f"{100 * row.tasks[task]:.0f} %" if task in row.tasks else "" for task in tasks]
        lines.append(cells)
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return f"# Memory study\n\n{_about(result)}\n\n{text}\n"


def _about(result: StudyResult) -> str:
    c = result.config
    seeds = sorted({seed for row in result.rows for seed in row.seeds})
    driven = sorted({seed for row in result.rows for seed in row.driven})
    rates = ", ".join(f"{rate:g}" for rate in c.rates)
    by = "scenes won, then error" if c.rollouts else "error"
    chosen = f"the best of {rates} by {by} on seeds {c.rate_seeds}" if len(c.rates) > 1 else rates
    scenes = f"{c.rollouts} scenes a task, policies of seeds {driven}" if driven else "not driven"
    return (
        f"{c.demonstrations} demonstrations, {c.held_out:.0%} held out. Base: {c.steps_before} steps of the plain "
        f"model. Each side: {c.steps} steps at batch {c.batch_size}, rate {chosen}, {c.fresh_rate:g} times that for "
        f"what is new; seeds {seeds}. Memory: {c.memory_frames} steps, {c.stride} apart. Closed loop: {scenes}. Error: "
        "normalised, over the executed steps, mean of four draws. Paired by seed and by episode or scene; intervals "
        "are those of a new seed."
    )


def rate_text(found: Interval | None) -> str:
    """ "67 % (49 to 85)"; nothing where there is none."""
    if found is None:
        return ""
    return f"{100 * found.estimate:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})"


def span_text(interval: Interval | None, unit: str) -> str:
    """ "+12.1 (+3.6 to +20.7)"; nothing where there is none."""
    return "{} ({})".format(*effect_text(interval, unit)).replace("-", "−") if interval else ""
