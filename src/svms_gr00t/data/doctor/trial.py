"""The last check: everything that training does with a dataset before its first step. Only what passes is all clear."""

from collections.abc import Iterator

import numpy as np

from svms_gr00t.core.errors import SvmsError
from svms_gr00t.data.doctor.finding import Finding, from_error
from svms_gr00t.data.doctor.subject import Subject
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.processor.embodiment import from_modality
from svms_gr00t.data.processor.lowdim import LowDimCodec
from svms_gr00t.data.processor.statistics import compute_statistics

_WIDEST = 128  # numbers of a state and an action that the released model takes


def try_training(subject: Subject) -> Iterator[Finding]:
    """Open, describe the robot, take statistics, encode a step of one episode and see its pictures."""
    try:
        dataset = LeRobotDataset.open(subject.dataset.root)
        robot = from_modality(dataset.modality, horizon=1)
        for index in subject.rows:
            dataset.rows(index)
        statistics = compute_statistics(dataset, list(subject.rows), embodiment=robot)
        widths = {"max_state_dim": _WIDEST, "max_action_dim": _WIDEST, "max_action_horizon": 1}
        codec = LowDimCodec(robot, statistics, **widths)  # type: ignore[arg-type]
        index = next(iter(subject.rows))
        rows = dataset.lowdim(index)
        state, action = (_first(rows, kind) for kind in ("state", "action"))
        codec.encode_state(state)
        codec.encode_action(action, state)
        for view in dataset.views:
            dataset.frames(index, view, [0])
    except SvmsError as error:
        yield from_error("training", error)
        return
    if len(dataset.episodes) < 2:
        found = f"{len(dataset.episodes)} episode, and training holds at least one out"
        todo = "Record more than one"
        yield Finding(severity="error", check="training", where=str(dataset.root), found=found, todo=todo)


def _first(rows: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """The first step of every key of a kind, (1, D)."""
    return {name.split(".", 1)[1]: part[:1] for name, part in rows.items() if name.startswith(f"{kind}.")}
