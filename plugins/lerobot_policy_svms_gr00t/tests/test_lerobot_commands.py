"""LeRobot's own commands train, resume, go on with the next phase and evaluate the policy."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("lerobot")
from lerobot_policy_svms_gr00t.modeling_svms_gr00t import SvmsGr00tPolicy

from svms_gr00t import Policy
from svms_gr00t.train.phases import PHASES

pytestmark = pytest.mark.timeout(1800)
Train = Callable[..., Path]
MEMORY = ("--policy.type=svms_gr00t", "--policy.base_model_path=shipped", "--policy.memory_frames=3")
MEMORY += ("--policy.memory_stride=2", "--policy.n_action_steps=2", "--policy.optimizer_lr=0.001")


def saved(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"{step:06d}" / "pretrained_model"


@pytest.fixture(scope="module")
def run(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps of phase 1 with memory, a checkpoint after two."""
    return train(tmp_path_factory.mktemp("run") / "one", *MEMORY, "--save_freq=2", steps=4)


def test_what_trains_is_the_phase_s_and_all_of_it_is_saved(run: Path) -> None:
    early, late = (load_file(saved(run, step) / "model.safetensors") for step in (2, 4))
    policy = SvmsGr00tPolicy.from_pretrained(saved(run, 4))
    trained = {f"model.{name}" for name, p in policy.model.named_parameters() if p.requires_grad}
    first = next(iter(PHASES.values()))
    assert trained == {f"model.{n}" for n, _ in policy.model.named_parameters() if first.trains(n, policy.model.config)}
    moved = {name for name in late if name.startswith("model.") and not torch.equal(early[name], late[name])}
    buffers = {f"model.{name}" for name, _ in policy.model.named_buffers()}
    assert moved - buffers <= trained
    assert len(moved & trained) > 0.8 * len(trained)
    assert int(policy.clock.steps) == 4


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(command: Callable[..., None], run: Path) -> None:
    whole = load_file(saved(run, 4) / "model.safetensors")
    config = json.loads((saved(run, 2) / "train_config.json").read_text())
    assert config["steps"] == 4
    command("lerobot-train", f"--config_path={saved(run, 2) / 'train_config.json'}", "--resume=true")
    again = load_file(saved(run, 4) / "model.safetensors")
    assert whole.keys() == again.keys()
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name


def test_the_next_phases_begin_from_the_last_and_train_what_is_theirs(train: Train, run: Path, tmp_path: Path) -> None:
    folder, begun = saved(run, 4), 4
    for number, phase in list(enumerate(PHASES.values(), 1))[1:]:
        went = train(tmp_path / str(number), f"--policy.path={folder}", f"--policy.phase={number}", steps=2)
        before, after = (SvmsGr00tPolicy.from_pretrained(one) for one in (folder, saved(went, 2)))
        assert (int(after.clock.steps), int(after.clock.begun), int(after.clock.phase)) == (begun + 2, begun, number)
        pairs = zip(before.model.named_parameters(), after.model.named_parameters(), strict=True)
        moved = {name for (name, one), (_, two) in pairs if not torch.equal(one, two)}
        theirs = {name for name, _ in after.model.named_parameters() if phase.trains(name, after.model.config)}
        assert moved <= theirs
        assert len(moved) > 0.8 * len(theirs)
        folder, begun = saved(went, 2), begun + 2


def test_lerobot_eval_drives_it_and_its_memory(command: Callable[..., None], run: Path, tmp_path: Path) -> None:
    flags = [f"--policy.path={saved(run, 4)}", "--policy.device=cpu", "--env.discover_packages_path=toy_env"]
    flags += ["--env.type=svms_dot", "--eval.n_episodes=2", "--eval.batch_size=2", f"--output_dir={tmp_path / 'eval'}"]
    command("lerobot-eval", *flags, "--eval.use_async_envs=false")
    told = json.loads((tmp_path / "eval" / "eval_info.json").read_text())
    assert "pc_success" in json.dumps(told)


def test_plain_n1d6_trains_too(train: Train, tmp_path: Path) -> None:
    flags = ("--policy.type=svms_gr00t", "--policy.base_model_path=shipped", "--policy.use_sheaf_streams=false")
    policy = SvmsGr00tPolicy.from_pretrained(saved(train(tmp_path / "plain", *flags, steps=1), 1))
    assert policy.model.svms is None
    folder = policy.as_policy().save_pretrained(tmp_path / "ours")
    assert Policy.from_pretrained(folder).model.svms is None
