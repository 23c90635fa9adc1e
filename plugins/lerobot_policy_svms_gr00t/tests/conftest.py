"""A small set as LeRobot reads it, and LeRobot's own commands on it; runs in an environment that has LeRobot."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's library is imported

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_dataset import write_toy

from svms_gr00t.data.convert.to_v3 import convert_to_v3

pytest.importorskip("lerobot", reason="LeRobot is not installed: tools/against_lerobot.sh makes its environment")
Command = Callable[..., None]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of a robot with one camera, as LeRobot v3.0."""
    folder = tmp_path_factory.mktemp("data")
    write_toy(folder / "v21")
    convert_to_v3(folder / "v21", folder / "v3")
    return folder / "v3"


@pytest.fixture(scope="session")
def command() -> Command:
    """Run one of LeRobot's commands: its own main function on a command line, in this process."""
    from lerobot.configs import parser

    def run(name: str, *flags: str) -> None:
        main = importlib.import_module(f"lerobot.scripts.{name.replace('-', '_')}").main
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [name, *flags])
            patch.syspath_prepend(str(Path(__file__).parent))
            parser._config_path_args.clear()  # what an earlier command line named
            main()

    return run


@pytest.fixture(scope="session")
def train(command: Command, data: Path) -> Callable[..., Path]:
    """`lerobot-train` on the set: its folder."""

    def run(output: Path, *flags: str, steps: int) -> Path:
        fixed = ["--dataset.repo_id=local/toy", f"--dataset.root={data}", "--dataset.video_backend=pyav"]
        fixed += ["--policy.device=cpu", "--policy.push_to_hub=false", "--num_workers=0", "--log_freq=1"]
        fixed += ["--batch_size=3", "--wandb.enable=false", f"--steps={steps}", f"--output_dir={output}"]
        command("lerobot-train", *fixed, *flags)
        return output

    return run
