"""`svms-gr00t data show`: a contact sheet and plots of the numbers, before anything is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from svms_gr00t.cli.console import console, tell_skipped


@dataclass(frozen=True, kw_only=True)
class Show:
    """Draw sampled episodes of a dataset: one contact sheet of all cameras, and action plots for each episode."""

    dataset_path: Annotated[Path, tyro.conf.Positional]
    """A LeRobot dataset with a modality.json."""
    output_dir: Path = Path("outputs/show")
    """Folder of the pictures."""
    episodes: tuple[int, ...] = ()
    """Episodes by number; without them, some that are evenly spread."""
    count: int = 4
    """How many of those."""
    frames: int = 8
    """Pictures of each episode and camera."""

    def run(self) -> int:
        """Write PNG files and say where they are."""
        from svms_gr00t.data.lerobot.dataset import LeRobotDataset
        from svms_gr00t.data.show import draw_dataset

        dataset = LeRobotDataset.open(self.dataset_path, empty_episodes=True)
        made = draw_dataset(dataset, self.output_dir, episodes=self.episodes, count=self.count, frames=self.frames)
        tell_skipped(made.skipped)
        for path in (made.contact_sheet, *made.plots):
            console.print(str(path), soft_wrap=True)
        return 0
