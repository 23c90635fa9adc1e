"""Recorded episodes, and what a policy would have done at their steps, as the viewer's record.

Axes: n steps with a picture, H and W pixels, T tokens.

The policy is asked every few steps and always sees the recorded past (open loop): its chunks are those that
`evaluate open-loop` scores with the same seed.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from svms_gr00t.core.arrays import as_array
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.history import History, memory_of
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.core.protocols import ActionPolicy, bare_keys, fixed_seed
from svms_gr00t.data.labels.labeler import Labeler as English
from svms_gr00t.data.labels.tokens import Labeler, Span, streams_of
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.lerobot.elements import Key, keys_of
from svms_gr00t.data.pictures import check_pixels
from svms_gr00t.data.processor.prompt import formalize_language
from svms_gr00t.evaluate.closed_loop.episode import read_ages, read_evidence
from svms_gr00t.evaluate.open_loop.recorded import recorded
from svms_gr00t.evaluate.report.figures import data_uri
from svms_gr00t.evaluate.streams.routing import word_routes
from svms_gr00t.evaluate.viewer.record import Camera, Panel, Plan, Recording, Rows, Saying, Watched, Word

MOST = 40
"""Pictures of one episode and camera, unless a stride is asked for."""
SIDE = 192
"""Pixels of the longer side of a picture, at most."""
_BATCH = 16


def watch(
    dataset: LeRobotDataset,
    episodes: Sequence[int],
    *,
    title: str,
    policy: ActionPolicy | None = None,
    name: str = "",
    every: int = 8,
    stride: int | None = None,
    side: int = SIDE,
    seed: int = 0,
    split: Mapping[int, str] | None = None,
    labeler: Labeler | None = None,
    progress: Progress | None = None,
) -> Recording:
    """`episodes` with a picture every `stride` steps (by default at most `MOST`), and a plan every `every` steps.

    `split` says of which part an episode is; `labeler` labels the words, by default the English one. Raises ConfigError
    for numbers below 1, DataError for episodes that cannot be read and for a policy of another robot.
    """
    for flag, number in (
        ("every", every),
        ("stride", 1 if stride is None else stride),
        ("side", side),
        ("episodes", len(episodes)),
    ):
        if number < 1:
            raise ConfigError(f"view, {flag}", got=number, want="at least 1", hint="Try the default")
    labeler, found = labeler or English(), []
    with (progress or Silent()).task("watching episodes", len(episodes)) as bar:
        for index in episodes:
            part = "" if split is None else split.get(index, "")
            found.append(_episode(dataset, index, policy, labeler, every, stride, side, seed, part))
            bar.advance()
    streams, edges = _names(policy)
    return Recording(
        title=title,
        subtitle=f"{dataset.root.name}, {dataset.robot_type}, {dataset.fps:g} steps a second",
        fps=dataset.fps,
        policy=name if policy is not None else "",
        every=every,
        labels=streams_of(labeler),
        streams=streams,
        edges=edges,
        episodes=tuple(found),
    )


def _episode(
    dataset: LeRobotDataset,
    index: int,
    policy: ActionPolicy | None,
    labeler: Labeler,
    every: int,
    stride: int | None,
    side: int,
    seed: int,
    split: str,
) -> Watched:
    dataset.check_episode(index)
    keys, length = list(keys_of(dataset, index)), dataset.episode(index).length
    steps = range(0, length, stride or -(-length // MOST))
    return Watched(
        index=index,
        length=length,
        split=split,
        sayings=tuple(_sayings(dataset.instructions(index), labeler)),
        steps=tuple(steps),
        cameras=tuple(
            Camera(name=view, pictures=_pictures(dataset, index, view, steps, side)) for view in dataset.views
        ),
        panels=tuple(_panel(key) for key in keys if not key.flat),
        still=tuple(f"{key.kind}.{key.name}" for key in keys if key.flat),
        plans=() if policy is None else tuple(_plans(policy, dataset, index, every, seed)),
    )


def _panel(key: Key) -> Panel:
    return Panel(kind=key.kind, name=key.name, unit=key.unit, elements=key.elements, values=_short(key.values.T))


def _short(rows: Any) -> Rows:
    """Four digits: more than a plot shows."""
    return tuple(tuple(float(f"{number:.4g}") for number in row) for row in np.asarray(rows, float))


def _sayings(texts: Sequence[str], labeler: Labeler) -> Iterator[Saying]:
    for step, text in enumerate(texts):
        if step == 0 or text != texts[step - 1]:
            plain = formalize_language(text)
            names, spans = streams_of(labeler), list(labeler(plain))
            words = [Word(text=m.group(), labels=_labels(m, spans, names)) for m in re.finditer(r"\S+", plain)]
            yield Saying(step=step, text=text, words=tuple(words))


def _labels(word: re.Match[str], spans: Sequence[Span], names: Sequence[str]) -> tuple[str, ...]:
    """Of every span that a word is part of: a phrase labels all of its words, and parts of a word label the word."""
    on = {
        name
        for start, end, values in spans
        if start < word.end() and word.start() < end
        for name, value in zip(names, values, strict=False)
        if value
    }
    return tuple(name for name in names if name in on)


def _pictures(dataset: LeRobotDataset, index: int, view: str, steps: Sequence[int], side: int) -> tuple[str, ...]:
    def small(frames: np.ndarray) -> np.ndarray:
        scale = min(1.0, side / max(frames.shape[1:3]))
        height, width = (max(1, round(length * scale)) for length in frames.shape[1:3])
        check_pixels(height, width, f"{dataset.root}, episode {index}, {view}")
        return np.asarray(Image.fromarray(frames[0]).resize((width, height), Image.Resampling.BILINEAR))[None]

    return tuple(data_uri(_webp(frame), "image/webp") for frame in dataset.frames(index, view, steps, small))


def _webp(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "WEBP", quality=72)
    return buffer.getvalue()


def _plans(policy: ActionPolicy, dataset: LeRobotDataset, index: int, every: int, seed: int) -> Iterator[Plan]:
    whole, memory = recorded(dataset, index, History.of(policy)), memory_of(policy)
    steps = range(0, len(whole.instructions), every)
    policy.reset(fixed_seed(seed, index))
    for start in range(0, len(steps), _BATCH):
        batch = steps[start : start + _BATCH]
        seeds = [fixed_seed(seed, index, step) for step in batch]
        chunks, evidence = policy.act(whole.at(batch), seeds=seeds)
        for row, (step, chunk) in enumerate(zip(batch, chunks, strict=True)):
            own = {key: evidence[key][row : row + 1] for key in ("rho", "weights", "ages") if key in evidence}
            said, ages = read_evidence(own, step, memory), read_ages(own, step, memory)
            shown = {key: _short(rows.T) for key, rows in bare_keys(chunk).items()}
            if said is None:
                yield Plan(step=step, chunk=shown, ages=ages)
                continue
            words = _words(evidence, row, whole.instructions[step])
            (rho,), (routes,) = _short([said.rho]), _short([said.routes])
            told: Any = {"rho": rho, "routes": routes, "ages": ages}
            yield Plan(step=step, chunk=shown, words=_short(words) if words else (), **told)


def _words(evidence: Mapping[str, Any], row: int, instruction: str) -> list[tuple[float, ...]]:
    """Router weights of each word; none where the instruction is not found in the texts of the tokens."""
    if "tokens" not in evidence:
        return []
    pieces, weights = list(evidence["tokens"][row]), as_array(evidence["weights"])[row]
    text, spoken = "".join(pieces), formalize_language(instruction)
    if (first := text.find(spoken)) < 0 or not spoken.strip():
        return []
    ends = (np.cumsum([len(piece) for piece in pieces]) - first).tolist()
    offsets = [(end - len(piece), end) for end, piece in zip(ends, pieces, strict=True)]
    found = word_routes(spoken, offsets, weights)
    return [one.routes for one in found] if len(found) == len(spoken.split()) else []


def _names(policy: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of streams and edges; none without streams."""
    graph = getattr(getattr(getattr(policy, "model", None), "svms", None), "graph", None)
    return ((), ()) if graph is None else (tuple(graph.streams), tuple(graph.edge_names))
