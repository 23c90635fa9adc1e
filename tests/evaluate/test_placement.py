"""`--device` and `--dtype`: the checkpoint's own type by default, and no second copy of the weights in another one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from svms_gr00t.cli.main import main
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, evaluate_open_loop
from svms_gr00t.groot.checkpoint.loading import read_config
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped

IN_FLOAT32 = 0.01045811972140781, 0.017268568798456164
"""Error and flow loss of the shipped base, which is stored in bfloat16, computed in float32 on one CPU thread."""
PROBE = """
import json, sys, torch
from pathlib import Path
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.evaluate.open_loop.scoring import OpenLoopConfig, evaluate_open_loop
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

def judged(folder, dtype):
    policy = Policy.from_pretrained(folder, dtype=dtype)
    statistics = policy.processor.statistics[policy.processor.config.embodiment_tag]
    evaluate_open_loop(policy, dataset, (0,), statistics=statistics, config=OpenLoopConfig(stride=40), name="x")
    return policy

torch.set_num_threads(1)
dataset, dtype = LeRobotDataset.open(shipped("kitchen")), sys.argv[2] or None
judged(shipped("tiny_base"), dtype)  # what a first evaluation imports and caches is nobody's copy
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS:")
weights = list(judged(Path(sys.argv[1]), dtype).model.parameters())
kept = sum(one.numel() for one in weights) * 2
print(json.dumps([sorted({str(one.dtype) for one in weights}), (memory("VmHWM:") - before) / kept, kept]))
"""


def scores(dtype: str | None) -> tuple[float, float | None]:
    policy = Policy.from_pretrained(shipped("tiny_base"), dtype=dtype)
    statistics = policy.processor.statistics[policy.processor.config.embodiment_tag]
    config = OpenLoopConfig(batch_size=32, stride=8)
    dataset = LeRobotDataset.open(shipped("kitchen"))
    found = evaluate_open_loop(policy, dataset, (0, 1), statistics=statistics, config=config, name="x").scores
    return found.mse, found.flow_loss


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped base with language layers of 74 million numbers in bfloat16: larger than what acting needs."""
    base = shipped("tiny_base")
    values = read_config(base).to_dict()
    values["text_config"] |= {"intermediate_size": 48 * 1024}
    model = Gr00tN1d6(Gr00tN1d6Config.from_dict(values)).bfloat16()
    policy = Policy(model, Policy.from_pretrained(base).processor)
    return policy.save_pretrained(tmp_path_factory.mktemp("wide") / "policy")


@pytest.mark.whole
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from /proc")
def test_a_bfloat16_checkpoint_is_evaluated_in_bfloat16_without_another_copy(wide: Path) -> None:
    def measured(dtype: str) -> tuple[list[str], float, int]:
        command = [sys.executable, "-c", PROBE, str(wide), dtype]
        return tuple(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))

    own, float32 = measured(""), measured("float32")
    assert own[2] > 1e8
    assert (own[0], float32[0]) == (["torch.bfloat16"], ["torch.float32"])
    assert own[1] < 1.7  # a copy adds 1.0 or more, allocators add a third, and a busy machine sways it by a tenth
    assert float32[1] > 1.9  # the measure notices a copy in float32


def test_float32_gives_what_it_gave_and_the_own_type_nearly_that() -> None:
    torch.set_num_threads(1)
    exact, own = scores("float32"), scores(None)
    assert exact == pytest.approx(IN_FLOAT32, rel=1e-5)
    assert own == scores("bfloat16")
    assert own != pytest.approx(IN_FLOAT32, rel=1e-5)
    assert own == pytest.approx(IN_FLOAT32, rel=0.03)


COMMANDS = {
    "open-loop": "evaluate open-loop --checkpoint {0} --dataset-path {0}",
    "rollout": "evaluate rollout --checkpoint {0}",
    "streams": "evaluate streams --checkpoint {0} --dataset-path {0}",
    "calibrate": "evaluate calibrate --checkpoint {0} --dataset-path {0}",
    "serve": "serve --model-path {0}",
    "cache build": "data cache build --dataset-path {0} --output {0}",
    "cache verify": "data cache verify --dataset-path {0} --cache {0}",
    "ablate": "ablate --output-dir {0}",
    "memory study": "ablate --suite memory --output-dir {0}",
    "monitor": "monitor train {0} {0}",
}


@pytest.mark.skipif(torch.version.cuda is not None, reason="this PyTorch is built with CUDA")
@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_every_command_refuses_a_device_that_is_not_there_before_anything_else(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command.format(tmp_path / "nothing").split(), "--device", "cuda"])
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.err.startswith("error: device = 'cuda', but need cpu: this PyTorch")
    assert said.err.count("\n") == 1
    assert not said.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_command_says_and_keeps_the_type_it_is_told(
    dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = f"--checkpoint {shipped('tiny_base')} --dataset-path {shipped('kitchen')} --stride 60 --dtype {dtype}"
    with pytest.raises(SystemExit) as stopped:
        main([*f"evaluate open-loop {asked} --device cpu".split(), "--output", str(tmp_path / "found.json")])
    assert stopped.value.code == 0
    assert f"{dtype} on cpu" in capsys.readouterr().err
