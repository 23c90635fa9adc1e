"""The page of gpu.py from its rows; what was not measured says so."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def page(
    rows: Sequence[Row], targets: Mapping[tuple[str, str], float], latency: Mapping[int, float], cap: float
) -> str:
    """Markdown."""
    setup = rows[0]
    cuda = "CPU" not in setup["device"]
    known = ", ".join(f"{k} {v}" for k, v in setup.items() if k not in ("part", "at_s", "device", "preset", "commit"))
    lines = [
        f"# {setup['preset']} on {setup['device']}",
        "",
        f"Commit {setup['commit']}; {known}. Random weights.",
        "",
    ]
    lines += [*_ceilings(rows), *_training(rows, targets, cap, cuda), *_latency(rows, latency, cuda), *_failures(rows)]
    return "\n".join(lines) + "\n"


def _of(rows: Sequence[Row], part: str) -> list[Row]:
    return [row for row in rows if row["part"] == part and "failed" not in row]


def _ceilings(rows: Sequence[Row]) -> list[str]:
    best = next(iter(_of(rows, "ceilings")), None)
    right = next(iter(_of(rows, "correctness")), None)
    lines = ["Ceilings: not measured."] if best is None else []
    if best is not None:
        lines = [f"Ceilings: {best['tflops']:.1f} TFLOP/s in matrix products, copies at {best['tb_per_s']:.2f} TB/s."]
    if right is None:
        return [*lines, "Shortcuts against the plain computation: not measured.", ""]
    verdict = "pass" if right["ok"] and right["finite"] else "FAIL"
    return [*lines, f"Shortcuts against the plain computation: {right['relative_error']:.1e}, {verdict}.", ""]


def _training(rows: Sequence[Row], targets: Mapping[tuple[str, str], float], cap: float, cuda: bool) -> list[str]:
    best = next((row["tflops"] for row in _of(rows, "ceilings")), None)
    limit = f", under a cap of {cap:.0f} GiB" if cuda else ""
    names = "phase, batch, views, optimiser, cached, peak GiB, planned, target, samples/s, step ms, update ms, MFU"
    head = "| " + names.replace(", ", " | ") + " |"
    lines = [f"## Training{limit}", "", head, "|---|" + "---:|" * 2 + "---|---|" + "---:|" * 7]
    for row in _of(rows, "training"):
        peak, planned = row.get("peak_gib"), row.get("planned_gib")
        target = targets.get((row["phase"], row["optimizer"])) if row["views"] == 3 and not row["cached"] else None
        verdict = "" if target is None or peak is None else f"{target:g} {'met' if peak <= target else 'MISSED'}"
        share = "" if best is None else f"{row['tflops'] / best:.0%}"
        cells = [row["phase"], row["rows"], row["views"], row["optimizer"], "yes" if row["cached"] else ""]
        cells += ["not measured" if peak is None else f"{peak:.2f}", "" if planned is None else f"{planned:.2f}"]
        cells += [verdict, f"{row['samples_per_s']:.1f}", f"{row['step_ms']:.1f}", f"{row['optimizer_ms']:.1f}", share]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return [*lines, "", "MFU counts the arithmetic of forward and backward against the measured ceiling.", ""]


def _latency(rows: Sequence[Row], latency: Mapping[int, float], cuda: bool) -> list[str]:
    lines = ["## Latency at batch 1", "", "| views | model | mode | p50 ms | p95 | max | target |"]
    lines.append("|---:|---|---|---:|---:|---:|---|")
    for row in _of(rows, "latency"):
        final = cuda and row["mode"] == "compiled + graph"
        target = (
            f"{latency[row['views']]:g} {'met' if row['p50'] <= latency[row['views']] else 'MISSED'}" if final else ""
        )
        cells = [row["views"], row["model"], row["mode"], *(f"{row[k]:.2f}" for k in ("p50", "p95", "max")), target]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| views | ratio | median | 95 % interval |", "|---:|---|---:|---|"]
    for row in _of(rows, "ratio"):
        lines.append(
            f"| {row['views']} | {row['what']} | {row['median']:.4f} | {row['low']:.4f} to {row['high']:.4f} |"
        )
    return [*lines, "", "A ratio's rounds alternate A B B A and B A A B; the A/A row is its noise.", ""]


def _failures(rows: Sequence[Row]) -> list[str]:
    failed = [row for row in rows if "failed" in row]
    if not failed:
        return []
    return ["## Not measured", "", *(f"- {row['part']}: {row['failed']}" for row in failed)]
