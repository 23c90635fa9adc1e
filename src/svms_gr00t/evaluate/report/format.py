"""How reports write numbers: three digits that matter, a true minus sign, words where nothing was measured."""

from svms_gr00t.evaluate.report.data import Cell, Metric
from svms_gr00t.evaluate.statistics import stats

NOT_MEASURED = "not measured"


def plain(value: float | None, *, digits: int = 3) -> str:
    """Three significant digits: 0.123, 12.3, 1230."""
    if value is None:
        return NOT_MEASURED
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return _minus(f"{value:.0f}")
    text = f"{value:#.{digits}g}"  # "#" keeps trailing zeros, so that columns line up
    return _minus(text if "e" not in text else f"{value:.1e}")


def percent(share: float | None) -> str:
    """A share in [0, 1] as "83 %", on one line."""
    return NOT_MEASURED if share is None else f"{_minus(f'{100 * share:.0f}')}\N{NO-BREAK SPACE}%"


def signed(value: float) -> str:
    """ "+4.2", "−12", "−0.03": 0 only where it is 0."""
    return _minus(stats.signed(value, 0 if abs(value) >= 10 else 1))


def span(low: float | None, high: float | None, *, as_percent: bool = False) -> str:
    """ "0.12 to 0.19", empty without an interval."""
    if low is None or high is None:
        return ""
    if as_percent:
        return f"{100 * low:.0f} to {100 * high:.0f} %"
    return f"{plain(low)} to {plain(high)}"


def cell_value(cell: Cell | None, metric: Metric) -> str:
    """The number of one table cell."""
    if cell is None:
        return NOT_MEASURED
    return percent(cell.value) if metric.percent else plain(cell.value)


def cell_effect(cell: Cell, metric: Metric) -> str:
    """ "−12 % (−20 to −4)" of the reference, or percentage points; empty without a reference."""
    if cell.effect is None:
        return ""
    e, unit = cell.effect, "points" if metric.percent else "%"
    interval = f"({signed(e.low)} to {signed(e.high)})".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{signed(e.estimate)}\N{NO-BREAK SPACE}{unit} {interval}"


def verdict(cell: Cell, metric: Metric) -> str:
    """better, worse, or unclear when the interval of the effect holds 0; empty without a reference."""
    if cell.effect is None:
        return ""
    if not cell.effect.excludes(0.0):
        return "unclear"
    return "better" if (cell.effect.estimate < 0) == (metric.better == "lower") else "worse"


def _minus(text: str) -> str:
    text = text.replace("-", "−")
    return text.lstrip("−") if not any(c in "123456789" for c in text) else text
