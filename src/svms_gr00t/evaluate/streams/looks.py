"""One look at one observation: what streams, features and repeated sampling say, without deciding anything.

Axes: B looks, T tokens, M model width, S streams, E edges, R repeated chunks, H horizon, A action elements.

    edges      mean ρ over valid tokens on each edge, before the correction
    routes     mean router weight of each stream over valid tokens
    feature    mean token that the action head reads; norm: mean of the tokens' lengths
    variance   of R chunks from different noise, mean over steps and action elements, in the model's [-1, 1] units
    gap        score of a consistency monitor, in clean spreads; gaps: z of each of its edges
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from svms_gr00t.consistency.monitor import Consistency, Looks
from svms_gr00t.consistency.reads import image_tokens, overheard
from svms_gr00t.core.arrays import as_array
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.history import History
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.core.protocols import fixed_seed
from svms_gr00t.evaluate.open_loop.baselines import split_lowdim
from svms_gr00t.evaluate.open_loop.recorded import recorded
from svms_gr00t.evaluate.streams.shifts import Shift
from svms_gr00t.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Look:
    """Everything measured about one observation."""

    episode: int
    step: int
    progress: float
    """Share of the episode that is over, in [0, 1]."""
    instruction: str
    edges: Float[ndarray, " E"]
    """Empty without streams."""
    routes: Float[ndarray, " S"]
    feature: Float[ndarray, " M"]
    norm: float
    variance: float
    """NaN when fewer than two chunks were sampled."""
    state: Float[ndarray, " _D"] = field(default_factory=lambda: np.zeros(0))
    """All measurements side by side, in their own units."""
    gap: float = float("nan")
    """NaN without a consistency monitor."""
    gaps: Float[ndarray, " _G"] = field(default_factory=lambda: np.zeros(0))
    """NaN where an edge cannot speak."""

    @property
    def rho(self) -> float:
        """Score of the disagreement monitor; NaN without streams."""
        return float(self.edges.mean()) if len(self.edges) else float("nan")


@torch.no_grad()
def look(
    policy: Policy,
    observations: Sequence[dict[str, Any]],
    *,
    draws: int = 1,
    seed: int = 0,
    monitor: Consistency | None = None,
) -> list[dict[str, Any]]:
    """Measurements of each observation as keyword arguments of `Look`; "said", what pictures tell a `monitor`, too."""
    _, inputs = policy.prepare(observations)
    with overheard(policy) as heard:
        features, states = policy.model.encode(inputs, losses=False)
    mask = features.mask[..., None]
    count = features.mask.sum(1, keepdim=True).clamp(min=1)
    tokens = torch.where(mask, features.tokens.float(), 0.0)
    found = {"feature": tokens.sum(1) / count, "norm": tokens.norm(dim=-1).sum(1) / count[:, 0]}
    found["variance"] = torch.full((len(observations),), float("nan"))
    if draws > 1:
        found["variance"] = _spread(policy, features, inputs, draws, seed)
    if states is not None:
        found["edges"] = torch.where(mask, states.rho.float(), 0.0).sum(1) / count
        found["routes"] = torch.where(mask, states.weights.float(), 0.0).sum(1) / count
    empty = np.zeros((len(observations), 0))
    rows = {"edges": empty, "routes": empty} | {name: as_array(value) for name, value in found.items()}
    rows["state"] = np.stack([np.concatenate(list(state_of(one).values())) for one in observations])
    if monitor is not None:
        rows["said"] = monitor.see(image_tokens(heard[0]))
    return [
        {name: float(v[i]) if name in ("norm", "variance") else v[i].astype(float) for name, v in rows.items()}
        for i in range(len(observations))
    ]


def _spread(policy: Policy, features: Any, inputs: Any, draws: int, seed: int) -> torch.Tensor:
    head, codec = policy.model.action_head, policy.processor.codec
    size = (1, policy.model.config.action_horizon, policy.model.config.max_action_dim)
    chunks = []
    for draw in range(draws):  # the same noise for every observation: what differs is the observation
        noise = torch.randn(size, generator=torch.Generator().manual_seed(fixed_seed(seed, draw)))
        noise = noise.expand(len(inputs.state), -1, -1).to(policy.device)
        chunks.append(head.sample(features, inputs.state, inputs.embodiment_id, noise=noise))
    stacked = torch.stack(chunks)[:, :, : codec.horizon, : codec.action_dim].float()
    return stacked.var(0).mean((1, 2))


def look_at_episodes(
    policy: Policy,
    dataset: Any,
    episodes: Sequence[int],
    *,
    stride: int = 8,
    shift: Shift | None = None,
    monitor: Consistency | None = None,
    draws: int = 1,
    batch_size: int = 32,
    title: str = "looking",
    progress: Progress | None = None,
) -> list[Look]:
    """Looks at every stride-th step after the first of each episode, from the shift's first step on.

    A shift breaks what is seen now; what a memory is shown of the past stays as it was. A consistency `monitor` also
    sees the look before. Raises ConfigError for one that was trained for another stride.
    """
    found: list[Look] = []
    history = History.of(policy)
    if monitor is not None and monitor.facts.lag != stride:
        hint = "Look at the steps that the monitor was trained for"
        raise ConfigError("stride", got=stride, want=f"the monitor's lag, {monitor.facts.lag}", hint=hint)
    with (progress or Silent()).task(title, len(episodes)) as bar:
        for episode in episodes:
            _, actions = split_lowdim(dataset.lowdim(episode))
            whole = recorded(dataset, episode, history)
            length = len(whole.instructions)
            steps = list(range(0, length, stride)) if length > stride else [0, length - 1]
            given = whole.at(steps) if shift is None else shift.spoil(whole, steps)
            values: list[dict[str, Any]] = []
            for start in range(0, len(steps), batch_size):
                values += look(policy, given[start : start + batch_size], draws=draws, monitor=monitor)
            if monitor is not None and length > stride:
                done = executed(monitor, actions, steps)
                add_gaps(monitor, values, [state_of(one) for one in given], done)
            first = 0 if shift is None else shift.after
            for step, one in list(zip(steps, values, strict=True))[1:]:
                one.pop("said", None)
                at: dict[str, Any] = {"episode": episode, "step": step, "progress": step / max(1, length - 1)}
                if step >= first:
                    found.append(Look(**at, instruction=whole.instructions[step], **one))
            bar.advance()
    return found


def executed(monitor: Consistency, actions: Mapping[str, ndarray], steps: Sequence[int]) -> Float[ndarray, "n L A"]:
    """What was done since the look before; NaN before the first."""
    rows = np.concatenate([np.asarray(actions[key], np.float64) for key, _ in monitor.facts.actions], axis=1)
    lag = monitor.facts.lag
    return np.stack([rows[step - lag : step] if step else np.full((lag, rows.shape[1]), np.nan) for step in steps])


def add_gaps(
    monitor: Consistency,
    values: Sequence[dict[str, Any]],
    states: Sequence[Mapping[str, ndarray]],
    done: Float[ndarray, "n L A"],
) -> None:
    """Write "gap" and "gaps" of looks in a row, one lag apart, into `values`."""
    now = monitor.facts.body.read({key: np.stack([one[key] for one in states]) for key in states[0]})
    said = np.stack([one["said"] for one in values])
    before, said_before = (np.concatenate([np.full_like(rows[:1], np.nan), rows[:-1]]) for rows in (now, said))
    read = monitor.read(Looks(said=said, now=now, before=before, said_before=said_before, done=done))
    for row, one in enumerate(values):
        one |= {"gap": float(read.score[row]), "gaps": read.z[row]}


def state_of(observation: Mapping[str, Any]) -> dict[str, Float[ndarray, " _d"]]:
    """The states of now by key."""
    named = {key.removeprefix("state."): np.asarray(v) for key, v in observation.items() if key.startswith("state.")}
    return {key: rows if rows.ndim == 1 else rows[-1] for key, rows in named.items()}
