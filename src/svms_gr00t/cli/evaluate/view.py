"""`svms-gr00t view`: episodes step by step in one HTML file, with what a policy would have done."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svms_gr00t.cli.console import Bars, console
from svms_gr00t.cli.evaluate.placement import Placement
from svms_gr00t.core.errors import DataError

if TYPE_CHECKING:
    from svms_gr00t.data.lerobot.dataset import LeRobotDataset


@dataclass(frozen=True, kw_only=True)
class View(Placement):
    """Look at episodes: cameras, states and actions under one cursor, in one HTML file that needs no server.

    With a run or a checkpoint also its chunks beside the recorded actions, disagreement, routes, words and what memory
    looks at over time.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """A dataset; or a run, a demo or a checkpoint."""
    dataset_path: Path | None = None
    """What the policy is shown; by default the data that its run was trained on."""
    episodes: tuple[int, ...] = ()
    """Episodes by number; without them, some that are evenly spread: of a run those that it held out."""
    count: int = 4
    """How many of those."""
    stride: int | None = None
    """A picture every so many steps; by default as many as make 40 of an episode and camera."""
    picture_size: int = 192
    """Pixels of the longer side of a picture, at most."""
    n_action_steps: int = 8
    """The policy is asked every so many steps."""
    seed: int = 0
    """Chooses the noise."""
    embodiment_tag: str | None = None
    """Needed only when the checkpoint knows several robots."""
    output: Path = Path("outputs/view.html")
    """The page."""
    rerun: Path | None = None
    """Write the same episodes as a rerun recording (.rrd) here, too; wants the extra `rerun`."""

    def run(self) -> int:
        """Write the page and say how large it is."""
        from svms_gr00t.evaluate.viewer.page import save_view
        from svms_gr00t.evaluate.viewer.watch import watch

        if self.rerun is not None:
            from svms_gr00t.evaluate.viewer.rerun import require

            require()
        alone = (self.source / "meta" / "info.json").is_file()
        dataset, chosen, rest = self._data() if alone else self._judged()
        shared: dict[str, Any] = {"every": self.n_action_steps, "stride": self.stride, "side": self.picture_size}
        found = watch(
            dataset, chosen, title=self.source.resolve().name, seed=self.seed, progress=Bars(), **shared, **rest
        )
        path = save_view(found, self.output)
        size = f"{path.stat().st_size / 1e6:.1f} MB: {len(chosen)} episodes, {found.pictures} pictures"
        console.print(f"written to {path} ({size})", highlight=False, markup=False, soft_wrap=True)
        if self.rerun is not None:
            from svms_gr00t.evaluate.viewer.rerun import save_rerun

            text = f"written to {save_rerun(found, self.rerun)}"
            console.print(text, highlight=False, markup=False, soft_wrap=True)
        return 0

    def _data(self) -> "tuple[LeRobotDataset, tuple[int, ...], dict[str, Any]]":
        from svms_gr00t.data.lerobot.dataset import LeRobotDataset

        if self.dataset_path is not None:
            want, hint = "a run or a checkpoint before --dataset-path", "Leave --dataset-path out to see the data alone"
            raise DataError(self.source, got="a dataset", want=want, hint=hint)
        dataset = LeRobotDataset.open(self.source, empty_episodes=True)
        every = [episode.index for episode in dataset.episodes if episode.length]
        return dataset, self.episodes or self._spread(every), {}

    def _judged(self) -> "tuple[LeRobotDataset, tuple[int, ...], dict[str, Any]]":
        from svms_gr00t.data.labels.own import labeler_of
        from svms_gr00t.evaluate.report.card import policy_of
        from svms_gr00t.recipes.training.held_out import data_of, held_out

        self.place()  # before the data take their time
        folder = policy_of(self.source)
        found = held_out(folder, self.dataset_path or data_of(folder), progress=Bars())
        parts = {"held out": found.split.validation, "trained on": found.split.train} if found.known else {}
        policy = self.load(folder, embodiment_tag=self.embodiment_tag)
        split = {index: part for part, members in parts.items() for index in members}
        chosen = self.episodes or self._spread(found.split.validation)
        told = {"name": self.source.resolve().name, "split": split, "labeler": labeler_of(folder)}
        return found.dataset, chosen, {"policy": policy, **told}

    def _spread(self, episodes: Sequence[int]) -> tuple[int, ...]:
        """So many of them; none for a count below 1, which is refused where all numbers are."""
        from svms_gr00t.data.lerobot.dataset import spread

        return spread(episodes, self.count) if self.count > 0 else ()
