"""Does a detector foresee that an episode will fail, from its first few requests?

Axes: N episodes, n looks of one, M model width.

Each detector is fitted on clean recorded looks (`detectors.py`) and scores an episode by its mean over the first looks.
Beside them `probe`, in the manner of SAFE (arXiv:2506.09937): a logistic regression on the features, trained on failed
and successful rollouts and tried on others (five folds of whole episodes). It alone has seen failures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from svms_gr00t.consistency.checked import Checked
from svms_gr00t.consistency.monitor import Consistency
from svms_gr00t.core.errors import DataError
from svms_gr00t.core.files.records import JsonRecord
from svms_gr00t.core.history import STEP
from svms_gr00t.core.protocols import INSTRUCTION, Chunk
from svms_gr00t.evaluate.statistics.detection import separation, separation_interval, separation_lead
from svms_gr00t.evaluate.statistics.stats import Interval
from svms_gr00t.evaluate.streams.detectors import OURS, detectors
from svms_gr00t.evaluate.streams.looks import Look, look
from svms_gr00t.monitor import CONSISTENCY
from svms_gr00t.policy import Policy

PROBE = "probe"
_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Warned(JsonRecord):
    """How well one detector tells episodes that will fail."""

    auroc: float
    interval: Interval | None
    behind: Interval | None
    """AUROC of "consistency" minus this one's, paired; None for itself and without such a monitor."""


@dataclass(frozen=True, kw_only=True)
class Foresight(JsonRecord):
    """All detectors on the same rollouts."""

    episodes: int
    failed: int
    first: int
    """Looks of each episode that were used."""
    detectors: dict[str, Warned]


class Looking:
    """A policy that is driven, one robot at a time, and keeps a `Look` of every request; episodes count from 0."""

    def __init__(self, policy: Policy, monitor: Consistency | None = None, *, draws: int = 4) -> None:
        self.policy, self.draws = policy, draws
        self._acting: Policy | Checked = policy if monitor is None else Checked(policy, monitor)
        self.looks: list[Look] = []
        self._episode, self._count = -1, 0

    def get_modality_config(self) -> dict[str, Any]:
        """The policy's."""
        return self.policy.get_modality_config()

    def reset(self, seed: int) -> object:
        """A new episode begins."""
        self._episode, self._count = self._episode + 1, 0
        return self._acting.reset(seed)

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[Chunk], dict[str, Any]]:
        """The policy's chunk."""
        (measured,) = look(self.policy, observations, draws=self.draws)
        chunks, evidence = self._acting.act(observations, seeds=seeds)
        said = evidence.get(CONSISTENCY)
        if said is not None:
            gaps = np.array([edge["spreads"][0] for edge in said["edges"].values()])
            measured |= {"gap": float(said["score"][0]), "gaps": gaps}
        step = int(observations[0].get(STEP, self._count))
        words = str(observations[0].get(INSTRUCTION, ""))
        self.looks.append(Look(episode=self._episode, step=step, progress=0.0, instruction=words, **measured))
        self._count += 1
        return chunks, evidence


def foresee(looks: Sequence[Look], failed: Mapping[int, bool], clean: Sequence[Look], *, first: int = 6) -> Foresight:
    """Detectors fitted on `clean` looks, tried on the first looks of rollouts; `failed` says how each episode ended.

    Raises DataError without both endings.
    """
    numbers = sorted(failed)
    early = {one: [n for n in looks if n.episode == one][:first] for one in numbers}
    ends = np.array([failed[one] for one in numbers])
    if ends.all() or not ends.any():
        got, want = f"{int(ends.sum())} failures of {len(ends)} episodes", "successes and failures"
        raise DataError("rollouts", got=got, want=want, hint="Drive more episodes, or other tasks")
    scores = {name: np.array([score(early[one]).mean() for one in numbers]) for name, score in detectors(clean).items()}
    if (probe := probe_scores([np.stack([n.feature for n in early[one]]) for one in numbers], ends)) is not None:
        scores[PROBE] = probe
    sides = {name: (values[~ends], values[ends]) for name, values in scores.items()}
    groups = np.flatnonzero(~ends), np.flatnonzero(ends)
    found = {
        name: Warned(
            auroc=separation(*one),
            interval=separation_interval(*one, groups),
            behind=None if name == OURS or OURS not in sides else separation_lead(sides[OURS], one, groups),
        )
        for name, one in sides.items()
    }
    return Foresight(episodes=len(ends), failed=int(ends.sum()), first=first, detectors=found)


def probe_scores(
    features: Sequence[Float[ndarray, "_n M"]], failed: Bool[ndarray, " N"]
) -> Float[ndarray, " N"] | None:
    """Mean log-odds of failure over the looks of each episode, by a probe that has not seen it; None for too few."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if min(failed.sum(), (~failed).sum()) < _FOLDS:
        return None
    scores = np.zeros(len(failed))
    for train, test in StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(failed, failed):
        rows = np.concatenate([features[i] for i in train])
        labels = np.repeat(failed[train], [len(features[i]) for i in train])
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))
        probe.fit(rows, labels)
        for i in test:
            scores[i] = probe.decision_function(features[i]).mean()
    return scores
