"""The open-loop numbers as a JSON record: per method, key, horizon step and episode.

Axes: n steps looked at, H horizon. Every mean is over episodes of means within an episode.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.evaluate.open_loop.metrics import ChunkErrors, KeyKind, KeySpec, known_mean, number, pooled
from svms_gr00t.evaluate.statistics.stats import Comparison, Interval, compare_paired, mean_interval


@dataclass(frozen=True, kw_only=True)
class KeyResult(JsonRecord):
    """Errors of one action key; None where a number has no meaning for it."""

    kind: KeyKind
    mse: float | None
    """Normalised; None for a key that never changes in the data."""
    mae: float | None
    """Normalised."""
    physical: float
    """Mean absolute error in the key's unit."""
    first_physical: float
    """The same at the first step of the chunk."""
    accuracy: float | None
    """Binary keys only."""
    angle: float | None
    """Rotation keys only, radians."""
    by_step: tuple[float | None, ...]
    """Normalised MSE at each horizon step."""


@dataclass(frozen=True, kw_only=True)
class EpisodeResult(JsonRecord):
    """One episode, kept for paired comparisons."""

    looks: int
    """Steps at which the policy was asked."""
    mse: float
    """Normalised, over the whole horizon and all keys."""
    mae: float
    first_mse: float
    """First step of the chunk."""
    executed_mse: float
    """The steps that a robot would execute."""
    flow_loss: float | None
    """At fixed noise and time; None when the policy cannot say."""


@dataclass(frozen=True, kw_only=True)
class MethodResult(JsonRecord):
    """A policy or a baseline."""

    mse: float
    mae: float
    first_mse: float
    executed_mse: float
    flow_loss: float | None
    mse_interval: Interval | None
    """Over episodes; None for a single one."""
    by_step: tuple[float | None, ...]
    """Normalised MSE at each horizon step over all keys."""
    keys: dict[str, KeyResult]
    episodes: dict[int, EpisodeResult]

    def metric(self, name: str) -> dict[int, float]:
        """A per-episode metric (mse, mae, first_mse, executed_mse, flow_loss). Raises ConfigError when not measured."""
        values = {index: getattr(episode, name) for index, episode in self.episodes.items()}
        if any(value is None for value in values.values()):
            hint = "Choose another metric"
            raise ConfigError(f"metric {name}", got="not measured", want="a number for each episode", hint=hint)
        return values


@dataclass(frozen=True, kw_only=True)
class OpenLoopResult(JsonRecord):
    """Held-out errors of one policy, with naive baselines on the same steps."""

    policy: str
    """Name of the evaluated policy, a key of `methods`."""
    horizon: int
    executed: int
    stride: int
    seed: int
    language: str
    methods: dict[str, MethodResult]

    @property
    def scores(self) -> MethodResult:
        """The evaluated policy's own numbers."""
        return self.methods[self.policy]

    def against(self, reference: "OpenLoopResult", *, metric: str = "mse") -> Comparison:
        """This policy against another, paired by episode. Raises ConfigError when they looked at different steps."""
        ours, theirs = ((r.horizon, r.executed, r.stride, r.seed, r.language) for r in (self, reference))
        if ours != theirs:
            want = "equal horizon, executed, stride, seed and language"
            raise ConfigError("open-loop results", got=f"{ours} and {theirs}", want=want, hint="Evaluate both alike")
        return compare_paired(reference.scores.metric(metric), self.scores.metric(metric))


Found = Mapping[str, Mapping[int, Mapping[str, ChunkErrors]]]
"""Method -> episode -> action key -> errors."""


def summarise(
    found: Found, specs: Mapping[str, KeySpec], *, flow: Mapping[str, Mapping[int, float]], policy: str, config: Any
) -> OpenLoopResult:
    """Average the errors within each episode, then over episodes."""
    methods = {}
    for name, episodes in found.items():
        losses = flow.get(name, {})
        results = {i: _episode(keys, specs, losses.get(i), config.executed) for i, keys in episodes.items()}
        methods[name] = _method(episodes, results, specs)
    settings = {key: getattr(config, key) for key in ("horizon", "executed", "stride", "seed", "language")}
    return OpenLoopResult(policy=policy, methods=methods, **settings)


def _episode(
    keys: Mapping[str, ChunkErrors], specs: Mapping[str, KeySpec], flow_loss: float | None, executed: int
) -> EpisodeResult:
    squared = pooled({key: errors.squared for key, errors in keys.items()}, specs)
    absolute = pooled({key: errors.absolute for key, errors in keys.items()}, specs)
    return EpisodeResult(
        looks=len(squared),
        mse=float(known_mean(squared)),
        mae=float(known_mean(absolute)),
        first_mse=float(known_mean(squared[:, 0])),
        executed_mse=float(known_mean(squared[:, :executed])),
        flow_loss=flow_loss,
    )


def _method(
    episodes: Mapping[int, Mapping[str, ChunkErrors]],
    results: dict[int, EpisodeResult],
    specs: Mapping[str, KeySpec],
) -> MethodResult:
    mean = {name: float(np.mean([getattr(r, name) for r in results.values()])) for name in _AVERAGED}
    losses = [r.flow_loss for r in results.values() if r.flow_loss is not None]
    squared = [pooled({key: errors.squared for key, errors in keys.items()}, specs) for keys in episodes.values()]
    return MethodResult(
        **mean,
        flow_loss=float(np.mean(losses)) if losses else None,
        mse_interval=mean_interval([r.mse for r in results.values()]),
        by_step=_by_step(squared),
        keys={key: _key([keys[key] for keys in episodes.values()], spec) for key, spec in specs.items()},
        episodes=results,
    )


_AVERAGED = ("mse", "mae", "first_mse", "executed_mse")


def _key(episodes: list[ChunkErrors], spec: KeySpec) -> KeyResult:
    def mean(read: Callable[[ChunkErrors], np.ndarray]) -> Any:
        return known_mean(np.array([known_mean(read(errors)) for errors in episodes]))

    return KeyResult(
        kind=spec.kind,
        mse=number(mean(lambda e: e.squared)),
        mae=number(mean(lambda e: e.absolute)),
        physical=float(mean(lambda e: e.physical)),
        first_physical=float(mean(lambda e: e.physical[:, 0])),
        accuracy=number(mean(lambda e: e.correct)),
        angle=number(mean(lambda e: e.angle)),
        by_step=_by_step([e.squared for e in episodes]),
    )


def _by_step(episodes: list[np.ndarray]) -> tuple[float | None, ...]:
    """Mean at each horizon step; steps that no episode reaches are None."""
    return tuple(number(v) for v in known_mean(np.stack([known_mean(e, axis=0) for e in episodes]), axis=0))
