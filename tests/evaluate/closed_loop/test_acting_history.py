"""A robot that looks back sees the same past in training, in open loop, in a rollout and behind a server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluate_toys import LineEnv, Listener
from toy_dataset import LENGTHS, write_toy
from toy_samples import build

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.history import History
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.data.loading.samples import At, SampleDataset
from svms_gr00t.data.processor.processor import Sample
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.evaluate.open_loop.baselines import split_lowdim
from svms_gr00t.evaluate.open_loop.recorded import Recorded
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, evaluate_open_loop
from svms_gr00t.evaluate.open_loop.trajectories import trace
from svms_gr00t.evaluate.streams.looks import look_at_episodes
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.training.presets import preset
from svms_gr00t.request import read_request, read_robot
from svms_gr00t.serve.websocket import _request

OFFSETS = {"video": (-5, 0), "state": (-3, -1, 0)}
STEPS = (0, 1, 4, 5, 6, LENGTHS[0] - 1)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> SampleDataset:
    return build(write_toy(tmp_path_factory.mktemp("acting") / "toy"), offsets=OFFSETS)[1]


@pytest.fixture(scope="module")
def policy(steps: SampleDataset) -> Policy:
    sizes = {"max_state_dim": 6, "max_action_dim": 6, "action_horizon": 4, "max_num_embodiments": 16}
    torch.manual_seed(0)
    return Policy(Gr00tN1d6(preset("tiny").config(steps.processor.tokenizer, **sizes)), steps.processor)


def recorded(steps: SampleDataset, history: History) -> Recorded:
    states, _ = split_lowdim(steps.dataset.lowdim(0))
    return Recorded(steps.dataset, 0, states, steps.dataset.instructions(0), history)


def present(steps: SampleDataset, step: int) -> dict[str, Any]:
    """What a robot sees at a step, without any past."""
    return recorded(steps, History()).at([step])[0]


def by_open_loop(steps: SampleDataset, policy: Policy, step: int) -> Sample:
    return steps.processor.encode(*policy.read(recorded(steps, History.of(policy)).at([step])))


def by_rollout(steps: SampleDataset, policy: Policy, step: int) -> Sample:
    history = History.of(policy)
    for past in range(step + 1):
        history.see(past, present(steps, past))
    return steps.processor.encode(read_robot(history.at(step), steps.processor.config))


def by_client(steps: SampleDataset, policy: Policy, step: int) -> Sample:
    history = History.of(policy)
    for past in range(step + 1):
        history.see(past, present(steps, past))
    return steps.processor.encode(read_request(history.request(step), steps.processor.config))


def by_openpi(steps: SampleDataset, policy: Policy, step: int) -> Sample:
    history = History.of(policy)
    for past in range(step + 1):
        history.see(past, present(steps, past))
    seen = history.at(step)
    seen["prompt"] = seen.pop(INSTRUCTION)
    request = _request(seen, policy.get_modality_config())
    return steps.processor.encode(read_request(request["data"]["observation"], steps.processor.config))


@pytest.mark.parametrize("way", [by_open_loop, by_rollout, by_client, by_openpi])
def test_every_way_to_the_model_gives_what_training_saw(
    steps: SampleDataset, policy: Policy, way: Callable[[SampleDataset, Policy, int], Sample]
) -> None:
    for step in STEPS:
        trained, acted = steps.sample(At(episode=0, step=step)), way(steps, policy, step)
        assert torch.equal(acted.state, trained.state), step
        assert torch.equal(acted.input_ids, trained.input_ids)
        assert len(acted.images) == len(trained.images) == 2
        assert all(torch.equal(a, b) for a, b in zip(acted.images, trained.images, strict=True)), step
    other = way(steps, policy, 7)  # mutant: one step further is something else
    assert not torch.equal(other.images[0], steps.sample(At(episode=0, step=8)).images[0])


def test_evaluation_runs_on_a_policy_that_looks_back(steps: SampleDataset, policy: Policy) -> None:
    statistics = steps.processor.statistics["new_embodiment"]
    config = OpenLoopConfig(horizon=4, executed=2, stride=3)
    result = evaluate_open_loop(policy, steps.dataset, [0, 1], statistics=statistics, config=config)
    assert np.isfinite(result.scores.mse)
    traced = trace(policy, steps.dataset, 0, statistics=statistics, config=config)
    assert len(traced.predicted["arm"]) == LENGTHS[0]
    looks = look_at_episodes(policy, steps.dataset, [0], stride=3)
    assert [one.step for one in looks] == [3, 6, 9]
    seen = present(steps, 4)
    with pytest.raises(DataError, match=r"video.front: found 1 steps, but need 2, at -5, 0 from now. .*History"):
        policy.act([seen], seeds=[0])


class Watcher(Listener):
    """Moves right; remembers what it was shown."""

    def __init__(self, video: tuple[int, ...], state: tuple[int, ...]) -> None:
        super().__init__(evidence=False)
        self.offsets, self.shown = {"video": video, "state": state}, []

    def get_modality_config(self) -> dict[str, dict[str, tuple[int, ...]]]:
        return {kind: {"delta_indices": offsets} for kind, offsets in self.offsets.items()}

    def act(self, observations: list[dict[str, Any]], *, seeds: list[int]) -> tuple[list[dict], dict]:
        self.shown.append({key: np.array(value) for key, value in observations[0].items()})
        chunks, info = super().act(observations, seeds=seeds)
        chunks[0]["end_effector_position"] = chunks[0]["end_effector_position"] * 0.1
        return chunks, info


class CountedEnv(LineEnv):
    """Writes the number of the step into the picture, always the same one, and counts what it draws."""

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.at, self.buffer = 0, list[int](), np.zeros((32, 32, 3), np.uint8)

    def reset(self, *, seed: int, options: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
        self.steps, self.at = 0, []
        return super().reset(seed=seed, options=options)

    def look(self) -> dict[str, Any]:
        seen = super().look()
        seen["state.end_effector_position_relative"] = np.array([self.steps, 0, 0], np.float32)
        if "video.side" in seen:
            self.at.append(self.steps)
            self.buffer[:] = self.steps
            seen["video.side"] = self.buffer
        return seen

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return super().step(action)


@pytest.mark.parametrize(("video", "state"), [((0,), (0,)), ((-15, 0), (0,)), ((0,), (-3, 0)), ((-3, -1), (-2,))])
def test_a_rollout_shows_the_past_by_environment_steps(video: tuple[int, ...], state: tuple[int, ...]) -> None:
    policy, env = Watcher(video, state), CountedEnv()
    config = RolloutConfig(tasks=("right",), episodes=2, horizon=25, n_action_steps=8)
    result = rollout(policy, env, config)
    assert [r.steps for r in result.rollouts] == [25, 25]
    asked = [0, 8, 16, 24]
    assert len(policy.shown) == 2 * len(asked)
    for step, shown in zip(asked * 2, policy.shown, strict=True):
        pictures = shown["video.side"][None] if video == (0,) else shown["video.side"]
        states = shown["state.end_effector_position_relative"]
        states = states[None] if state == (0,) else states
        assert [int(p.flat[0]) for p in pictures] == [max(step + offset, 0) for offset in video]
        assert [int(s[0]) for s in states] == [max(step + offset, 0) for offset in state]
    if video == (0,):
        assert env.at == asked, "nothing is drawn that nobody looks at"


def test_a_run_of_a_robot_that_looks_back_can_be_saved_and_loaded(policy: Policy, tmp_path: Path) -> None:
    policy.save_pretrained(tmp_path / "policy")
    assert History.of(Policy.from_pretrained(tmp_path / "policy")).offsets == OFFSETS
