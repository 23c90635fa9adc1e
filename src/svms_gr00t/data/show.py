"""Pictures of a dataset: one contact sheet of sampled episodes, and a plot of the numbers of each of them.

Axes: T steps, D numbers of a key, H and W pixels.

    OUT/contact_sheet.png             a row for each episode and camera, frames from the first to the last step
    OUT/episode_000003_numbers.png    a panel for each state and action key that changes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from svms_gr00t.core.errors import ConfigError, DataError, MissingExtra
from svms_gr00t.core.escape import plain
from svms_gr00t.data.lerobot.dataset import LeRobotDataset, spread
from svms_gr00t.data.lerobot.elements import keys_of
from svms_gr00t.data.lerobot.sound import Skipped
from svms_gr00t.data.pictures import check_pixels

_LABEL = 14  # pixels of a line of text
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
    """One row of the sheet: evenly spaced frames of an episode under a line of text, each over its step."""
    length = dataset.episode(index).length
    steps = [int(step) for step in np.linspace(0, length - 1, count).round()]

    def cell(frames: np.ndarray) -> np.ndarray:
        width = max(round(frames.shape[2] * height / frames.shape[1]), 1)
        check_pixels(height, width, f"{dataset.root}, episode {index}, {view}")
        shrunk = np.asarray(Image.fromarray(frames[0]).resize((width, height), Image.Resampling.BILINEAR))
        return np.pad(shrunk, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=255)[None]

    cells = list(dataset.frames(index, view, steps, cell))
    numbers = np.concatenate([_line(f"step {s}", c.shape[1]) for s, c in zip(steps, cells, strict=True)], axis=1)
    text = plain(f"episode {index}, {view}: {dataset.instruction(index, 0)}")
    return np.concatenate([_line(text, numbers.shape[1]), np.concatenate(cells, axis=1), numbers])


def _line(text: str, width: int) -> UInt8[np.ndarray, "H W 3"]:
    label = Image.new("RGB", (width, _LABEL), "white")
    ImageDraw.Draw(label).text((2, 1), text.encode("ascii", "replace").decode(), fill="black")
    return np.asarray(label)


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
    keys = list(keys_of(dataset, index))
    moving, still = ([key for key in keys if key.flat is flat] for flat in (False, True))
    figure = Figure(figsize=(9.0, 1.5 * max(len(moving), 1) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels: Any = figure.subplots(max(len(moving), 1), 1, sharex=True, squeeze=False)[:, 0]
    seconds = np.arange(dataset.episode(index).length) / dataset.fps
    for panel, key in zip(panels, moving, strict=False):
        for name, values in zip(key.elements, key.values.T, strict=True):
            panel.plot(seconds, values, linewidth=1, label=name)
        panel.set_title(plain(f"{key.kind}: {key.name}"), fontsize=8, loc="left", parse_math=False)
        panel.set_ylabel(key.unit, fontsize=7)
        panel.tick_params(labelsize=7)
        panel.legend(fontsize=6, ncols=8, loc="lower right", bbox_to_anchor=(1, 0.97), borderpad=0, frameon=False)
    panels[-1].set_xlabel("seconds", fontsize=8)
    left = f"\nhardly change here: {', '.join(f'{key.kind}.{key.name}' for key in still)}" if still else ""
    title = f"episode {index}: {plain(dataset.instruction(index, 0))}{plain(left, lines=True)}"
    figure.suptitle(title, fontsize=9, x=0.01, ha="left", parse_math=False)
    figure.savefig(path, dpi=110)
