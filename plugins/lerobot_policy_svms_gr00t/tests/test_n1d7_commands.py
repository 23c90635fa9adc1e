"""LeRobot's own commands train SVMS on its N1.7 (tiny, random weights), resume, go on with phase 2 and evaluate."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("lerobot")
pytest.importorskip("diffusers", reason="LeRobot's N1.7 needs diffusers and dm-tree: pip install 'lerobot[groot]'")
pytest.importorskip("tree", reason="LeRobot's N1.7 needs diffusers and dm-tree: pip install 'lerobot[groot]'")
from lerobot_policy_svms_gr00t.n1d7.modeling_n1d7 import SvmsGr00tN1d7Policy

pytestmark = [pytest.mark.timeout(1800), pytest.mark.usefixtures("tiny_processor")]
SMALL = ("--policy.max_state_dim=6", "--policy.max_action_dim=6", "--policy.chunk_size=8", "--policy.n_action_steps=4")
STREAMS = "--policy.svms={d_stream: 16, d_overlap: 8, adapter_rank: 4, aux_warmup_steps: 0}"
Train = Callable[..., Path]


def saved(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"{step:06d}" / "pretrained_model"


@pytest.fixture(scope="module")
def run(train: Train, n1d7: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of phase 1, SVMS alone in the checkpoints."""
    flags = [
        "--policy.type=svms_gr00t_n1d7",
        f"--policy.base_model_path={n1d7}",
        "--policy.delta=true",
        STREAMS,
        *SMALL,
    ]
    return train(tmp_path_factory.mktemp("n1d7-run") / "one", *flags, "--save_freq=1", steps=2)


def test_a_checkpoint_of_phase_1_is_a_delta_of_what_trained(run: Path) -> None:
    early, late = (load_file(saved(run, step) / "svms.safetensors") for step in (1, 2))
    assert not (saved(run, 2) / "model.safetensors").exists()
    policy = SvmsGr00tN1d7Policy.from_pretrained(saved(run, 2))
    assert late.keys() == {name for name in policy.state_dict() if name.startswith("svms.")}
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    moved = {name for name in trained if not torch.equal(early[name], late[name])}
    assert len(moved) > 0.5 * len(trained)
    assert int(policy.svms.clock.steps) == 2


def test_a_run_resumes_from_its_delta(
    command: Callable[..., None], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second step again from the first one's checkpoint; each of our losses stands in LeRobot's log."""
    command("lerobot-train", f"--config_path={saved(run, 1) / 'train_config.json'}", "--resume=true")
    line = next(line for line in "".join(capsys.readouterr()).splitlines() if "step:2 " in line)
    assert all(f" {name}:" in line for name in ("flow", "sheaf", "collapse", "balance", "aux", "weight.aux")), line
    assert int(SvmsGr00tN1d7Policy.from_pretrained(saved(run, 2)).svms.clock.steps) == 2


def test_phase_2_goes_on_and_trains_the_head_s_first_blocks(train: Train, run: Path, tmp_path: Path) -> None:
    flags = [f"--policy.path={saved(run, 2)}", "--policy.phase=2", "--policy.delta=false", "--policy.optimizer_lr=0.1"]
    before, went = SvmsGr00tN1d7Policy.from_pretrained(saved(run, 2)), train(tmp_path / "two", *flags, steps=2)
    after = SvmsGr00tN1d7Policy.from_pretrained(saved(went, 2))
    clock = after.svms.clock
    assert (int(clock.steps), int(clock.begun), int(clock.phase)) == (4, 2, 2)
    pairs = zip(before.named_parameters(), after.parameters(), strict=True)
    changed = {name for (name, one), two in pairs if not torch.equal(one, two)}
    block = "_groot_model.action_head.model.transformer_blocks.0."
    assert any(name.startswith(block) for name in changed)
    assert all(name.startswith((block, "svms.")) for name in changed)


def test_lerobot_eval_drives_a_delta(command: Callable[..., None], run: Path, tmp_path: Path) -> None:
    flags = [f"--policy.path={saved(run, 2)}", "--policy.device=cpu", "--env.discover_packages_path=toy_env"]
    flags += ["--env.type=svms_dot", "--eval.n_episodes=2", "--eval.batch_size=2", f"--output_dir={tmp_path / 'eval'}"]
    command("lerobot-eval", *flags, "--eval.use_async_envs=false")
    assert "pc_success" in (tmp_path / "eval" / "eval_info.json").read_text()
