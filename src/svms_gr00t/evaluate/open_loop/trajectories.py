"""Recorded and predicted actions of one episode over time, as a robot would execute them: the start of each chunk.

Axes: T steps of the episode, D elements of an action key.

The policy always sees the recorded observation (open loop), so the curves show agreement with the demonstrator, not
what would happen when the policy's own errors add up.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from svms_gr00t.core.escape import plain
from svms_gr00t.core.history import History
from svms_gr00t.core.protocols import ActionPolicy, bare_keys, fixed_seed
from svms_gr00t.evaluate.open_loop.metrics import KeySpec
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, action_specs, read_scene

ROWS = 12
"""Curves in one figure; more action elements are left out, and the title says so."""


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One episode."""

    episode: int
    instruction: str
    recorded: dict[str, np.ndarray]
    """Action key -> (T, D)."""
    predicted: dict[str, np.ndarray]
    executed: int
    """Steps of each chunk that are shown."""


def trace(
    policy: ActionPolicy,
    dataset: Any,
    episode: int,
    *,
    statistics: Mapping[str, Any],
    config: OpenLoopConfig | None = None,
) -> Trajectory:
    """Ask the policy every `executed` steps of a recorded episode. Raises as `evaluate_open_loop` does."""
    config = config or OpenLoopConfig()
    specs = action_specs(dataset, statistics, config)
    scene = read_scene(dataset, episode, config, specs, History.of(policy))
    length = len(next(iter(scene.actions.values())))
    steps = list(range(0, length, config.executed))
    policy.reset(fixed_seed(config.seed, episode))
    pieces: dict[str, list[np.ndarray]] = {key: [] for key in specs}
    for start in range(0, len(steps), config.batch_size):
        batch = steps[start : start + config.batch_size]
        seeds = [fixed_seed(config.seed, episode, step) for step in batch]
        chunks, _ = policy.act(scene.observations.at(batch), seeds=seeds)
        for chunk in chunks:
            for key, rows in bare_keys(chunk).items():
                if key in pieces:
                    pieces[key].append(rows[: config.executed])
    predicted = {key: np.concatenate(rows)[:length] for key, rows in pieces.items()}
    return Trajectory(
        episode=episode,
        instruction=scene.observations.instructions[0],
        recorded=scene.actions,
        predicted=predicted,
        executed=config.executed,
    )


def draw(trajectory: Trajectory, specs: Mapping[str, KeySpec]) -> str:
    """SVG text: one small plot for each action element that varies in the data."""
    elements = [(key, d) for key, spec in specs.items() for d in np.flatnonzero(spec.varying)]
    shown = elements[:ROWS]
    style: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 8, "text.parse_math": False}
    with mpl.rc_context(style | {"svg.hashsalt": f"episode {trajectory.episode}"}):
        figure = Figure(figsize=(7, 0.6 + 0.85 * max(1, len(shown))), layout="constrained")
        plots = figure.subplots(max(1, len(shown)), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (key, d) in zip(plots, shown, strict=False):
            recorded, predicted = trajectory.recorded[key][:, d], trajectory.predicted[key][:, d]
            axes.plot(recorded, color="#333333", linewidth=1.2, label="recorded")
            axes.plot(predicted, color="#2f6fd0", linewidth=1.2, label="predicted")
            axes.plot(
                range(0, len(predicted), trajectory.executed), predicted[:: trajectory.executed], ".", color="#2f6fd0"
            )
            axes.set_ylabel(f"{plain(key)}\n{d}", rotation=0, ha="right", va="center", fontsize=7)
            axes.spines[["top", "right"]].set_visible(False)
        plots[-1].set_xlabel("step; a dot marks where the policy was asked")
        left = "" if len(shown) == len(elements) else f" (first {len(shown)} of {len(elements)} elements)"
        figure.suptitle(
            f"episode {trajectory.episode}: {plain(trajectory.instruction)}{left}", fontsize=9, x=0.01, ha="left"
        )
        handles, labels = plots[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()
