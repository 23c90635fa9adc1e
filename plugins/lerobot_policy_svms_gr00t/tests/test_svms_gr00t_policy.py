"""The policy as LeRobot calls it, against our own on the same observations: equal to the bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lerobot")
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot_policy_svms_gr00t import SvmsGr00tConfig
from lerobot_policy_svms_gr00t.modeling_svms_gr00t import SvmsGr00tPolicy

from svms_gr00t import Policy
from svms_gr00t.core.errors import ConfigError, DataError
from svms_gr00t.data.lerobot.dataset import LeRobotDataset as OurDataset
from svms_gr00t.data.loading.samples import SampleDataset
from svms_gr00t.train.losses import total_loss

FRONT = "observation.images.front"


def config(**changes: Any) -> SvmsGr00tConfig:
    memory = {"memory_frames": 3, "memory_stride": 2, "n_action_steps": 2}
    plain = {"base_model_path": "shipped", "device": "cpu", "push_to_hub": False}
    return SvmsGr00tConfig(**(plain | memory | changes))


def opened(data: Path, chosen: SvmsGr00tConfig | None = None) -> LeRobotDataset:
    plain = LeRobotDataset("local/toy", root=data, video_backend="pyav")
    if chosen is None:
        return plain
    times = resolve_delta_timestamps(chosen, plain.meta)
    return LeRobotDataset("local/toy", root=data, video_backend="pyav", delta_timestamps=times)


def batched(items: list[dict[str, Any]]) -> dict[str, Any]:
    return torch.utils.data.default_collate(items)


def moved(policy: SvmsGr00tPolicy) -> SvmsGr00tPolicy:
    """What starts at zero moved, so that streams and memory count."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.svms.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return policy


@pytest.fixture(scope="module")
def policy(data: Path) -> SvmsGr00tPolicy:
    return moved(make_policy(config(), ds_meta=opened(data).meta)).eval()


def noise(policy: SvmsGr00tPolicy, rows: int) -> torch.Tensor:
    c = policy.model.config
    return torch.randn(rows, c.action_horizon, c.max_action_dim, generator=torch.Generator().manual_seed(7))


def request(item: dict[str, Any]) -> dict[str, Any]:
    """The present of one item as our own policies take it."""
    picture, state = (item[name][-1] if item[name].ndim > axes else item[name] for name, axes in PLACES.items())
    return {
        "video.front": (picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy(),
        "state.arm": state[:3].numpy(),
        "state.gripper": state[3:].numpy(),
        "annotation.human.action.task_description": item["task"],
    }


PLACES = {FRONT: 3, "observation.state": 1}


def acted(ours: Policy, observation: dict[str, Any], start: torch.Tensor) -> np.ndarray:
    """Our own chunk from the same noise, in the places of LeRobot's action."""
    ours._noise = lambda _inputs, _seeds: start
    chunk = ours.act([observation], seeds=[0])[0][0]
    found = np.zeros((16, 4), np.float32)
    found[:, 1:4], found[:, 0:1] = chunk["arm"], chunk["gripper"]
    return found


def test_a_reloaded_policy_s_chunk_is_ours_to_the_bit(policy: SvmsGr00tPolicy, data: Path, tmp_path: Path) -> None:
    """Saved by LeRobot's call, moved, loaded without base and dataset; beside it our own policy from our own folder."""
    policy.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved").rename(tmp_path / "moved")
    again = SvmsGr00tPolicy.from_pretrained(tmp_path / "moved")
    ours = Policy.from_pretrained(policy.as_policy().save_pretrained(tmp_path / "ours"))
    item, start = opened(data)[5], noise(policy, 1)
    batch = batched([item])
    chunk = again.predict_action_chunk(batch, noise=start)
    assert chunk.shape == (1, 16, 4)
    assert torch.equal(chunk, policy.predict_action_chunk(batch, noise=start))
    assert np.array_equal(chunk[0].numpy(), acted(ours, request(item) | {"step": 0}, start))
    other = batched([opened(data)[6]])
    assert not torch.equal(chunk, again.predict_action_chunk(other, noise=start))


def test_step_by_step_it_remembers_what_ours_remembers(policy: SvmsGr00tPolicy, data: Path) -> None:
    items, start = opened(data), noise(policy, 1)
    ours = policy.as_policy()
    ours.reset()
    policy.reset()
    forgetful = []
    for step in range(8):
        action = policy.select_action(batched([items[step]]), noise=start)
        if step % 2 == 0:
            chunk = acted(ours, request(items[step]) | {"step": step}, start)
            forgetful.append(policy.predict_action_chunk(batched([items[step]]), noise=start)[0, 0])
        assert np.array_equal(action[0].numpy(), chunk[step % 2]), step
    assert not torch.equal(torch.from_numpy(chunk[0]), forgetful[-1]), "memory counts"
    policy.reset()
    first = policy.select_action(batched([items[6]]), noise=start)
    assert torch.equal(first[0], forgetful[3]), "after a reset nothing is remembered"


def test_a_training_batch_is_the_one_that_our_own_loader_makes(
    policy: SvmsGr00tPolicy, tmp_path: Path, data: Path
) -> None:
    """Pictures, states, actions, masks, labels and what was seen before, at a start, in the middle, at an end."""
    items, places = opened(data, policy.config), [0, 3, 11, 14]
    inputs = policy.columns.inputs(batched([items[i] for i in places]), learn=True, labels=policy.labels)
    dataset = OurDataset.open(data)
    samples = SampleDataset(
        dataset, policy.kept.processor, episodes=[0, 1, 2], labeler=policy.labels.labeler, memory=(-4, -2)
    )
    want = samples.batch(places)
    for name in ("state", "action", "action_mask", "input_ids", "labels", "attention_mask"):
        assert torch.equal(getattr(inputs, name), getattr(want, name)), name
    assert torch.equal(inputs.past.valid, want.past.valid)
    one, two = (torch.stack([x.past.steps.state[i, 0] for i in x.past.place[x.past.valid]]) for x in (inputs, want))
    assert torch.equal(one, two)
    gap = (inputs.images.pixels.int() - want.images.pixels.int()).abs()
    assert gap.float().mean() < 1.0, "two decoders of the same video"


def test_losses_are_ours_and_those_of_samples_make_up_the_batch_s(policy: SvmsGr00tPolicy, data: Path) -> None:
    items = opened(data, policy.config)
    batch = batched([items[i] for i in (1, 9, 15)])
    torch.manual_seed(3)
    loss, told = policy.forward(batch)
    torch.manual_seed(3)
    inputs = policy.columns.inputs(batch, learn=True, labels=policy.labels, label_weight=policy.label_weight)
    terms = policy.model(inputs).terms
    weights = {name: told[f"weight.{name}"] for name in terms}
    assert {"flow", "sheaf", "collapse", "balance", "aux", "recall"} == set(terms)
    torch.testing.assert_close(loss, total_loss(terms, weights))
    torch.manual_seed(3)
    each, _ = policy.forward(batch, reduction="none")
    assert each.shape == (3,)
    share = inputs.action_mask.sum((1, 2)) / inputs.action_mask.sum()
    torch.testing.assert_close((each * share).sum(), loss)
    assert each.std() > 0


def test_frozen_parts_stay_in_eval_mode_whatever_lerobot_calls(policy: SvmsGr00tPolicy) -> None:
    policy.train()
    assert not policy.model.backbone.training
    assert policy.model.svms.training
    assert {id(p) for p in policy.get_optim_params()} == {id(p) for p in policy.model.svms.parameters()}
    policy.eval()


def test_the_pipelines_take_lerobot_s_overrides_and_change_no_number(
    policy: SvmsGr00tPolicy, data: Path, tmp_path: Path
) -> None:
    meta = opened(data).meta
    before, after = make_pre_post_processors(policy.config, dataset_stats=meta.stats)
    before.save_pretrained(tmp_path)
    after.save_pretrained(tmp_path)
    features = {**policy.config.input_features, **policy.config.output_features}
    norm = {"features": features, "norm_map": policy.config.normalization_mapping, "stats": meta.stats}
    overrides = {"device_processor": {"device": "cpu"}, "normalizer_processor": norm}
    overrides["rename_observations_processor"] = {"rename_map": {}}
    before, after = make_pre_post_processors(
        policy.config,
        pretrained_path=str(tmp_path),
        preprocessor_overrides=overrides,
        postprocessor_overrides={"unnormalizer_processor": norm | {"features": policy.config.output_features}},
    )
    item = opened(data)[2]
    found = before(batched([item]))
    for name in (FRONT, "observation.state", "action"):
        assert torch.equal(found[name][0], item[name]), name
    assert torch.equal(after(item["action"][None])[0], item["action"])


def test_what_does_not_fit_is_one_sentence(policy: SvmsGr00tPolicy, data: Path, tmp_path: Path) -> None:
    meta = opened(data).meta
    seen = policy.config.input_features
    with pytest.raises(ConfigError, match="n_action_steps = 3, but need a divisor of the memory's stride, 2"):
        config(n_action_steps=3)
    with pytest.raises(ConfigError, match="no dataset"):
        SvmsGr00tPolicy(config(input_features=seen, output_features=policy.config.output_features))
    with pytest.raises(ConfigError, match=r"chunk_size = 12, but need 16"):
        make_policy(config(chunk_size=12), ds_meta=meta)
    with pytest.raises(ConfigError, match="the base has for robocasa_panda_omron"):
        make_policy(config(embodiment_tag="robocasa_panda_omron"), ds_meta=meta)
    batch = batched([opened(data)[0]])
    with pytest.raises(DataError, match=f"no {FRONT}"):
        policy.predict_action_chunk({name: value for name, value in batch.items() if name != FRONT})
    with pytest.raises(DataError, match="an instruction for each robot"):
        policy.predict_action_chunk({name: value for name, value in batch.items() if name != "task"})
    policy.save_pretrained(tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"the saved policy's, \(-4, -2\)"):
        SvmsGr00tPolicy.from_pretrained(tmp_path / "saved", config=replace(policy.config, memory_frames=1))
