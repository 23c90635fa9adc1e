"""The page of gpu.py from the rows so far; what was not measured says so."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
PEAK = {
    ("specialise", "adamw"): 8.0,
    ("couple", "adamw"): 11.5,
    ("end to end", "adamw"): 26.5,
    ("end to end", "adamw8bit"): 19.0,
}
"""Most GiB of each phase at three views, saving and context included."""
LATENCY = {1: 12.0, 3: 14.0}
"""Most milliseconds of an action at batch 1, captured."""
MFU = 0.4
"""Least share of the card's arithmetic in phase 1."""


def page(rows: Sequence[Row]) -> str:
    """Markdown."""
    setup = rows[0]
    known = ", ".join(f"{k} {v}" for k, v in setup.items() if k not in ("part", "at_s", "device", "preset", "commit"))
    ended = "" if _of(rows, "done") else " It was cut short, or still runs."
    lines = [
        f"# {setup['preset']} on {setup['device']}",
        "",
        f"Commit {setup['commit']}; {known}. Random weights. Measured until second {rows[-1]['at_s']:.0f}.{ended}",
        "",
        *_right(rows),
        *_latency(rows),
        *_ratios(rows),
        *_stages(rows),
        *_policy(rows),
        *_training(rows),
        *_failures(rows),
    ]
    return "\n".join(lines) + "\n"


def _of(rows: Sequence[Row], part: str) -> list[Row]:
    return [row for row in rows if row["part"] == part and "failed" not in row]


def _table(title: str, heads: Sequence[str], cells: Sequence[Sequence[Any]], note: str = "") -> list[str]:
    lines = [f"## {title}", ""]
    if not cells:
        return [*lines, "*not measured*", ""]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in cells]
    return [*lines, "", *([note, ""] if note else [])]


def _number(value: float | None, form: str = ".2f") -> str:
    return "*not measured*" if value is None else f"{value:{form}}"


def _met(fine: bool) -> str:
    return "met" if fine else "MISSED"


def _right(rows: Sequence[Row]) -> list[str]:
    best, right = (next(iter(_of(rows, part)), None) for part in ("ceilings", "correctness"))
    first = "Ceilings: *not measured*."
    if best is not None:
        first = f"Ceilings: {best['tflops']:.1f} TFLOP/s in matrix products, copies at {best['tb_per_s']:.2f} TB/s."
    second = "Shortcuts against the plain computation, pictures against the host's: *not measured*."
    if right is not None:
        pictures = "equal" if right["pictures_equal"] else "DIFFERENT"
        verdict = "pass" if right["ok"] else "FAIL"
        second = (
            f"Shortcuts against the plain computation: {right['relative_error']:.1e}; pictures {pictures}: {verdict}."
        )
    return [first, second, ""]


def _latency(rows: Sequence[Row]) -> list[str]:
    checks = {(row["views"], row["model"], row["mode"]): row for row in _of(rows, "captured")}
    cells = []
    for row in _of(rows, "latency"):
        check = checks.get((row["views"], row["model"], row["mode"]))
        most = LATENCY.get(row["views"]) if "graph" in row["mode"] else None
        verdict = "" if most is None else f"{most:g} {_met(row['p50'] <= most)}"
        same = "" if check is None else f"{check['relative_error']:.1e} {'pass' if check['ok'] else 'FAIL'}"
        times = [f"{row[name]:.2f}" for name in ("p50", "p95", "max")]
        cells.append([row["views"], row["model"], row["mode"], *times, same, verdict])
    heads = ("views", "model", "mode", "p50 ms", "p95", "max", "against eager, other inputs", "target")
    return _table("An action at batch 1, inputs on the device", heads, cells)


def _ratios(rows: Sequence[Row]) -> list[str]:
    cells = [
        [row["views"], row["what"], row["mode"], f"{row['median']:.4f}", f"{row['low']:.4f} to {row['high']:.4f}"]
        for row in _of(rows, "ratio")
    ]
    note = "Both sides in one mode; rounds alternate A B B A and B A A B; the A/A row is the noise."
    return _table("What SVMS costs", ("views", "ratio", "mode", "median", "95 % interval"), cells, note)


def _stages(rows: Sequence[Row]) -> list[str]:
    cells = [
        [row["views"], row["model"], row["stage"], f"{row['eager']:.2f}", _number(row.get("graph"))]
        for row in _of(rows, "stage")
    ]
    return _table("Stages of an action", ("views", "model", "stage", "eager ms", "captured ms"), cells)


def _policy(rows: Sequence[Row]) -> list[str]:
    cells = [
        [row["views"], row["mode"], *(f"{row[name]:.2f}" for name in ("p50", "p95", "max"))]
        for row in _of(rows, "policy")
    ]
    note = "By the clock, resizing, prompt, transfers and decoding included."
    for row in _of(rows, "policy check"):
        note += f" Captured against eager on {row['inputs']} inputs: at most {row['worst']:.1e} of an action's spread."
    return _table("Frames of 256 pixels to physical actions", ("views", "mode", "p50 ms", "p95", "max"), cells, note)


def _training(rows: Sequence[Row]) -> list[str]:
    cells = []
    for row in _of(rows, "training"):
        held = [row.get(f"{name}_gib") for name in ("reserved", "context")]
        total = None if None in held else sum(held)  # type: ignore[arg-type]
        most = PEAK.get((row["phase"], row["optimizer"])) if row["views"] == 3 and not row["cached"] else None
        verdict = "" if most is None or total is None else f"{most:g} {_met(total <= most)}"
        memory = [_number(row.get(f"{name}_gib")) for name in ("allocated", "reserved", "context", "saving")]
        planned = "" if "planned_gib" not in row else f"{row['planned_gib']:.2f}"
        speed = [f"{row['samples_per_s']:.1f}", f"{row['step_ms']:.1f}", f"{row['mfu']:.0%}"]
        saved = [f"{row[name]:.1f}" if name in row else "" for name in ("save_s", "resume_s")]
        again = f"{row['resumed_apart']:.1e}" if "resumed_apart" in row else ""
        what = [row["phase"], row["rows"], row["views"], row["optimizer"], "yes" if row["cached"] else ""]
        cells.append([*what, *memory, planned, verdict, *speed, *saved, again])
    heads = "phase, batch, views, optimiser, cached, allocated GiB, reserved, context, while saving, planned, target"
    heads += ", samples/s, step ms, MFU, save s, resume s, loss after resume"
    note = (
        "Under the cap of a 32 GB card. The target holds for reserved memory and context together. MFU counts matrix "
        f"products and attention against the measured ceiling; phase 1 is meant to reach {MFU:.0%}. The last column is "
        "the relative difference of the step after a resume to the step that went on."
    )
    return _table("Training", heads.split(", "), cells, note)


def _failures(rows: Sequence[Row]) -> list[str]:
    failed = [f"- {row['part']}: {row['failed']}" for row in rows if "failed" in row]
    return ["## Not measured", "", *failed] if failed else []
