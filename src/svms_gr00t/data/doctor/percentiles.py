"""What normalising by q01 and q99 takes away: N1.6's `use_percentiles` clips to them, in both directions.

Axes: D elements of a key.

    frozen   q01 = q99 although the element moves: a base that drives in 2 of 300 steps is never driven again
    cut      the far end lies further beyond a percentile than most of what lies between: a gripper that stops half-way

Smooth numbers lose the last hundredth of a bell curve at each end, which is what percentiles are for: no finding. Nor
for a state that is cut: the model sees that it is far out, if not how far.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from svms_gr00t.data.doctor.finding import Finding, Severity
from svms_gr00t.data.doctor.subject import Subject
from svms_gr00t.data.processor.normalize import still

FAR = 0.75
"""Of q99 - q01: a million draws of a bell curve reach 0.55 beyond."""


def lost_to_percentiles(
    name: str,
    bounds: Float[np.ndarray, "2 D"],
    whole: Float[np.ndarray, "2 D"],
    share: Float[np.ndarray, " D"],
    *,
    severity: Severity,
) -> Iterator[Finding]:
    """Findings of one key, from its [q01, q99], its [min, max] and the share of values outside the first.

    `severity` is that of a frozen element of an action; everything else is a step milder.
    """
    milder: dict[Severity, Severity] = {"error": "warning", "warning": "note", "note": "note"}
    moves = ~still(*whole)
    frozen = np.flatnonzero(still(*bounds) & moves)
    span = np.maximum(bounds[1] - bounds[0], np.finfo(float).tiny)
    beyond = np.maximum(whole[1] - bounds[1], bounds[0] - whole[0]) / span
    cut = np.flatnonzero(~still(*bounds) & (beyond > FAR))
    does = "is never commanded again" if name.startswith("action") else "is never seen"
    kept = f"--min-max-embedding-keys {name} keeps minimum and maximum for this key"
    todo = f"Matters where a base normalises by percentiles (use_percentiles): {kept}"
    if len(frozen):
        found = (
            f"motion of {_named(frozen)} in {share[frozen].max():.2%} of the steps at most, so that q01 = q99: by"
            f" percentiles it {does}"
        )
        mild = severity if name.startswith("action") else milder[severity]
        yield Finding(severity=mild, check="percentiles", where=name, found=found, todo=todo)
    if len(cut) and name.startswith("action"):
        worst = cut[np.argmax(beyond[cut])]
        ends = [f"[{low:.3g}, {high:.3g}]" for low, high in (bounds[:, worst], whole[:, worst])]
        found = (
            f"element {worst} goes from {ends[0]} (q01, q99) to {ends[1]}: by percentiles {share[worst]:.2%} of its"
            f" values are cut off"
        )
        found += f"; also {_named(cut[cut != worst])}" if len(cut) > 1 else ""
        yield Finding(severity=milder[severity], check="percentiles", where=name, found=found, todo=todo)


def check_percentiles(subject: Subject) -> Iterator[Finding]:
    """Commands so rare that a base which normalises by percentiles would lose them."""
    for name in subject.keys:
        rows = subject.stacked(name)
        if len(rows) < 2 or not np.isfinite(rows).all():
            continue
        bounds = np.quantile(rows, (0.01, 0.99), axis=0)
        whole = np.stack([rows.min(axis=0), rows.max(axis=0)])
        slack = 1e-6 * np.abs(bounds).max(axis=0)
        share = ((rows < bounds[0] - slack) | (rows > bounds[1] + slack)).mean(axis=0)
        yield from lost_to_percentiles(name, bounds, whole, share, severity="warning")


def _named(elements: np.ndarray) -> str:
    return f"element{'s' * (len(elements) > 1)} {', '.join(map(str, elements.tolist()))}"
