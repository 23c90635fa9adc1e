"""What a benchmark must show before policies are compared on it. Numbers in, verdicts out.

A benchmark on which a policy that sees another episode's pictures does as well, or one that is told everything gains
nothing, cannot tell policies apart, however many seeds are spent on it. What was not measured has no verdict.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.evaluate.statistics.stats import Interval, wilson

SWAP, ORACLE_ERROR, ORACLE_POINTS, MORE = 1.5, 0.20, 0.20, 0.15
PLAIN = (0.30, 0.70)
EXPERT = 0.95
LEAST = 20
"""Episodes below which a rate says nothing: it counts as not measured."""


@dataclass(frozen=True, kw_only=True)
class Wins(JsonRecord):
    """Successes of so many episodes."""

    successes: int
    episodes: int

    @property
    def rate(self) -> Interval:
        """With its Wilson interval. Raises ConfigError for more successes than episodes, or none."""
        found = wilson(self.successes, self.episodes)
        assert found is not None, "a measurement has episodes"
        return found

    def __str__(self) -> str:
        return f"{self.successes}/{self.episodes}"


@dataclass(frozen=True, kw_only=True)
class Scripted(JsonRecord):
    """What hands that need no training reach on a task."""

    chance: float
    """Computed: what no policy without the knowledge in question exceeds."""
    expert: Wins
    """With all knowledge."""
    blind: Wins
    """Without it."""


@dataclass(frozen=True, kw_only=True)
class Measured(JsonRecord):
    """What is known of a suite; None: not measured."""

    suite: str
    tasks: dict[str, Scripted] = field(default_factory=dict)
    """Every task, or nothing."""
    plain: Wins | None = None
    """The plain policy, over all tasks."""
    oracle: Wins | None = None
    """One that is told what is missing, in the same scenes."""
    swapped: Wins | None = None
    """The plain one with another episode's pictures."""
    error: float | None = None
    """Held-out action error of the plain policy."""
    swapped_error: float | None = None
    """With another episode's pictures."""
    oracle_error: float | None = None
    few_error: float | None = None
    """Of the same training on few demonstrations."""
    many_error: float | None = None
    """And on many."""

    def chance(self) -> float | None:
        """Mean over the tasks."""
        return sum(t.chance for t in self.tasks.values()) / len(self.tasks) if self.tasks else None


@dataclass(frozen=True, kw_only=True)
class SuiteGate(JsonRecord):
    """One criterion."""

    name: str
    criterion: str
    measured: str | None
    """As it should be read; None: not measured."""
    passed: bool | None
    """None: not measured, which is no pass."""
    advice: str


def suite_gates(known: Measured) -> tuple[SuiteGate, ...]:
    """Every gate, measured or not."""
    plain, oracle, swapped = (_enough(one) for one in (known.plain, known.oracle, known.swapped))
    sure = all(_enough(t.expert) and _enough(t.blind) for t in known.tasks.values())
    return (
        scripted_gate(known.tasks if sure else {}),
        plain_gate(plain),
        swap_gate(known.error, known.swapped_error, swapped, known.chance()),
        oracle_gate(known.error, known.oracle_error, plain, oracle),
        demonstrations_gate(known.few_error, known.many_error),
    )


def fit_to_compare(gates: tuple[SuiteGate, ...]) -> bool:
    """Whether every gate was measured and passed."""
    return all(gate.passed is True for gate in gates)


def scripted_gate(tasks: Mapping[str, Scripted]) -> SuiteGate:
    """It can be done, and it cannot be done without the knowledge: more than chance would be a leak."""
    weak = [name for name, t in tasks.items() if t.expert.rate.estimate < EXPERT]
    leaks = [name for name, t in tasks.items() if t.blind.rate.low > t.chance]
    said = [f"{name} {tasks[name].expert} by its expert" for name in weak]
    said += [f"{name} {tasks[name].blind} against chance {tasks[name].chance:.0%}" for name in leaks]
    fine = f"{len(tasks)} tasks: experts {_range([t.expert for t in tasks.values()])}, blind within chance"
    return SuiteGate(
        name="experts and chance",
        criterion=f"experts succeed in {EXPERT:.0%} of each task, hands without the knowledge no more than by chance",
        measured=("; ".join(said) or fine) if tasks else None,
        passed=not (weak or leaks) if tasks else None,
        advice="mend the expert, or what a picture or the clock gives away",
    )


def plain_gate(plain: Wins | None) -> SuiteGate:
    """Neither hopeless nor solved: there is room in both directions."""
    low, high = PLAIN
    return SuiteGate(
        name="plain's range",
        criterion=f"the plain policy succeeds in {low:.0%} to {high:.0%}",
        measured=None if plain is None else _share(plain),
        passed=None if plain is None else low <= plain.rate.estimate <= high,
        advice="more or fewer demonstrations or steps, or other tasks",
    )


def swap_gate(
    error: float | None, swapped_error: float | None, swapped: Wins | None, chance: float | None
) -> SuiteGate:
    """Pictures matter: by the error, or by success that falls to chance."""
    said, passes = [], []
    if error is not None and swapped_error is not None:
        said.append(f"error x{swapped_error / error:.2f}")
        passes.append(swapped_error >= SWAP * error)
    if swapped is not None and chance is not None:
        said.append(f"success {_share(swapped)}, chance {chance:.0%}")
        passes.append(swapped.rate.low <= chance)
    return SuiteGate(
        name="picture swap",
        criterion=f"another episode's pictures raise the error x{SWAP:g}, or success falls to chance",
        measured="; ".join(said) or None,
        passed=any(passes) if passes else None,
        advice="vary what only pictures show; the robot's state tells too much",
    )


def oracle_gate(error: float | None, oracle_error: float | None, plain: Wins | None, oracle: Wins | None) -> SuiteGate:
    """There is something to know: who is told it does better."""
    said, passes = [], []
    if error is not None and oracle_error is not None:
        said.append(f"error {oracle_error / error - 1:+.0%}")
        passes.append(oracle_error <= (1 - ORACLE_ERROR) * error)
    if plain is not None and oracle is not None:
        gain = oracle.rate.estimate - plain.rate.estimate
        said.append(f"success {_share(plain)} to {_share(oracle)}, {100 * gain:+.0f} points")
        passes.append(gain >= ORACLE_POINTS)
    return SuiteGate(
        name="oracle",
        criterion=f"told what is missing: error {-ORACLE_ERROR:.0%}, or success +{100 * ORACLE_POINTS:.0f} points",
        measured="; ".join(said) or None,
        passed=any(passes) if passes else None,
        advice="the knowledge is worth nothing here: no policy that has it can win",
    )


def demonstrations_gate(few_error: float | None, many_error: float | None) -> SuiteGate:
    """Error is limited by data, not by optimisation or noise."""
    known = few_error is not None and many_error is not None
    gain = 1 - many_error / few_error if few_error is not None and many_error is not None else 0.0
    return SuiteGate(
        name="demonstrations",
        criterion=f"8 demonstrations a task instead of 3 lower the error by {MORE:.0%}",
        measured=f"error {-gain:+.0%}" if known else None,
        passed=gain >= MORE if known else None,
        advice="train longer before anything else is compared",
    )


def _enough(wins: Wins | None) -> Wins | None:
    return wins if wins is not None and wins.episodes >= LEAST else None


def _share(wins: Wins) -> str:
    return f"{wins} ({wins.rate.estimate:.0%})"


def _range(wins: list[Wins]) -> str:
    rates = [one.rate.estimate for one in wins] or [0.0]
    return f"{min(rates):.0%} to {max(rates):.0%}"
