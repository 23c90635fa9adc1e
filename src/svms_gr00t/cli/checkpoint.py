"""`svms-gr00t checkpoint`: what is in a checkpoint, deltas, and does this installation compute what NVIDIA's does."""

import json
import math
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from svms_gr00t.cli.console import console
from svms_gr00t.cli.shown.sheet import Sheet, num, verdict
from svms_gr00t.core.errors import CheckpointError

if TYPE_CHECKING:
    from svms_gr00t.groot.checkpoint.summary import Summary


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Version, parameters, embodiments, horizon and names that do not fit; reads file headers, never the weights."""

    model_path: Annotated[str, tyro.conf.Positional]
    """A checkpoint or delta folder, or a Hugging Face id."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        """0 when the weights fit the configuration, else 1."""
        from svms_gr00t.groot.checkpoint.remote import glimpse
        from svms_gr00t.groot.checkpoint.summary import summarise
        from svms_gr00t.model import tensor_shapes

        folder, files = glimpse(self.model_path)
        summary = summarise(folder, tensor_shapes, files=files)
        if self.json:
            print(json.dumps(summary.to_dict(), indent=2))
        else:
            _show(summary)
        return 0 if summary.loads else 1


def _show(summary: "Summary") -> None:
    from svms_gr00t.groot.checkpoint.loading import some

    table = Sheet("component", "parameters", title=summary.path)
    for name, count in summary.parameters.items():
        table.add_row(name, count)
    table.add_row("total", summary.total)
    table.show()
    types = ", ".join(f"{count:,} as {name}" for name, count in summary.dtypes.items())
    _line(f"{summary.version}, SVMS {'on' if summary.svms else 'off'}; {types or 'no numbers'}")
    if summary.delta is not None:
        where = summary.delta["base_here"] or "not found here; pass --base-model-path to use the delta"
        _line(f"delta of {summary.delta['base']} ({where}), fingerprint {summary.delta['fingerprint'][:12]}")
    sizes = f"horizon {summary.action_horizon}, state width {summary.max_state_dim}, action width"
    _line(f"{sizes} {summary.max_action_dim}, {summary.denoising_steps} denoising steps")
    _show_embodiments(summary)
    named = {"missing": summary.missing, "unexpected": summary.unexpected, "wrong shape": summary.misshapen}
    for word, names in {**named, "never read": summary.unused}.items():
        _line(f"{word}: {f'{len(names)} - {some(list(names))}' if names else 'none'}")
    absent = [name for name, here in summary.files.items() if not here]
    _line(f"processor files: {'all here' if not absent else 'no ' + ', '.join(absent)}")
    _line(summary.licence)


def _show_embodiments(summary: "Summary") -> None:
    if not summary.embodiments:
        _line("embodiments: none named (no processor_config.json, no statistics.json)")
    for robot in summary.embodiments:
        row, steps = ("?" if number is None else number for number in (robot.row, robot.horizon))
        views = f"views {', '.join(robot.views) or '?'}; instruction {', '.join(robot.language) or '?'}"
        _line(f"embodiment {robot.tag}: row {row}, {steps} action steps; {views}")
        for kind, keys in {"state": robot.state, "action": robot.action}.items():
            about = (
                f"{key} ({'no statistics' if known is None else f'{known.width}: {known.low:.4g} .. {known.high:.4g}'})"
                for key, known in keys.items()
            )
            _line(f"  {kind}: {', '.join(about)}")
        if robot.lacks:
            _line(f"  lacks: {', '.join(robot.lacks)}")


def _line(text: str) -> None:
    console.print(text, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class MakeDelta:
    """Save what a checkpoint changed against its base: SVMS and the trained tensors, with the base's fingerprint."""

    model_path: Annotated[str, tyro.conf.Positional]
    """The trained checkpoint."""
    base_model_path: str
    """The checkpoint it was trained from: a folder or a Hugging Face id."""
    output_dir: Path
    """The delta's folder."""

    def run(self) -> int:
        """Write the delta and say how large it is."""
        from svms_gr00t.groot.checkpoint.delta import save_delta
        from svms_gr00t.groot.checkpoint.hub import locate
        from svms_gr00t.groot.checkpoint.loading import read_config, weight_files
        from svms_gr00t.groot.checkpoint.tensors import Lazy

        _refuse_existing(self.output_dir)
        folder = locate(self.model_path)
        state, config = Lazy(weight_files(folder)), read_config(folder)
        delta = save_delta(
            state, config, self.output_dir, base=self.base_model_path, extra=partial(_copy_processor, folder)
        )
        size = sum(file.stat().st_size for file in self.output_dir.glob("*.safetensors"))
        console.print(f"{self.output_dir}: {size / 2**20:,.1f} MiB on {delta.source}, {delta.fingerprint[:12]}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Put a delta on its base and save the whole model, which needs no base any more."""

    delta: Annotated[str, tyro.conf.Positional]
    """The delta's folder."""
    output_dir: Path
    """The whole checkpoint's folder."""
    base_model_path: str | None = None
    """Where the base is, when it is not where the delta says."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Type of all weights; by default that of most numbers of the base, and what rounding to it loses is said."""

    def run(self) -> int:
        """Write the checkpoint."""
        import torch

        from svms_gr00t.core.files.whole import whole_folder
        from svms_gr00t.groot.checkpoint.delta import base_and_delta
        from svms_gr00t.groot.checkpoint.hub import locate
        from svms_gr00t.groot.checkpoint.loading import weight_files
        from svms_gr00t.groot.checkpoint.rounding import rounding
        from svms_gr00t.model import Gr00tN1d6

        _refuse_existing(self.output_dir)
        folder = locate(self.delta)
        model = Gr00tN1d6.from_pretrained(
            folder, base=self.base_model_path, dtype=self.dtype and getattr(torch, self.dtype)
        )
        whole, delta, _ = base_and_delta(folder, self.base_model_path, check=False)
        if (loss := rounding(weight_files(whole), delta, next(model.parameters()).dtype)) is not None:
            more = "" if self.dtype else "; --dtype float32 keeps every number"
            console.print(f"{loss}{more}", soft_wrap=True)
        with whole_folder(self.output_dir) as target:
            model.write(target)
            if not _copy_processor(folder, target):
                _copy_processor(whole, target)
        console.print(f"{self.output_dir}: {sum(t.numel() for t in model.parameters()):,} parameters")
        return 0


def _copy_processor(folder: Path, target: Path) -> int:
    """Copy the processor's files; how many there are."""
    from svms_gr00t.groot.checkpoint.summary import PROCESSOR_FILES

    files = [folder / name for name in PROCESSOR_FILES if (folder / name).is_file()]
    for file in files:
        shutil.copy2(file, target / file.name)
    return len(files)


def _refuse_existing(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        hint = "Choose another --output-dir, or remove it first"
        raise CheckpointError(folder, got="something there already", want="a new folder", hint=hint)


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
        from svms_gr00t.groot.checkpoint.golden import compare

        if not self.cases:
            hint = "svms-gr00t checkpoint verify CASE_FOLDER"
            raise CheckpointError("verify", got="no case", want="at least one folder", hint=hint)
        found = {str(case): compare(case) for case in self.cases}
        passed = all(gap <= self.tolerance for gaps in found.values() for gap in gaps.values())
        if self.json:
            # JSON has no infinity: null says that a tensor is absent or has another shape.
            cases = {c: {n: gap if math.isfinite(gap) else None for n, gap in g.items()} for c, g in found.items()}
            print(json.dumps({"tolerance": self.tolerance, "passed": passed, "cases": cases}, indent=2))
            return 0 if passed else 1
        for case, gaps in found.items():
            table = Sheet("tensor", "largest difference", "passed", title=case)
            for name, gap in gaps.items():
                table.add_row(name, num(gap, ".2e"), verdict(gap <= self.tolerance))
            table.show()
        console.print(f"{'pass' if passed else 'FAIL'} at tolerance {self.tolerance:g}")
        return 0 if passed else 1
