"""What is lost without a stream: the open-loop error when it is silenced.

A silenced stream weighs nothing and the others share its weight, as stream dropout does in training; "all" silences
everything that SVMS adds to the tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.core.progress import Progress
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, evaluate_open_loop
from svms_gr00t.evaluate.statistics.stats import Comparison
from svms_gr00t.policy import Policy

OFF = "all"
"""Knock-out of everything SVMS adds."""


@dataclass(frozen=True, kw_only=True)
class KnockOut(JsonRecord):
    """Open-loop error without one stream, against the whole policy."""

    mse: float
    against_whole: Comparison
    keys: dict[str, float]
    """Effect on the error of each action key, percent."""


def streams_of(policy: Policy) -> Any:
    """The policy's SVMS. Raises DataError without one."""
    if not policy.model.config.has_streams:
        hint = "Use a checkpoint with SVMS (use_sheaf_streams)"
        raise DataError("streams", got="a policy without streams", want="one with SVMS", hint=hint)
    return policy.model.svms


@contextmanager
def silenced(svms: Any, stream: str) -> Iterator[None]:
    """Within it, `stream` weighs nothing and the others share its weight; OFF silences all of SVMS."""
    if stream == OFF:
        handle = svms.merge.register_forward_hook(lambda _module, _inputs, said: torch.zeros_like(said))
    else:
        index = svms.graph.streams.index(stream)

        def share_out(_module: object, _inputs: object, weights: torch.Tensor) -> torch.Tensor:
            kept = weights.clone()
            kept[..., index] = 0
            return kept / kept.sum(-1, keepdim=True).clamp(min=1e-9)

        handle = svms.router.register_forward_hook(share_out)
    try:
        yield
    finally:
        handle.remove()


def knock_out(
    policy: Policy,
    dataset: Any,
    episodes: Sequence[int],
    *,
    statistics: Mapping[str, Any],
    config: OpenLoopConfig,
    progress: Progress | None = None,
) -> tuple[OpenLoopResult, dict[str, KnockOut]]:
    """The whole policy's result, and what is lost without each stream and without SVMS."""
    svms = streams_of(policy)
    asked: dict[str, Any] = {"statistics": statistics, "config": config, "progress": progress}
    whole = evaluate_open_loop(policy, dataset, episodes, name="whole", **asked)
    found = {}
    for stream in (*svms.graph.streams, OFF):
        with silenced(svms, stream):
            result = evaluate_open_loop(policy, dataset, episodes, name=f"without {stream}", **asked)
        keys = {
            key: 100 * (one.mse / before - 1)
            for key, one in result.scores.keys.items()
            if one.mse is not None and (before := whole.scores.keys[key].mse)
        }
        found[stream] = KnockOut(mse=result.scores.mse, against_whole=result.against(whole), keys=keys)
    return whole, found
