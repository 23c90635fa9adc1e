"""A small set as LeRobot reads it, and training on it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toy_dataset import write_toy

from svms_gr00t.data.convert.to_v3 import convert_to_v3


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of a robot with one camera, as LeRobot v3.0."""
    folder = tmp_path_factory.mktemp("data")
    write_toy(folder / "v21")
    convert_to_v3(folder / "v21", folder / "v3")
    return folder / "v3"


@pytest.fixture(scope="session")
def train(command: Callable[..., None], data: Path) -> Callable[..., Path]:
    """`lerobot-train` on the set: its folder."""

    def run(output: Path, *flags: str, steps: int) -> Path:
        fixed = ["--dataset.repo_id=local/toy", f"--dataset.root={data}", "--dataset.video_backend=pyav"]
        fixed += ["--policy.device=cpu", "--policy.push_to_hub=false", "--num_workers=0", "--log_freq=1"]
        fixed += ["--batch_size=3", "--wandb.enable=false", f"--steps={steps}", f"--output_dir={output}"]
        command("lerobot-train", *fixed, *flags)
        return output

    return run


@pytest.fixture(scope="session")
def n1d7(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of GR00T N1.7, tiny and random."""
    from tiny_n1d7 import write_base

    return write_base(tmp_path_factory.mktemp("n1d7"))


@pytest.fixture(scope="module")
def tiny_processor() -> Iterator[None]:
    """LeRobot fetches N1.7's tokenizer and picture sizes from the hub; these are as small as its weights."""
    from lerobot.policies.groot import processor_groot
    from tiny_n1d7 import processor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processor_groot, "_build_n1_7_processor", lambda _name: processor())
        yield
