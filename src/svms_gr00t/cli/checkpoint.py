"""`svms-gr00t checkpoint`: what is in a checkpoint folder, and does this installation compute what NVIDIA's does."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from svms_gr00t.cli.console import console
from svms_gr00t.core.errors import CheckpointError

LICENCE = "N1.6 weights carry NVIDIA's own licence (research use); the code here is Apache-2.0."


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Version, parameters by component, embodiments, horizon and missing files, without loading the weights."""

    path: Annotated[str, tyro.conf.Positional]
    """A checkpoint folder or a Hugging Face id."""

    def run(self) -> int:
        """Print the tables."""
        from svms_gr00t.groot.checkpoint import is_unused, locate, read_config, weight_files

        folder = locate(self.path)
        config, files = read_config(folder), weight_files(folder)
        counts: Counter[str] = Counter()
        for name, stored in files.items():
            size = 1
            for axis in stored.shape:
                size *= axis
            counts["unused" if is_unused(name, config) else component(name)] += size
        table = Table("component", "parameters", title=str(folder))
        for name, count in sorted(counts.items()):
            table.add_row(name, f"{count:,}")
        table.add_row("total", f"{sum(counts.values()):,}")
        console.print(table)
        console.print(
            f"GR00T N1.6, SVMS {'on' if config.use_sheaf_streams else 'off'}, horizon {config.action_horizon}"
        )
        console.print(f"state width {config.max_state_dim}, action width {config.max_action_dim}")
        for name in ("processor_config.json", "statistics.json", "embodiment_id.json"):
            console.print(f"{name}: {'present' if (folder / name).is_file() else 'missing'}")
        if (folder / "statistics.json").is_file():
            tags = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
            console.print(f"statistics for: {', '.join(tags)}")
        console.print(LICENCE)
        return 0


def component(name: str) -> str:
    """Coarse part of the model that a tensor belongs to."""
    parts = name.split(".")
    if parts[0] == "backbone" and len(parts) > 2:
        return f"backbone.{parts[2]}"
    return ".".join(parts[:2]) if parts[0] == "action_head" else parts[0]


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Run golden cases of the reference model through this installation and compare every recorded tensor."""

    cases: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders with config.json, model, inputs and outputs.safetensors."""
    tolerance: float = 1e-5
    """Largest absolute difference that passes."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        """0 when every tensor of every case is within the tolerance, else 1."""
        from svms_gr00t.groot.golden import compare

        if not self.cases:
            hint = "svms-gr00t checkpoint verify CASE_FOLDER"
            raise CheckpointError("verify", got="no case", want="at least one folder", hint=hint)
        found = {str(case): compare(case) for case in self.cases}
        passed = all(gap <= self.tolerance for gaps in found.values() for gap in gaps.values())
        if self.json:
            print(json.dumps({"tolerance": self.tolerance, "passed": passed, "cases": found}, indent=2))
            return 0 if passed else 1
        for case, gaps in found.items():
            table = Table("tensor", "largest difference", "", title=case)
            for name, gap in gaps.items():
                table.add_row(name, f"{gap:.2e}", "pass" if gap <= self.tolerance else "FAIL")
            console.print(table)
        console.print(f"{'pass' if passed else 'FAIL'} at tolerance {self.tolerance:g}")
        return 0 if passed else 1
