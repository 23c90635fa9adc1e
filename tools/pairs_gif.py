"""The film in README.md: both policies of a demo in the first scene of each task, whoever wins there.

    python tools/pairs_gif.py DEMO docs/images/pair.gif

DEMO is a folder that `svms-gr00t demo` wrote. Prints what the film shows, to stand beside it.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from svms_gr00t.evaluate.closed_loop.result import Rollout, RolloutResult
from svms_gr00t.evaluate.closed_loop.video import encode_gif, side_by_side
from svms_gr00t.evaluate.report.pages import won
from svms_gr00t.evaluate.report.view import clip_of

NAMES = ("plain", "svms")
FRAMES, MS = 48, 120


def first(result: RolloutResult, task: str) -> Rollout:
    """The first filmed scene of a task."""
    return min((r for r in result.rollouts if r.task == task and r.video), key=lambda r: r.index)


def film(sides: dict[str, RolloutResult], task: str) -> list[np.ndarray]:
    """Frames of one task, all policies side by side."""
    clips = [clip_of(first(result, task), name) for name, result in sides.items()]
    gif = Image.open(io.BytesIO(side_by_side(clips, max_frames=FRAMES, ms=MS)))
    frames: list[np.ndarray] = []
    for frame in ImageSequence.Iterator(gif):  # the writer keeps one, for longer, where several are equal
        frames += [np.asarray(frame.convert("RGB"))] * max(1, round(frame.info.get("duration", MS) / MS))
    return frames


def main(demo: Path, output: Path) -> None:
    """Write the film: tasks below one another, each at its own speed, standing still a moment when all have ended."""
    sides = {name: RolloutResult.load(demo / f"closed_loop_{name}.json") for name in NAMES}
    tasks = next(iter(sides.values())).config.tasks
    films = [film(sides, task) for task in tasks]
    longest = max(map(len, films)) + 8
    padded = [frames + frames[-1:] * (longest - len(frames)) for frames in films]
    frames = [np.concatenate(rows) for rows in zip(*padded, strict=True)]
    output.write_bytes(encode_gif(frames, side=max(frames[0].shape), max_frames=longest, ms=MS))
    for task in tasks:
        shown = {name: first(result, task) for name, result in sides.items()}
        ends = "; ".join(f"{name} {r.ending} after {r.steps} steps" for name, r in shown.items())
        one = next(iter(shown.values()))
        print(f'{task}, scene {one.index} (seed {one.seed}), "{one.instruction}": {ends}')
        print("  of all scenes:", ", ".join(won(name, result.tasks[task]) for name, result in sides.items()))
    print("all tasks:", ", ".join(won(name, result.overall) for name, result in sides.items()))
    print(f"{output}: {output.stat().st_size / 1e6:.2f} MB, {len(frames)} frames of {frames[0].shape[1::-1]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
