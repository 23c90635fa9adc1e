"""The released size in a process of its own: a random checkpoint, phases 1 and 2, two steps each, saved at every step.

    make FOLDER           a checkpoint of N1.6's shapes in bfloat16
    train FOLDER RUN      both phases; prints the peak of resident memory of each, in bytes
    resume FOLDER RUN     the same command again

Started by test_released_size.py. A CPU stands for the card, so nothing is copied aside: that copy lies on the host.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from svms_gr00t.groot.checkpoint.streaming import write_tensors
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.train.loop.run_dir import RunDir
from svms_gr00t.train.loop.trainer import LoopConfig, train_phase
from svms_gr00t.train.memory.planner import TOKENS_A_VIEW, TOKENS_OF_TEXT
from svms_gr00t.train.memory.synthetic import synthetic_inputs
from svms_gr00t.train.phases import COUPLE, SPECIALISE

IMAGE_TOKENS = 81
TEXT = TOKENS_OF_TEXT + TOKENS_A_VIEW - IMAGE_TOKENS


class Random(Mapping[str, torch.Tensor]):
    """Normal numbers of these shapes: a million of them, again and again."""

    def __init__(self, shapes: dict[str, torch.Size]) -> None:
        self._shapes = shapes
        source = torch.Generator().manual_seed(0)
        pool = (0.02 * torch.randn(1_000_003, generator=source)).bfloat16()
        self._pool = pool.repeat(1 + max(shape.numel() for shape in shapes.values()) // len(pool))

    def __getitem__(self, name: str) -> torch.Tensor:
        shape = self._shapes[name]
        return self._pool[: shape.numel()].view(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def make(folder: Path) -> None:
    config = Gr00tN1d6Config()
    with torch.device("meta"):
        model = Gr00tN1d6(config)
    folder.mkdir()
    (folder / "config.json").write_text(config.dumps())
    write_tensors(folder / "model.safetensors", Random({n: v.shape for n, v in model.state_dict().items()}))


def resident(field: str) -> int:
    """VmRSS, or VmHWM: the most of it since `forget`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def forget() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def train(folder: Path, run: Path) -> None:
    torch.manual_seed(0)
    config = Gr00tN1d6Config(use_sheaf_streams=True)
    model = Gr00tN1d6.from_pretrained(folder, config=config, dtype=torch.bfloat16, check=False)
    model.action_head.keep_embodiments(0)
    loop = LoopConfig(checkpoint_every=1, keep_last=2, log_every=1, precision="bf16", background=False)
    peaks, loaded = {}, resident("VmRSS")
    for number, phase in enumerate((SPECIALISE, COUPLE), start=1):
        forget()
        train_phase(
            model,
            replace(phase, steps=2, batch_size=1),
            lambda n: synthetic_inputs(config, 1, views=1, text=TEXT, seed=n),
            RunDir(run / f"phase_{number}"),
            config=loop,
        )
        peaks[phase.name] = resident("VmHWM")
    sys.stdout.write(json.dumps({"loaded": loaded, "peaks": peaks}))


if __name__ == "__main__":
    command, places = sys.argv[1], [Path(place) for place in sys.argv[2:]]
    {"make": make, "train": train, "resume": train}[command](*places)
