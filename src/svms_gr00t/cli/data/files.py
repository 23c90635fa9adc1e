"""`svms-gr00t data init-modality | statistics`: what a dataset's columns mean, and how its numbers are spread."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from svms_gr00t.cli.console import Bars, console, tell_skipped
from svms_gr00t.cli.shown.sheet import Cell, Sheet, Tables, num, span
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.escape import json_text

if TYPE_CHECKING:
    from svms_gr00t.data.lerobot.dataset import LeRobotDataset


@dataclass(frozen=True, kw_only=True)
class InitModality:
    """Propose meta/modality.json from a dataset's features and numbers, and write it when there is none.

    Exit code 1 when no state, action or camera was found."""

    dataset_path: Annotated[Path, tyro.conf.Positional]
    """Folder that holds meta/info.json."""
    dry_run: bool = False
    """Only show it."""
    replace: bool = False
    """Write over a modality.json that is there."""

    def run(self) -> int:
        """Print the proposal with its reasons, then write it."""
        from svms_gr00t.data.lerobot.init_modality import propose_for, write_modality

        proposal = propose_for(self.dataset_path)
        print(json_text(proposal.modality.to_dict()))
        for reason in proposal.reasons:
            console.print(f"- {reason}", soft_wrap=True)
        if not self.dry_run:
            path = write_modality(self.dataset_path, proposal.modality, replace=self.replace)
            console.print(
                f"Wrote {path}. Check the names, then: svms-gr00t data doctor {self.dataset_path}", soft_wrap=True
            )
        for fault in proposal.missing:
            text = f"{fault}. Name it by hand in modality.json (start, end, original_key): docs/data.md"
            console.print(text, soft_wrap=True, style="bold red")
        return 1 if proposal.missing else 0


@dataclass(frozen=True, kw_only=True)
class DataStatistics(Tables):
    """Exact statistics of a dataset; with --base-model-path, whether a checkpoint's fit it (exit code 1 if not)."""

    dataset_path: Annotated[Path, tyro.conf.Positional]
    """A LeRobot dataset with a modality.json."""
    output: Path | None = None
    """JSON file to write; with --base-model-path it holds the comparison."""
    relative: tuple[str, ...] = ()
    """Relative action keys: KEY, KEY=STATE for joints, KEY=STATE:xyz+rot6d or KEY=STATE:xyz+rotvec for poses."""
    horizon: int = 16
    """Action steps of a chunk; relative actions have a range for each."""
    base_model_path: str | None = None
    """Checkpoint folder with processor_config.json and statistics.json, or a Hugging Face id."""
    embodiment_tag: str | None = None
    """Robot of the base; may be left out when only one has the keys of the dataset."""

    def run(self) -> int:
        """Print a table."""
        from svms_gr00t.data.lerobot.sound import open_sound

        dataset, skipped = open_sound(self.dataset_path, progress=Bars())
        tell_skipped(skipped)
        return self._summary(dataset) if self.base_model_path is None else self._compare(dataset, self.base_model_path)

    def _summary(self, dataset: "LeRobotDataset") -> int:
        from svms_gr00t.data.processor.embodiment import from_modality
        from svms_gr00t.data.processor.relative import with_relative
        from svms_gr00t.data.processor.statistics import compute_statistics

        robot = None
        if self.relative:
            robot = with_relative(from_modality(dataset.modality, horizon=self.horizon), self.relative)
        statistics = compute_statistics(dataset, embodiment=robot, progress=Bars())
        table = Sheet("key", "element", "min", "q01", "mean", "q99", "max", "std")
        for kind in ("state", "action"):
            for key, columns in statistics[kind].items():
                for i in range(len(columns["min"])):
                    values = [float(columns[name][i]) for name in ("min", "q01", "mean", "q99", "max", "std")]
                    table.add_row(_named(f"{kind}.{key}", i), i, *values)
        table.show()
        ranges = Sheet("key", "element", "first step", "last step", title="Relative actions by horizon step")
        for key, columns in statistics.get("relative_action", {}).items():
            for i in range(len(columns["min"][0])):
                ends = [span(float(columns["min"][h][i]), float(columns["max"][h][i]), ".3g") for h in (0, -1)]
                ranges.add_row(_named(f"relative_action.{key}", i), i, *ends)
        if ranges.rows:
            ranges.show()
        if self.output is not None:
            self._write(statistics)
        return 0

    def _compare(self, dataset: "LeRobotDataset", base: str) -> int:
        from svms_gr00t.data.doctor.compatibility import compare_with_base, read_base
        from svms_gr00t.groot.checkpoint.hub import locate

        folder = locate(base, weights=False)
        config, statistics = read_base(folder, self.embodiment_tag, modality=dataset.modality)
        report = compare_with_base(
            dataset, config.embodiment, statistics, use_percentiles=config.use_percentiles, progress=Bars()
        )
        table = Sheet("key", "element", "base", "data", "clipped", "of its range used")
        for e in report.elements:
            ends = [Cell([float(low), float(high)], f"[{low:.3g}, {high:.3g}]") for low, high in (e.base, e.data)]
            used = Cell(None, "constant") if e.constant else num(float(e.used), ".0%")
            table.add_row(_named(e.key, e.element), e.element, *ends, num(float(e.clipped), ".2%"), used)
        table.show()
        for finding in report.findings:
            line = f"{finding.severity} {finding.where}: {finding.found}\n    -> {finding.todo}"
            console.print(line, soft_wrap=True)
        console.print(f"{base} ({config.embodiment_tag}): {'fits' if report.fits else 'does NOT fit'}", soft_wrap=True)
        if self.output is not None:
            self._write(report.to_dict())
        return 0 if report.fits else 1

    def _write(self, value: object) -> None:
        from svms_gr00t.core.files.documents import dump_json

        assert self.output is not None
        if self.output.is_dir():
            raise ConfigError("output", got=str(self.output), want="a file", hint="Such as statistics.json")
        dump_json(self.output, value)
        console.print(f"Wrote {self.output}", soft_wrap=True)


def _named(key: str, element: int) -> Cell:
    """The key, shown at its first element."""
    return Cell(key, key if element == 0 else "")
