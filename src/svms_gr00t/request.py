"""What a caller may hand to a policy, read in one place and checked against the robot before anything is computed.

Axes: B robots, T past steps, H and W pixels, D numbers of a state key.

    nested   {"video": {camera: uint8 (B, T, H, W, 3)}, "state": {key: float32 (B, T, D)}, "language": {key: [[text]]}}
    flat     {"video.<camera>": ..., "state.<key>": ..., "<language key>": [text, ...]}

`read_request` takes both of a batch; `read_robot` takes both of one robot, without B and, for a robot that looks at
the present alone, without T. Pictures may be fractions or channels first (`data/pictures.py`). A language is a text
for each robot: a string, a list, an array of strings, or N1.6's list of texts for each robot, whose first one it
reads. Keys that the robot does not have are ignored, so that one client can serve several checkpoints; a key that it
has and the observation lacks is an error that lists all of them. Source of both forms: the N1.6 policy and its
simulation wrapper.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.escape import echo
from svms_gr00t.core.history import EARLIER, NOW, STEP
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.data.pictures import as_plain_array, as_uint8_rgb
from svms_gr00t.data.processor.config import ProcessorConfig
from svms_gr00t.data.processor.embodiment import ModalityConfig
from svms_gr00t.data.processor.observation import (
    Observation,
    check_frames,
    check_numbers,
    frames_wanted,
    one_robot,
)
from svms_gr00t.data.processor.prompt import formalize_language

KINDS = ("video", "state", "language")
_HINT = "policy.get_modality_config() lists every key"


def read_request(given: Any, config: ProcessorConfig) -> Observation:
    """The observation of B robots. Raises DataError, one sentence with what was expected, for anything else."""
    return _read(given, config, batched=True)


def read_robot(given: Any, config: ProcessorConfig) -> Observation:
    """The observation of one robot, without its batch axis; its states may be float64.

    The instruction stands under the robot's own key, or under the one that evaluation uses for every robot; it may be
    empty, which is a control of evaluation. Raises DataError as `read_request` does for all else.
    """
    return _read(given, config, batched=False)


def _read(given: Any, config: ProcessorConfig, *, batched: bool) -> Observation:
    robot = config.embodiment
    wanted = {"video": robot.video, "state": robot.state, "language": robot.language}
    if not isinstance(given, Mapping):
        _refuse("observation", _kind(given), f"a mapping with {_forms(wanted)}")
    key = robot.language.modality_keys[0]
    if not batched and key not in given and INSTRUCTION in given:
        given = {**given, key: given[INSTRUCTION]}
    parts = {kind: _part(kind, modality, given, wanted) for kind, modality in wanted.items()}
    language = _instructions(key, next(iter(parts["language"].values())), config, mute=not batched)
    if not batched and len(language) != 1:
        _refuse("observation language", f"{len(language)} instructions", "one, for one robot")
    batch = len(language)
    if batched:
        _check_texts(batch, parts)
    return Observation(
        video={k: _frames(f"video.{k}", v, batch, robot.video, batched) for k, v in parts["video"].items()},
        state={k: _numbers(f"state.{k}", v, batch, robot.state, batched) for k, v in parts["state"].items()},
        language=language,
        step=_steps(given[STEP], batch) if given.get(STEP) is not None else None,
    )


def read_earlier(
    given: Sequence[Mapping[str, Any]], offsets: Sequence[int]
) -> list[tuple[Mapping[str, Any] | None, ...]] | None:
    """What recorded observations say was seen at the memory's offsets; None when they say nothing.

    Raises DataError when only some of them do, or for another number of steps.
    """
    said = [one[EARLIER] for one in given if one.get(EARLIER) is not None]
    if not said:
        return None
    sizes = sorted({len(steps) for steps in said})
    if len(said) < len(given) or sizes != [len(offsets)]:
        got = f"{len(said)} of {len(given)} observations with {', '.join(map(str, sizes))} earlier steps"
        _refuse(f"observation {EARLIER}", got, f"{len(offsets)} in each, None before the start", "Or in none")
    return [tuple(steps) for steps in said]


def read_robots(options: Mapping[str, Any] | None, count: int) -> list[tuple[str, int]]:
    """(client, row) of each observation of a request: "client" and "rows" of the options, by default 0, 1, ..

    Raises DataError for another number of rows, and for one that is named twice.
    """
    options = options or {}
    rows = options.get("rows")
    rows = list(range(count)) if rows is None else [int(row) for row in rows]
    if len(rows) != count or len(set(rows)) < count or (rows and min(rows) < 0):
        _refuse("options.rows", echo(rows), f"{count} different numbers from 0", "One for each observation")
    return [(str(options.get("client") or ""), row) for row in rows]


def read_seeds(options: Mapping[str, Any] | None, stream: tuple[int, int], count: int) -> list[int]:
    """A seed for each robot: "seeds" of the options, else drawn from "seed" or from (episode seed, call number).

    Raises DataError for another number of seeds.
    """
    options = options or {}
    if options.get("seeds") is not None:
        seeds = [int(seed) for seed in options["seeds"]]
        if len(seeds) != count:
            _refuse("options.seeds", f"{len(seeds)} seeds", f"{count}, one for each robot", "Or pass one seed")
        return seeds
    entropy = (int(options["seed"]), 0) if options.get("seed") is not None else stream
    return [
        int(np.random.SeedSequence([abs(n) for n in entropy], spawn_key=(i,)).generate_state(1)[0])
        for i in range(count)
    ]


def _check_texts(batch: int, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise DataError when all pictures and states are of one number of robots, and the texts are of another."""
    arrays = [v for kind in ("video", "state") for v in parts[kind].values() if isinstance(v, np.ndarray) and v.ndim]
    robots = {len(array) for array in arrays if array.ndim in (3, 5)}
    if len(robots) == 1 and (count := robots.pop()) != batch:
        hint = f"Send [[text]] * {count} where all do the same" if batch == 1 else "Each robot has one text"
        got = f"{batch} instruction{'s' * (batch > 1)}"
        _refuse("observation language", got, f"{count}, one for each robot in the arrays", hint)


def _steps(given: Any, batch: int) -> tuple[int, ...]:
    rows = as_plain_array(f"observation {STEP}", given)
    if rows.dtype.kind not in "iu" or rows.shape not in ((), (batch,)):
        want = f"a whole number, or {batch}, one for each robot"
        _refuse(f"observation {STEP}", _kind(given), want, "Count the environment's steps since the episode began")
    return tuple(int(step) for step in np.broadcast_to(rows, (batch,)))


def _part(
    kind: str, modality: ModalityConfig, given: Mapping[str, Any], wanted: Mapping[str, ModalityConfig]
) -> dict[str, Any]:
    """The values of the robot's keys of one kind, from either form."""
    nested = any(isinstance(given.get(name), Mapping) for name in KINDS)
    if nested:
        if not isinstance(given.get(kind), Mapping):
            got = f"only {echo(', '.join(map(str, given)))}" if kind not in given else f"{kind} as {_kind(given[kind])}"
            _refuse("observation", got, _forms(wanted))
        found = dict(given[kind])
    else:
        prefix = prefix_of(kind)
        found = {str(key).removeprefix(prefix): value for key, value in given.items() if str(key).startswith(prefix)}
        found |= {str(key).removeprefix("language."): v for key, v in given.items() if kind == "language"}
    keys = modality.modality_keys[:1] if kind == "language" else modality.modality_keys
    if missing := [key for key in keys if key not in found]:
        others = echo(", ".join(str(key) for key in (given[kind] if nested else given)))
        wanted_keys = ", ".join(keys if nested else [prefix_of(kind) + key for key in keys])
        _refuse(f"observation {kind}", f"no {', '.join(missing)} (only {others or 'nothing'})", f"keys {wanted_keys}")
    return {key: found[key] for key in keys}


def prefix_of(kind: str) -> str:
    """What stands before a key of a flat observation."""
    return "" if kind == "language" else f"{kind}."


def _frames(where: str, given: Any, batch: int, modality: ModalityConfig, batched: bool) -> np.ndarray:
    steps = modality.horizon
    want = frames_wanted(batch, steps) if batched else "uint8 (height, width, 3)"
    array = as_plain_array(where, given, want=want)
    if batched and array.ndim != 5:
        hint = "Axes are robot, past step, row, column, RGB; frames[None, None] adds the first two"
        _refuse(where, f"{array.dtype} {array.shape}", want, hint)
    frames = as_uint8_rgb(where, array, want=want)
    frames = frames if batched else one_robot(frames, 3)
    _check_past(where, frames, 5, modality)
    check_frames(where, frames, batch, steps)
    return frames


def _numbers(where: str, given: Any, batch: int, modality: ModalityConfig, batched: bool) -> np.ndarray:
    numbers = as_plain_array(where, given)
    if not batched:  # a simulator's own doubles; on the wire they would be twice the bytes for nothing
        numbers = one_robot(numbers.astype(np.float32) if numbers.dtype == np.float64 else numbers, 1)
    _check_past(where, numbers, 3, modality)
    check_numbers(where, numbers, batch, modality.horizon)
    return numbers


def _check_past(where: str, values: np.ndarray, axes: int, modality: ModalityConfig) -> None:
    """Raise DataError, naming the steps, for an observation without the past that the robot looks back to."""
    if values.ndim == axes and values.shape[1] != modality.horizon and modality.delta_indices != NOW:
        want = f"{modality.horizon}, at {', '.join(map(str, modality.delta_indices))} from now"
        hint = "svms_gr00t.core.history.History keeps the past of an episode"
        _refuse(where, f"{values.shape[1]} steps", want, hint)


def _instructions(key: str, given: Any, config: ProcessorConfig, *, mute: bool) -> tuple[str, ...]:
    """One text for each robot, from a text, texts, or N1.6's list of texts for each robot, of which it reads the first.

    Raises DataError for anything else, and for an instruction without words unless it may be `mute`.
    """
    want = f"one instruction for each robot under {key}, such as [['open the drawer']]"
    rows = given.tolist() if isinstance(given, np.ndarray) else given
    rows = [rows] if isinstance(rows, str) else rows
    if not isinstance(rows, Sequence) or isinstance(rows, bytes) or len(rows) == 0:
        _refuse("observation language", _kind(given), want)
    texts = [_first(row) for row in rows]
    for text in texts:
        if not isinstance(text, str):
            _refuse("observation language", _kind(given), want)
        if not mute and not (formalize_language(text) if config.formalize_language else text).strip():
            _refuse("observation language", f"an instruction without words ({echo(repr(text))})", want)
    return tuple(str(text) for text in texts)


def _first(row: Any) -> Any:
    row = row.tolist() if isinstance(row, np.ndarray) else row
    return row[0] if isinstance(row, list | tuple) and len(row) else row


def _forms(wanted: Mapping[str, ModalityConfig]) -> str:
    return "; ".join(f"{kind}: {', '.join(modality.modality_keys)}" for kind, modality in wanted.items())


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]


def _refuse(where: str, got: str, want: str, hint: str = _HINT) -> NoReturn:
    raise DataError(where, got=got, want=want, hint=hint)
