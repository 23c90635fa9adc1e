"""Pictures of a dataset: one contact sheet of sampled episodes, and a plot of the numbers of each of them.

Axes: T steps, D numbers of a key, H and W pixels.

    OUT/contact_sheet.png             a row for each episode and camera, frames from the first to the last step
    OUT/episode_000003_numbers.png    a panel for each action key, the state of the same name dotted behind it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from svms_gr00t.core.errors import ConfigError, DataError, MissingExtra
from svms_gr00t.data.lerobot.dataset import LeRobotDataset, spread
from svms_gr00t.data.lerobot.sound import Skipped
from svms_gr00t.data.pictures import check_pixels

_LABEL = 14  # pixels above a row, for its text
_GAP = 2


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Files that were written."""

    contact_sheet: Path
    """Frames of all sampled episodes."""
    plots: tuple[Path, ...]
    """Numbers, a file an episode."""
    skipped: tuple[Skipped, ...] = ()
    """Sampled episodes that cannot be read, and why."""


def draw_dataset(
    dataset: LeRobotDataset,
    output: Path,
    *,
    episodes: Sequence[int] = (),
    count: int = 4,
    frames: int = 8,
    height: int = 128,
) -> Pictures:
    """Draw `episodes`, or `count` of them evenly spread, with `frames` pictures of `height` pixels each.

    A broken episode that was sampled is left out. Raises DataError for one that was asked for and when all of them are
    broken, ConfigError for no frames, MissingExtra without matplotlib.
    """
    if min(count, frames, height) < 1:
        raise ConfigError("data show", got=(count, frames, height), want="at least 1 of each", hint="Try the defaults")
    chosen = tuple(episodes) or spread([episode.index for episode in dataset.episodes], count)
    output.mkdir(parents=True, exist_ok=True)
    rows: list[np.ndarray] = []
    plots: list[Path] = []
    skipped: list[Skipped] = []
    for index in chosen:
        try:
            dataset.check_episode(index)
            strips = [_strip(dataset, index, view, frames, height) for view in dataset.views]
        except DataError as error:
            if episodes or len(skipped) == len(chosen) - 1:
                raise
            skipped.append(Skipped(episode=index, reason=str(error), listed=dataset.episode(index)))
            continue
        rows += strips
        plots.append(output / f"episode_{index:06d}_numbers.png")
        _plot(dataset, index, plots[-1])
    sheet = output / "contact_sheet.png"
    Image.fromarray(_stacked(rows)).save(sheet)
    return Pictures(contact_sheet=sheet, plots=tuple(plots), skipped=tuple(skipped))


def _strip(dataset: LeRobotDataset, index: int, view: str, count: int, height: int) -> UInt8[np.ndarray, "H W 3"]:
    """One row of the sheet: evenly spaced frames of an episode under a line of text."""
    length = dataset.episode(index).length
    steps = [int(step) for step in np.linspace(0, length - 1, count).round()]

    def cell(frames: np.ndarray) -> np.ndarray:
        width = max(round(frames.shape[2] * height / frames.shape[1]), 1)
        check_pixels(height, width, f"{dataset.root}, episode {index}, {view}")
        shrunk = np.asarray(Image.fromarray(frames[0]).resize((width, height), Image.Resampling.BILINEAR))
        return np.pad(shrunk, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=255)[None]

    picture = np.concatenate(list(dataset.frames(index, view, steps, cell)), axis=1)
    label = Image.new("RGB", (picture.shape[1], _LABEL), "white")
    text = f"episode {index}, {view}, steps {steps[0]} to {steps[-1]}: {dataset.instruction(index, 0)}"
    ImageDraw.Draw(label).text((2, 1), text.encode("ascii", "replace").decode(), fill="black")
    return np.concatenate([np.asarray(label), picture])


def _stacked(rows: list[np.ndarray]) -> UInt8[np.ndarray, "H W 3"]:
    width = max((row.shape[1] for row in rows), default=1)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(padded) if padded else np.full((1, 1, 3), 255, np.uint8)


def _plot(dataset: LeRobotDataset, index: int, path: Path) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("plots of a dataset", package="matplotlib", extra="report") from error
    rows = dataset.lowdim(index)
    actions = {key: rows[f"action.{key}"] for key in dataset.modality.action}
    figure = Figure(figsize=(9.0, 1.5 * max(len(actions), 1) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels: Any = figure.subplots(max(len(actions), 1), 1, sharex=True, squeeze=False)[:, 0]
    seconds = np.arange(dataset.episode(index).length) / dataset.fps
    for panel, (key, values) in zip(panels, actions.items(), strict=False):
        state = rows.get(f"state.{key}")
        for element in range(values.shape[1]):
            colour = f"C{element % 10}"
            panel.plot(seconds, values[:, element], color=colour, linewidth=1, label=str(element))
            if state is not None and state.shape == values.shape:
                panel.plot(seconds, state[:, element], color=colour, linewidth=0.8, linestyle=":")
        panel.set_title(key, fontsize=8, loc="left")
        panel.tick_params(labelsize=7)
        panel.legend(fontsize=6, ncols=8, loc="upper right", frameon=False)
    panels[-1].set_xlabel("seconds", fontsize=8)
    figure.suptitle(f"episode {index}: {dataset.instruction(index, 0)} (dotted: state)", fontsize=9)
    figure.savefig(path, dpi=110)
