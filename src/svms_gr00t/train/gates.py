"""After each phase: its criteria, what was measured, pass or fail, and what to try next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ACCURACY, RHO, RANK_KEPT = 0.70, 0.15, 0.5


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One criterion."""

    phase: str
    criterion: str
    measured: str | None
    """None: not measured."""
    passed: bool | None
    advice: str


def specialise_gate(
    balanced_accuracy: Mapping[str, float | None], lookup: Mapping[str, float] | None = None
) -> list[GateResult]:
    """Each stream finds its own words in wordings that training does not have.

    `lookup`: what a table of the training words reaches there, which is said beside it.
    """
    results = []
    for stream, value in balanced_accuracy.items():
        table = (lookup or {}).get(stream)
        beside = "" if table is None else f", a table of the training words {table:.3f}"
        results.append(
            GateResult(
                phase="specialise",
                criterion=f"{stream}: balanced accuracy above {ACCURACY:.2f} on wordings that training does not have",
                measured=None if value is None else f"{value:.3f}{beside}",
                passed=None if value is None else value > ACCURACY,
                advice="word the demonstrations in more ways, raise lambda_aux to 0.8, or train longer",
            )
        )
    return results


def couple_gate(
    rho: Mapping[str, float],
    rank: Mapping[str, Sequence[float]],
    start: Mapping[str, Sequence[float]],
    type_information: float | None,
) -> list[GateResult]:
    """Agreement that is not collapse, and routes that depend on the kind of token."""
    results = []
    for edge, value in rho.items():
        kept = min(now / max(before, 1e-9) for now, before in zip(rank[edge], start[edge], strict=True))
        results.append(
            GateResult(
                phase="couple",
                criterion=f"{edge}: rho below {RHO:.2f} with at least {RANK_KEPT:.0%} of the rank kept",
                measured=f"rho {value:.3f}, rank kept {kept:.0%}",
                passed=value < RHO and kept >= RANK_KEPT,
                advice="delay the sheaf (sheaf_delay_until_diffusion down), or raise lambda_sheaf_max",
            )
        )
    results.append(
        GateResult(
            phase="couple",
            criterion="the route tells something about the kind of word",
            measured=None if type_information is None else f"{type_information:.3f} of its class",
            passed=None if type_information is None else type_information > 0.01,
            advice="lower router_balance_weight, or let the temperature fall further",
        )
    )
    return results


def end_gate(svms_error: float, plain_error: float) -> list[GateResult]:
    """Open-loop error below the equally trained plain model."""
    return [
        GateResult(
            phase="end to end",
            criterion="open-loop error below the equally trained plain model",
            measured=f"{svms_error:.4f} against {plain_error:.4f}",
            passed=svms_error < plain_error,
            advice="look at the interval first; then more data, a longer phase 3 or a lower learning rate",
        )
    ]
