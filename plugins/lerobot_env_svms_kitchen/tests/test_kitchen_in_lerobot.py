"""LeRobot's kitchen is the recorded one, and the one that `svms-gr00t evaluate rollout` drives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lerobot", reason="LeRobot is not installed: tools/against_lerobot.sh makes its environment")
pytest.importorskip("robosuite", reason="the kitchen needs robosuite")
import torch
from lerobot.envs import make_env, make_env_pre_post_processors
from lerobot.scripts.lerobot_eval import rollout
from lerobot_env_svms_kitchen import SvmsKitchenEnv
from lerobot_env_svms_kitchen.kitchen import LeRobotKitchen

from svms_gr00t import LeRobotDataset, Policy
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.core.protocols import fixed_seed
from svms_gr00t.evaluate.closed_loop.episode import episode_seed
from svms_gr00t.evaluate.closed_loop.rollout import rollout as our_rollout
from svms_gr00t.recipes.benchmarks.closed_loop import kitchen_rules
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.record import record_episode
from svms_gr00t.sim.tasks.suites import SUITES, task_named

KITCHEN = shipped("kitchen")
SIDE = 96
PICTURES = tuple(f"observation.images.res256_image_{name}" for name in ("side_0", "side_1", "wrist_0"))
Batch = dict[str, Any]
pytestmark = pytest.mark.timeout(900)


class Acting(torch.nn.Module):
    """What LeRobot's rollout asks of a policy; keeps what it was shown."""

    def __init__(self, act: Callable[[int, Batch], torch.Tensor], begin: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.act, self.begin, self.seen = act, begin, list[Batch]()

    def reset(self) -> None:
        self.seen = []
        self.begin()

    def select_action(self, batch: Batch) -> torch.Tensor:
        self.seen.append({k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in batch.items()})
        return self.act(len(self.seen) - 1, batch)


def driven(config: SvmsKitchenEnv, policy: Acting, seed: int) -> tuple[bool, int]:
    """Success and steps of one episode in LeRobot's own rollout."""
    env = make_env(config)[config.task][0]
    before, after = make_env_pre_post_processors(env_cfg=config, policy_cfg=None)
    try:
        done = rollout(env, policy, before, after, lambda x: x, lambda x: x, seeds=[seed])
    finally:
        env.close()
    return bool(done["success"].any()), len(policy.seen)


@pytest.fixture
def demonstration() -> dict[str, Any]:
    """The first shipped one: task, seed, actions, states."""
    told = json.loads((KITCHEN / "extras" / "episode_000000" / "episode.json").read_text(encoding="utf-8"))
    return told | LeRobotDataset.open(KITCHEN).columns(0, ["action", "observation.state"])


def test_a_demonstration_reaches_its_goal_and_sees_what_was_recorded(demonstration: dict[str, Any]) -> None:
    actions, states = demonstration["action"], demonstration["observation.state"]
    policy = Acting(lambda step, _: torch.tensor(actions[min(step, len(actions) - 1)])[None])
    won, steps = driven(SvmsKitchenEnv(task=demonstration["task"], image_size=SIDE), policy, demonstration["seed"])
    assert won
    assert steps <= len(actions) + 1, "success ends the episode, about when the recording ended"
    found = np.stack([one["observation.state"][0].numpy() for one in policy.seen])
    assert np.abs(found[: len(states)] - states[: len(found)]).max() < 1e-3, "the states of the recording, in its order"
    dataset = LeRobotDataset.open(KITCHEN)
    assert policy.seen[0]["task"] == [dataset.instruction(0, 0)]
    for name in PICTURES:
        picture = policy.seen[0][name][0].permute(1, 2, 0).numpy() * 255
        keys = [one.removeprefix("observation.images.") for one in (name, *PICTURES)]
        own, *others = (np.abs(picture - dataset.frames(0, key, [0])[0]).mean() for key in keys)
        assert own < 8, "what the codec changes"
        assert sorted(others)[1] > 16, "no other camera shows it"


def test_the_same_policy_has_the_same_episodes_as_in_our_own_rollout(tmp_path: Path) -> None:
    """The shipped base as LeRobot's policy and as ours, each through its own rollout, from the same noise."""
    from lerobot.datasets.lerobot_dataset import LeRobotDatasetMetadata
    from lerobot.policies import make_policy
    from lerobot_policy_svms_gr00t import SvmsGr00tConfig

    from svms_gr00t.data.convert.to_v3 import convert_to_v3

    convert_to_v3(KITCHEN, tmp_path / "v3")
    plain = {"base_model_path": "shipped", "device": "cpu", "push_to_hub": False}
    config = SvmsGr00tConfig(**plain, embodiment_tag="robocasa_panda_omron")
    theirs = make_policy(config, ds_meta=LeRobotDatasetMetadata("local/kitchen", root=tmp_path / "v3")).eval()
    ours = Policy.from_pretrained(theirs.as_policy().save_pretrained(tmp_path / "ours"))
    task, size = "StartCoffeeMachine", (ours.model.config.action_horizon, ours.model.config.max_action_dim)
    rules = kitchen_rules((task,), episodes=3, seed=5)
    env = KitchenEnv(image_size=SIDE)
    own = our_rollout(ours, env, rules).rollouts
    env.close()

    def act(step: int, batch: Batch) -> torch.Tensor:
        drawn = torch.Generator().manual_seed(fixed_seed(scene, step))
        return theirs.select_action(batch, noise=torch.randn(size, generator=drawn)[None])

    found = []
    for index in range(3):
        scene = episode_seed(rules, task, index)
        found.append(driven(SvmsKitchenEnv(task=task, image_size=SIDE, scenes=5), Acting(act, theirs.reset), index))
    assert found == [(one.success, one.steps) for one in own]
    assert any(won for won, _ in found), "or little was compared"


def test_scenes_makes_seeds_count_the_episodes_of_our_own_rollout() -> None:
    task, ours, starts = "OpenDrawer", KitchenEnv(image_size=16), set()
    for scenes, seed in ((3, 2), (3, 4), (7, 2), (None, 2)):
        kitchen = LeRobotKitchen(task, image_size=16, scenes=scenes)
        kitchen.reset(seed=seed)
        found = kitchen.inside.simulation_state()
        kitchen.close()
        if scenes is not None:
            seed = episode_seed(kitchen_rules((task,), episodes=1, seed=scenes), task, seed)
        ours.drawing = False
        ours.reset(seed=seed, options={"task": task})
        assert np.array_equal(found, ours.simulation_state())
        starts.add(found.tobytes())
    assert len(starts) == 4


def test_an_episode_of_the_memory_suite_ends_when_its_goal_is_out_of_reach() -> None:
    """The wrong drawer is opened: an expert without the knowledge shows how."""
    task, inside = "OpenLitDrawer", KitchenEnv(image_size=16)
    tries = (record_episode(inside, task, seed, render=False, blind=True) for seed in range(9))
    tried = next(one for one in tries if not one["success"])
    config = SvmsKitchenEnv(task=task, image_size=16)
    policy = Acting(lambda step, _: torch.tensor(tried["action"][min(step, len(tried["action"]) - 1)])[None])
    won, steps = driven(config, policy, tried["seed"])
    assert not won
    assert steps == len(tried["action"]) < task_named(task).horizon


def test_features_are_those_of_recorded_sets_and_tasks_are_named_alone_together_or_as_a_suite() -> None:
    config = SvmsKitchenEnv(task="CloseDrawer, PressTwice", image_size=SIDE)
    recorded = json.loads((KITCHEN / "meta" / "info.json").read_text(encoding="utf-8"))["features"]
    for key, name in config.features_map.items():
        assert list(config.features[key].shape) == recorded[name]["shape"], name
    envs = config.create_envs(1)
    assert [env[0].call("_max_episode_steps") for env in envs.values()] == [(120,), (300,)]
    assert set(SvmsKitchenEnv(task="memory").create_envs(2, use_async_envs=True)) == set(SUITES["memory"])
    with pytest.raises(ConfigError, match="task = 'CloseDraw', but need one of"):
        SvmsKitchenEnv(task="CloseDraw")
    with pytest.raises(ConfigError, match="true for 2 kitchens"):
        config.create_envs(2)
    with pytest.raises(ConfigError, match=r"max_parallel_tasks = 2, but need 1"):
        SvmsKitchenEnv(max_parallel_tasks=2).create_envs(1)
    with pytest.raises(ConfigError, match=r"action = 'shape \(7,\)', but need \(12,\)"):
        LeRobotKitchen("CloseDrawer", image_size=16).step(np.zeros(7))


def test_lerobot_eval_drives_two_processes_of_two_tasks(command: Callable[..., None], tmp_path: Path) -> None:
    """LeRobot's own ACT, untrained: what counts is that every flag arrives and every task is told apart."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    seen = {name: PolicyFeature(type=FeatureType.VISUAL, shape=(3, 32, 32)) for name in PICTURES}
    seen["observation.state"] = PolicyFeature(type=FeatureType.STATE, shape=(16,))
    act = ACTConfig(
        input_features=seen,
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(12,))},
        device="cpu",
        dim_model=16,
        n_heads=2,
        dim_feedforward=16,
        pretrained_backbone_weights=None,
    )
    ACTPolicy(act).save_pretrained(tmp_path / "act")
    for pipeline in make_pre_post_processors(act, dataset_stats={}):
        pipeline.save_pretrained(tmp_path / "act")
    flags = [f"--policy.path={tmp_path / 'act'}", "--env.type=svms_kitchen", "--env.task=OpenDrawer,PressTwice"]
    flags += ["--env.episode_length=6", "--env.image_size=32", "--env.scenes=0", "--env.split=paraphrase", "--seed=0"]
    command("lerobot-eval", *flags, "--eval.n_episodes=2", "--eval.batch_size=2", f"--output_dir={tmp_path / 'eval'}")
    told = json.loads((tmp_path / "eval" / "eval_info.json").read_text())
    counted = {name: group["n_episodes"] for name, group in told["per_group"].items()}
    assert counted == {"OpenDrawer": 2, "PressTwice": 2}
    assert told["overall"]["pc_success"] == 0.0
