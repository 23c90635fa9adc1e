"""A monitor as one file: tensors in safetensors, everything else as JSON in its header."""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from svms_gr00t.consistency.heads import MotionHead, PictureHead
from svms_gr00t.consistency.monitor import BESIDE, Consistency, Facts, Scales
from svms_gr00t.consistency.reads import what_is_read
from svms_gr00t.core.errors import CheckpointError, ConfigError
from svms_gr00t.core.files.whole import whole_file
from svms_gr00t.policy import Policy

_KEY = "consistency"
_HINT = "Train one: svms-gr00t monitor train CHECKPOINT DATASET"


def save(monitor: Consistency, path: Path | str) -> Path:
    """Write it; the file appears when it is complete."""
    tensors: dict[str, Tensor] = {f"pictures.{k}": v for k, v in monitor.pictures.state_dict().items()}
    tensors |= {f"motion.{k}": v for k, v in monitor.motion.state_dict().items()}
    tensors |= {f"scale.{name}": value for name, value in vars(monitor.scales).items()}
    tensors |= {"clean": torch.from_numpy(monitor.clean), "episodes": torch.from_numpy(monitor.episodes)}
    with whole_file(path) as partial:
        save_file(
            {k: v.contiguous() for k, v in tensors.items()},
            partial,
            metadata={_KEY: monitor.facts.to_json(indent=None)},
        )
    return Path(path)


def load(path: Path | str, policy: Policy | None = None) -> Consistency:
    """Read what `save` wrote. Raises CheckpointError for another file, and for a monitor of another `policy`."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(path, got="no such file", want="a consistency monitor", hint=_HINT)
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise CheckpointError(
            path, got=f"no safetensors ({error})", want="a consistency monitor", hint=_HINT
        ) from error
    if header is None:
        raise CheckpointError(path, got="other tensors", want="a consistency monitor", hint=_HINT)
    facts = Facts.from_json(header, where=path)
    if policy is not None:
        check(facts, policy, path)
    try:
        return _built(facts, tensors)
    except (KeyError, RuntimeError, OverflowError, TypeError, ValueError) as error:
        got = f"tensors that do not fit its header ({error})".replace("\n", " ")
        raise CheckpointError(path, got=got, want="a whole monitor", hint=_HINT) from error


def check(facts: Facts, policy: Policy, path: Path | str = "monitor") -> None:
    """Raise CheckpointError when `policy` reads pictures in another way than the monitor was trained on."""
    if facts.reads != what_is_read(policy):
        got = f"a monitor of another backbone ({facts.checkpoint})"
        raise CheckpointError(path, got=got, want="one that was trained for this checkpoint", hint=_HINT)


def check_lag(facts: Facts, executed: int, where: str) -> None:
    """Raise ConfigError when a robot executes another number of steps than the monitor was trained for."""
    if executed != facts.lag:
        want, hint = f"the monitor's lag, {facts.lag}", f"Train one: svms-gr00t monitor train --lag {executed}"
        raise ConfigError(where, got=executed, want=want, hint=hint)


def _built(facts: Facts, tensors: dict[str, Tensor]) -> Consistency:
    places, width = facts.tokens
    numbers = sum(number for _, number in facts.actions)
    changes = sum(one.freedom for one in facts.body.quantities)
    with torch.device("meta"):  # the header may say any size: the tensors that are there are taken as they are
        pictures = PictureHead(width=width, places=places, out=facts.body.width + BESIDE)
        motion = MotionHead(given=facts.body.width + facts.lag * numbers, out=changes)
    for name, head in (("pictures", pictures), ("motion", motion)):
        own = {k.removeprefix(f"{name}."): v.float() for k, v in tensors.items() if k.startswith(f"{name}.")}
        head.load_state_dict(own, assign=True)
    scales = Scales(**{k.removeprefix("scale."): v for k, v in tensors.items() if k.startswith("scale.")})
    clean, episodes = tensors["clean"].numpy(), tensors["episodes"].numpy()
    return Consistency(
        facts, pictures=pictures, motion=motion, scales=scales, clean=clean.astype(np.float64), episodes=episodes
    )
