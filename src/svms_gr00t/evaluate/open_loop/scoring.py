"""Open loop: at recorded steps of held-out episodes, how far is the predicted chunk from what the demonstrator did?

Axes: n steps looked at, H horizon, D elements of a key.

Each episode counts once: every number is a mean over episodes of means within an episode. Noise seeds depend on
(seed, episode, step) alone, so two policies see the same noise and any batch size gives the same seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from svms_gr00t.core.arrays import as_array
from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.core.history import History
from svms_gr00t.core.progress import Progress, Silent
from svms_gr00t.core.protocols import ActionPolicy, Chunk, FlowScorer, bare_keys, fixed_seed
from svms_gr00t.evaluate.open_loop.baselines import BASELINES, fit_baselines, split_lowdim
from svms_gr00t.evaluate.open_loop.metrics import ChunkErrors, KeySpec, chunk_errors, cut_chunk, key_specs, valid_steps
from svms_gr00t.evaluate.open_loop.paraphrases import other_instructions, paraphrase
from svms_gr00t.evaluate.open_loop.recorded import Recorded, Remembered, recorded
from svms_gr00t.evaluate.open_loop.result import OpenLoopResult, summarise

Language = Literal["recorded", "empty", "swapped", "paraphrased"]


@dataclass(frozen=True, kw_only=True)
class OpenLoopConfig:
    """What is looked at, and how."""

    horizon: int = 16
    """Steps of the chunk that are scored."""
    executed: int = 8
    """Steps that a robot would execute before it plans again; their error is reported on its own."""
    stride: int = 8
    """Every stride-th step of an episode is looked at."""
    batch_size: int = 8
    """Observations handed to the policy at once."""
    seed: int = 0
    """First part of every noise seed."""
    language: Language = "recorded"
    """"empty" and "swapped" (another task's instruction) ask whether the policy listens at all; "paraphrased" asks
    whether it understands other words for the same."""
    memory: Remembered = "own"
    """What a policy with memory is shown of the past: "wiped" (nothing ever came before) and "swapped" (what another
    of the episodes with the same instruction saw at the same steps) ask whether it uses its memory."""
    paraphrases: Mapping[str, str] = field(default_factory=dict)
    """Instruction -> other words for it; where it has none, `language.paraphrase` finds some."""
    kinds: Mapping[str, Any] = field(default_factory=dict)
    """Kinds of action keys where the default (gripper and mode binary, rotations as modality.json says) is wrong."""
    radians: float = 1.0
    """Radians for one unit of a rotation key."""

    def __post_init__(self) -> None:
        for name in ("horizon", "executed", "stride", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"open_loop.{name}", got=getattr(self, name), want="at least 1", hint="Choose more")

    @classmethod
    def within(cls, horizon: int, **rest: Any) -> "OpenLoopConfig":
        """The first 16 steps of chunks of `horizon` steps, or all of shorter ones."""
        steps = min(cls.horizon, horizon)
        return cls(horizon=steps, executed=min(cls.executed, steps), **rest)


def evaluate_open_loop(
    policy: ActionPolicy,
    dataset: Any,
    episodes: Sequence[int],
    *,
    statistics: Mapping[str, Any],
    train_episodes: Sequence[int] = (),
    config: OpenLoopConfig | None = None,
    name: str = "policy",
    progress: Progress | None = None,
) -> OpenLoopResult:
    """Score `policy` on held-out `episodes` of a LeRobotDataset, with baselines fitted on `train_episodes` beside it.

    `statistics` are those of the training episodes ({"action": {key: {"min": .., "max": ..}}}). Raises ConfigError for
    chunks that are too short or lack a key, DataError for episodes that are in both lists or that cannot be read.
    """
    config = config or OpenLoopConfig()
    _check_split(episodes, train_episodes)
    specs = action_specs(dataset, statistics, config)
    baselines = (
        fit_baselines(dataset, train_episodes, horizon=config.horizon, specs=specs) if len(train_episodes) else None
    )
    found: dict[str, dict[int, dict[str, ChunkErrors]]] = {}
    flow: dict[int, float] = {}
    with (progress or Silent()).task(f"open loop: {name}", len(episodes)) as task:
        for episode in episodes:
            scene = read_scene(dataset, episode, config, specs, History.of(policy), among=episodes)
            predicted, loss = _ask(policy, scene, config)
            found.setdefault(name, {})[episode] = scene.errors(predicted)
            if loss is not None:
                flow[episode] = loss
            if baselines is not None:
                for other in BASELINES:
                    guess = baselines.predict(other, scene.states, scene.actions, scene.steps)
                    found.setdefault(other, {})[episode] = scene.errors(guess)
            task.advance()
    return summarise(found, specs, flow={name: flow}, policy=name, config=config)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One held-out episode, cut into the steps that are looked at."""

    episode: int
    states: dict[str, np.ndarray]
    actions: dict[str, np.ndarray]
    steps: tuple[int, ...]
    specs: Mapping[str, KeySpec]
    horizon: int
    observations: Recorded

    def errors(self, predicted: Mapping[str, np.ndarray]) -> dict[str, ChunkErrors]:
        """Errors of predicted chunks (n, H, D), key by key."""
        length = len(next(iter(self.actions.values())))
        mask = valid_steps(length, self.steps, self.horizon)
        recorded = {
            key: np.stack([cut_chunk(a, t, self.horizon) for t in self.steps]) for key, a in self.actions.items()
        }
        return {key: chunk_errors(predicted[key], recorded[key], mask, spec) for key, spec in self.specs.items()}


def read_scene(
    dataset: Any,
    episode: int,
    config: OpenLoopConfig,
    specs: Mapping[str, KeySpec],
    history: History,
    *,
    among: Sequence[int] = (),
) -> Scene:
    """The episode as a policy of that `history` would have seen it, with the instructions and the past that tests want.

    Raises DataError when it cannot be read, and when none of the episodes `among` can lend it a memory.
    """
    states, actions = split_lowdim(dataset.lowdim(episode))
    length = len(next(iter(actions.values())))
    return Scene(
        episode=episode,
        states=states,
        actions={key: actions[key] for key in specs},
        steps=tuple(range(_watched(dataset, episode), length, config.stride)),
        specs=specs,
        horizon=config.horizon,
        observations=Recorded(
            dataset,
            episode,
            states,
            _instructions(dataset, episode, length, config),
            history,
            lender=_lender(dataset, episode, among, history, config),
            wiped=config.memory == "wiped",
        ),
    )


def _watched(dataset: Any, episode: int) -> int:
    """First steps that nobody is judged on."""
    return int(dataset.watched(episode)) if hasattr(dataset, "watched") else 0


def _lender(
    dataset: Any, episode: int, among: Sequence[int], history: History, config: OpenLoopConfig
) -> Recorded | None:
    """Another episode with the same instruction, chosen by the seed; None unless the memory test wants one."""
    if config.memory != "swapped" or not history.memory:
        return None
    first = dataset.instructions(episode)[0]
    others = [one for one in among if one != episode and dataset.instructions(one)[0] == first]
    if not others:
        want, hint = f"another one with the instruction {first!r}", 'Use memory="wiped", or judge more episodes'
        raise DataError(dataset.root, got=f"episode {episode} alone", want=want, hint=hint)
    return recorded(dataset, others[fixed_seed(config.seed, episode) % len(others)], history)


def _ask(policy: ActionPolicy, scene: Scene, config: OpenLoopConfig) -> tuple[dict[str, np.ndarray], float | None]:
    """Predicted chunks (n, H, D) of one episode and, from policies that can, the mean flow loss."""
    chunks: list[Chunk] = []
    losses: list[float] = []
    policy.reset(fixed_seed(config.seed, scene.episode))
    for steps in _batches(scene.steps, config.batch_size):
        observations = scene.observations.at(steps)
        seeds = [fixed_seed(config.seed, scene.episode, step) for step in steps]
        acted, _ = policy.act(observations, seeds=seeds)
        chunks += [bare_keys(chunk) for chunk in acted]
        if isinstance(policy, FlowScorer):
            recorded = [{key: rows[t : t + config.horizon] for key, rows in scene.actions.items()} for t in steps]
            losses += as_array(policy.flow_loss(observations, recorded, seeds=seeds)).astype(float).tolist()
    stacked = {key: np.stack([_checked(chunk, key, scene) for chunk in chunks]) for key in scene.specs}
    return stacked, float(np.mean(losses)) if losses else None


def _checked(chunk: Chunk, key: str, scene: Scene) -> np.ndarray:
    if key not in chunk:
        raise ConfigError("policy actions", got=sorted(chunk), want=f"key {key!r}", hint="Use the dataset's embodiment")
    want = (scene.horizon, len(scene.specs[key].midpoint))
    if chunk[key].ndim != 2 or chunk[key].shape[0] < want[0] or chunk[key].shape[1] != want[1]:
        hint = "Lower horizon to the policy's, or use the dataset's embodiment"
        raise ConfigError(f"policy actions, {key}", got=chunk[key].shape, want=f"at least {want}", hint=hint)
    return chunk[key][: scene.horizon]


def action_specs(dataset: Any, statistics: Mapping[str, Any], config: OpenLoopConfig) -> dict[str, KeySpec]:
    """How each action key is scored: what modality.json calls a rotation is one."""
    described = getattr(dataset.modality, "action", {})
    rotations = {key: entry.rotation_type for key, entry in described.items() if entry.rotation_type is not None}
    return key_specs(statistics["action"], kinds=config.kinds or None, radians=config.radians, rotations=rotations)


def _instructions(dataset: Any, episode: int, length: int, config: OpenLoopConfig) -> list[str]:
    """One text a step, as recorded or as the language test wants it."""
    recorded = dataset.instructions(episode)
    recorded = [recorded] * length if isinstance(recorded, str) else list(recorded)
    if config.language == "recorded":
        return recorded
    if config.language == "empty":
        return [""] * length
    if config.language == "paraphrased":
        return [config.paraphrases.get(text) or paraphrase(text) for text in recorded]
    others = other_instructions(recorded[0], dataset.tasks.values())
    if not others:
        want = "a dataset with more than one instruction"
        raise DataError(dataset.root, got="one instruction", want=want, hint='Use language="empty"')
    return [others[fixed_seed(config.seed, episode) % len(others)]] * length


def _batches(steps: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(steps), size):
        yield steps[start : start + size]


def _check_split(episodes: Sequence[int], train: Sequence[int]) -> None:
    if not len(episodes):
        raise DataError("open loop", got="no episodes", want="at least one held-out episode", hint="Split the dataset")
    if both := sorted(set(episodes) & set(train)):
        got, hint = f"episodes {both[:5]} in both lists", "Hold them out of training"
        raise DataError("open loop", got=got, want="held-out episodes that were not trained on", hint=hint)
