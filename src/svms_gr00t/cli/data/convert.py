"""`svms-gr00t data convert hdf5 | robocasa365 | v3 | v21`: demonstrations from one form to another, resumable."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from svms_gr00t.cli.console import Bars, console

_named = tyro.conf.subcommand


@dataclass(frozen=True, kw_only=True)
class _Conversion:
    source: Annotated[Path, tyro.conf.Positional]
    """What is converted; it is only read."""
    output: Annotated[Path, tyro.conf.Positional]
    """New dataset folder. It appears when it is complete; after an interruption the same command goes on."""

    def _done(self, *notes: str) -> int:
        for note in notes:
            console.print(f"- {note}", soft_wrap=True)
        console.print(f"{self.output}. Next: svms-gr00t data doctor {self.output}", soft_wrap=True)
        return 0


@dataclass(frozen=True, kw_only=True)
class Hdf5(_Conversion):
    """HDF5 with observations (RoboCasa, robosuite, robomimic, LIBERO) -> LeRobot v2.1 with a modality.json."""

    fps: float = 20.0
    """Steps a second of the recording."""
    instruction: str | None = None
    """Sentence for demonstrations that have none."""
    filter_key: str | None = None
    """Convert only the demonstrations of this mask."""
    flip: bool = False
    """Turn pictures upright that come from the bare simulator (LIBERO's are turned by 180 degrees without it)."""

    def run(self) -> int:
        """Convert and say what was decided."""
        from svms_gr00t.data.convert.hdf5 import convert_hdf5

        done = convert_hdf5(
            self.source,
            self.output,
            fps=self.fps,
            instruction=self.instruction,
            filter_key=self.filter_key,
            flip=self.flip,
            progress=Bars(),
        )
        return self._done(f"{done.episodes} episodes, {done.resumed} of an earlier run", *done.notes)


@dataclass(frozen=True, kw_only=True)
class RoboCasa365(_Conversion):
    """RoboCasa365 (LeRobot) -> the same files under the names of the released N1.6 checkpoint."""

    def run(self) -> int:
        """Link and say what was decided."""
        from svms_gr00t.data.convert.robocasa365 import convert_robocasa365

        return self._done(*convert_robocasa365(self.source, self.output, progress=Bars()).reasons)


@dataclass(frozen=True, kw_only=True)
class ToV3(_Conversion):
    """LeRobot v2.0 or v2.1 -> v3.0, nothing encoded again; LeRobot trains on it, edits, merges and appends."""

    data_mb: int = 100
    """Size that a shared parquet file grows to."""
    video_mb: int = 200
    """Size that a shared clip grows to."""

    def run(self) -> int:
        """Convert."""
        from svms_gr00t.data.convert.to_v3 import convert_to_v3

        sizes = {"data_mb": self.data_mb, "video_mb": self.video_mb}
        return self._done(*convert_to_v3(self.source, self.output, **sizes, progress=Bars()).notes)


@dataclass(frozen=True, kw_only=True)
class ToV21(_Conversion):
    """LeRobot v3.0 -> v2.1: clips are cut at keyframes, or encoded without loss where there is none."""

    def run(self) -> int:
        """Convert."""
        from svms_gr00t.data.convert.to_v21 import convert_to_v21

        done = convert_to_v21(self.source, self.output, progress=Bars())
        return self._done(f"{done.encoded} clips began between keyframes and were encoded without loss")


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Demonstrations from one form to another; the source is never changed."""

    command: (
        Annotated[Hdf5, _named("hdf5")]
        | Annotated[RoboCasa365, _named("robocasa365")]
        | Annotated[ToV3, _named("v3")]
        | Annotated[ToV21, _named("v21")]
    )

    def run(self) -> int:
        """Run the chosen member."""
        return self.command.run()
