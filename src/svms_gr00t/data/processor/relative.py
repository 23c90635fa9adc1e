"""Relative actions as the model learns them, and what is needed to normalise them at every horizon step.

Axes: T steps of an episode, n of them with an action `delta` steps later, H horizon, D numbers of a key.

    joints    r[t, h] = a[t + h] - s[t]
    poses     r[t, h] = s[t]^-1 a[t + h]            the commanded pose seen from the current one

Far steps move further than near ones, so each horizon step has its own range. Only actions inside the episode count:
those beyond its end are masked out in training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Shaped

from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.history import clipped_steps
from svms_gr00t.data.processor.embodiment import ActionConfig, EmbodimentConfig
from svms_gr00t.data.processor.rotations import relative_pose


def relative_keys(embodiment: EmbodimentConfig) -> tuple[str, ...]:
    """Action keys that are learned as differences from the state."""
    return tuple(key for key in embodiment.action.modality_keys if embodiment.action.action(key).rep == "relative")


def relative_rows(
    actions: Shaped[np.ndarray, "T D"], state: Shaped[np.ndarray, "T D"], meaning: ActionConfig, delta: int
) -> Float[np.ndarray, "n D"]:
    """Every action `delta` steps after a step of the episode, relative to the state at that step, float64.

    Raises DataError when they do not fit the pose format.
    """
    first = max(-delta, 0)
    last = max(len(actions) - max(delta, 0), first)
    later = actions[first + delta : last + delta].astype(np.float64)
    now = state[first:last].astype(np.float64)
    if meaning.type == "eef" and meaning.format != "default":
        return relative_pose(later, now, meaning.format)
    return later - now


def relative_chunks(
    rows: Mapping[str, np.ndarray], embodiment: EmbodimentConfig, key: str
) -> list[Float[np.ndarray, "_n D"]]:
    """Relative actions of `key` in one episode (`rows` as `LeRobotDataset.lowdim` gives them), by horizon step.

    Raises DataError when action and state have different widths or do not fit the pose format.
    """
    meaning = embodiment.action.action(key)
    actions, state = rows[f"action.{key}"], rows[f"state.{meaning.state_key or key}"]
    if actions.shape[1] != state.shape[1]:
        got, want = f"{actions.shape[1]} action and {state.shape[1]} state numbers", "equally many"
        raise DataError(f"relative action.{key}", got=got, want=want, hint="Name the right state_key")
    # Actions are relative to the last state that an observation holds, which need not be that of now.
    latest = embodiment.state.delta_indices[-1:]
    state = state[[clipped_steps(step, latest, len(state))[0] for step in range(len(state))]]
    return [relative_rows(actions, state, meaning, delta) for delta in embodiment.action.delta_indices]


def with_relative(embodiment: EmbodimentConfig, specs: Sequence[str]) -> EmbodimentConfig:
    """`embodiment` with some action keys relative: "KEY", "KEY=STATE" for joints, "KEY=STATE:xyz+rot6d" for poses.

    Raises ConfigError for an unknown key, state or format.
    """
    configs = {key: embodiment.action.action(key) for key in embodiment.action.modality_keys}
    for spec in specs:
        names, _, form = spec.partition(":")
        key, _, state = names.partition("=")
        if key not in configs:
            raise ConfigError("relative", got=spec, want=f"a key among {', '.join(configs)}", hint="See modality.json")
        if form not in ("", "xyz+rot6d", "xyz+rotvec"):
            hint = "Leave it out for joints"
            raise ConfigError("relative", got=spec, want="the format xyz+rot6d or xyz+rotvec", hint=hint)
        kind = {"type": "eef", "format": form} if form else {}
        configs[key] = ActionConfig(rep="relative", state_key=state or None, **kind)  # type: ignore[arg-type]
    return replace(embodiment, action=replace(embodiment.action, action_configs=tuple(configs.values())))
