"""What a client may hand to `Policy.get_action`, checked against the robot before anything is computed.

Axes: B robots, T past steps, H and W pixels, D numbers of a state key.

    nested   {"video": {camera: uint8 (B, T, H, W, 3)}, "state": {key: float32 (B, T, D)}, "language": {key: [[text]]}}
    flat     {"video.<camera>": ..., "state.<key>": ..., "<language key>": [text, ...]}

Keys that the robot does not have are ignored, so that one client can serve several checkpoints; a key that it has and
the observation lacks is an error that lists all of them. Source of both forms: the N1.6 policy and its simulation
wrapper.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.processor.config import ProcessorConfig
from svms_gr00t.data.processor.embodiment import ModalityConfig
from svms_gr00t.data.processor.observation import Observation
from svms_gr00t.data.processor.prompt import formalize_language

KINDS = ("video", "state", "language")
_HINT = "policy.get_modality_config() lists every key"


def read_request(given: Any, config: ProcessorConfig) -> Observation:
    """The observation of B robots. Raises DataError, one sentence with what was expected, for anything else."""
    robot = config.embodiment
    wanted = {"video": robot.video, "state": robot.state, "language": robot.language}
    if not isinstance(given, Mapping):
        _refuse("observation", _kind(given), f"a mapping with {_forms(wanted)}")
    parts = {kind: _part(kind, modality, given, wanted) for kind, modality in wanted.items()}
    language = _instructions(robot.language.modality_keys[0], next(iter(parts["language"].values())), config)
    video = {k: _frames(f"video.{k}", v, len(language), robot.video) for k, v in parts["video"].items()}
    state = {k: _numbers(f"state.{k}", v, len(language), robot.state) for k, v in parts["state"].items()}
    return Observation(video=video, state=state, language=language)


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


def _part(
    kind: str, modality: ModalityConfig, given: Mapping[str, Any], wanted: Mapping[str, ModalityConfig]
) -> dict[str, Any]:
    """The values of the robot's keys of one kind, from either form."""
    nested = any(isinstance(given.get(name), Mapping) for name in KINDS)
    if nested:
        if not isinstance(given.get(kind), Mapping):
            got = f"only {', '.join(map(str, given))}" if kind not in given else f"{kind} as {_kind(given[kind])}"
            _refuse("observation", got, _forms(wanted))
        found = dict(given[kind])
    else:
        prefix = "" if kind == "language" else f"{kind}."
        found = {str(key).removeprefix(prefix): value for key, value in given.items() if str(key).startswith(prefix)}
        found |= {str(key).removeprefix("language."): v for key, v in given.items() if kind == "language"}
    keys = modality.modality_keys[:1] if kind == "language" else modality.modality_keys
    if missing := [key for key in keys if key not in found]:
        others = [str(key) for key in (given[kind] if nested else given)]
        got = f"no {', '.join(missing)} (only {', '.join(others) or 'nothing'})"
        _refuse(f"observation {kind}", got, f"keys {', '.join(keys)}")
    return {key: found[key] for key in keys}


def _frames(where: str, given: Any, batch: int, modality: ModalityConfig) -> np.ndarray:
    frames, want = _array(where, given), f"uint8 ({batch}, {modality.horizon}, height, width, 3)"
    if frames.dtype != np.uint8:
        _refuse(where, _shape(frames), want, "Frames are RGB, 0 .. 255, not scaled")
    if frames.ndim != 5 or frames.shape[:2] != (batch, modality.horizon) or frames.shape[-1] != 3 or 0 in frames.shape:
        _refuse(where, _shape(frames), want, "Axes are robot, past step, row, column, RGB")
    return frames


def _numbers(where: str, given: Any, batch: int, modality: ModalityConfig) -> np.ndarray:
    numbers, want = _array(where, given), f"float32 ({batch}, {modality.horizon}, numbers)"
    if numbers.dtype != np.float32:
        _refuse(where, _shape(numbers), want, "Convert it with .astype(np.float32)")
    if numbers.ndim != 3 or numbers.shape[:2] != (batch, modality.horizon) or 0 in numbers.shape:
        _refuse(where, _shape(numbers), want, "Axes are robot, past step, number")
    if not np.isfinite(numbers).all():
        _refuse(where, "NaN or infinity", f"finite {want}", "Check the sensor that fills this key")
    return numbers


def _instructions(key: str, given: Any, config: ProcessorConfig) -> tuple[str, ...]:
    """One text for each robot, from a text, texts, or N1.6's list of texts for each robot (the last one counts)."""
    want = f"one instruction for each robot under {key}, such as [['open the drawer']]"
    rows = [given] if isinstance(given, str) else given
    if not isinstance(rows, Sequence | np.ndarray) or len(rows) == 0:
        _refuse("observation language", _kind(given), want)
    texts = [row if isinstance(row, str) else _last(row) for row in rows]
    for text in texts:
        if not isinstance(text, str):
            _refuse("observation language", _kind(given), want)
        if not (formalize_language(text) if config.formalize_language else text).strip():
            _refuse("observation language", f"an instruction without words ({text!r})", want)
    return tuple(str(text) for text in texts)


def _last(row: Any) -> Any:
    return row[-1] if isinstance(row, Sequence | np.ndarray) and len(row) else None


def _array(where: str, given: Any) -> np.ndarray:
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        _refuse(where, f"{_kind(given)} ({error})", "an array")


def _forms(wanted: Mapping[str, ModalityConfig]) -> str:
    return "; ".join(f"{kind}: {', '.join(modality.modality_keys)}" for kind, modality in wanted.items())


def _shape(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]


def _refuse(where: str, got: str, want: str, hint: str = _HINT) -> NoReturn:
    raise DataError(where, got=got, want=want, hint=hint)
