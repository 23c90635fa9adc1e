"""One look at one observation: what streams, features and repeated sampling say, without deciding anything.

Axes: B looks, T tokens, M model width, S streams, E edges, R repeated chunks, H horizon, A action elements.

    edges      mean ρ over valid tokens on each edge, before the correction
    routes     mean router weight of each stream over valid tokens
    feature    mean token that the action head reads; norm: mean of the tokens' lengths
    variance   of R chunks from different noise, mean over steps and action elements, in the model's [-1, 1] units
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from svms_gr00t.core.arrays import as_array
from svms_gr00t.core.errors import DataError
from svms_gr00t.core.history import History
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.core.protocols import INSTRUCTION, fixed_seed
from svms_gr00t.evaluate.open_loop.paraphrases import other_instructions
from svms_gr00t.evaluate.open_loop.recorded import recorded
from svms_gr00t.policy import Policy

Spoil = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
"""(observation, first observation of its episode) -> observation with something broken."""


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

    @property
    def rho(self) -> float:
        """Score of the monitor."""
        return float(self.edges.mean())


@torch.no_grad()
def look(policy: Policy, observations: Sequence[dict[str, Any]], *, draws: int = 1, seed: int = 0) -> list[dict]:
    """Measurements of each observation as keyword arguments of `Look`."""
    _, inputs = policy.prepare(observations)
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
    spoil: Spoil | None = None,
    draws: int = 1,
    batch_size: int = 32,
    title: str = "looking",
    progress: Progress | None = None,
) -> list[Look]:
    """Looks at every stride-th step after the first of each episode (a frozen state is no news at the first).

    `spoil` breaks what is seen now; what a memory is shown of the past stays as it was.
    """
    found: list[Look] = []
    history = History.of(policy)
    with (progress or Silent()).task(title, len(episodes)) as bar:
        for episode in episodes:
            whole = recorded(dataset, episode, history)
            length = len(whole.instructions)
            steps = list(range(min(stride, length - 1), length, stride))
            (first,) = whole.at([0])
            seen = whole.at(steps)
            given = [spoil(dict(one), first) if spoil else one for one in seen]
            for start in range(0, len(steps), batch_size):
                batch = slice(start, start + batch_size)
                for step, one, values in zip(
                    steps[batch], seen[batch], look(policy, given[batch], draws=draws), strict=True
                ):
                    at: dict[str, Any] = {"episode": episode, "step": step, "progress": step / max(1, length - 1)}
                    found.append(Look(**at, instruction=one[INSTRUCTION], **values))
            bar.advance()
    return found


def shifts(dataset: Any) -> dict[str, Spoil]:
    """Ways to break an observation, by name: every camera black, the first one black, state frozen, words swapped."""

    def black(views: Sequence[str]) -> Spoil:
        def spoil(observation: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
            return observation | {f"video.{view}": np.zeros_like(observation[f"video.{view}"]) for view in views}

        return spoil

    def freeze(observation: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
        return observation | {key: value for key, value in first.items() if key.startswith("state.")}

    def swap(observation: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
        others = other_instructions(observation[INSTRUCTION], dataset.tasks.values())
        if not others:
            want, hint = "a dataset with more than one instruction", "Leave the swap out"
            raise DataError(dataset.root, got="one instruction", want=want, hint=hint)
        chosen = fixed_seed(*observation[INSTRUCTION].encode()[:64]) % len(others)
        return observation | {INSTRUCTION: others[chosen]}

    views = list(dataset.modality.video)
    named: dict[str, Spoil] = {"camera blackout": black(views)}
    if len(views) > 1:
        named[f"{views[0]} black"] = black(views[:1])
    named["frozen state"] = freeze
    if len(set(dataset.tasks.values())) > 1:
        named["swapped instruction"] = swap
    return named
