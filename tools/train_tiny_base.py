"""Make the tiny base that ships with the package.

    svms-gr00t sim record --output-dir kitchen --episodes 540 --seed 1000 --workers 2
    python tools/train_tiny_base.py kitchen src/svms_gr00t/assets/tiny_base --steps 5000 --seed 0

The folder's `origin.json` records both commands, the data's fingerprint and the commit.
"""

import argparse
import json
from pathlib import Path

from svms_gr00t.cli.console import Bars
from svms_gr00t.core.provenance import commit
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.recipes.pretrain import pretrain


def main() -> None:
    """Train, save, and say how."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    done = pretrain(
        args.dataset,
        args.output,
        steps=args.steps,
        minutes=args.minutes,
        learning_rate=args.learning_rate,
        seed=args.seed,
        progress=Bars(),
    )
    text = json.dumps(origin(args.dataset, done, args.learning_rate, args.seed), indent=2)
    (args.output / "origin.json").write_text(text + "\n", encoding="utf-8")


def origin(dataset_path: Path, steps: int, learning_rate: float, seed: int) -> dict[str, str | None]:
    """How the folder came to be, as commands."""
    dataset = LeRobotDataset.open(dataset_path)
    recorded = json.loads((dataset_path / "meta" / "provenance.json").read_text(encoding="utf-8"))
    episodes = len(dataset.episodes)
    train = f"python tools/train_tiny_base.py DATA OUTPUT --steps {steps} --learning-rate {learning_rate} --seed {seed}"
    return {
        "record": f"svms-gr00t sim record --output-dir DATA --episodes {episodes} --seed {recorded['seed']}",
        "fingerprint": dataset.fingerprint(),
        "train": train,
        "commit": commit(),
        "licence": "Apache-2.0; trained from random weights on demonstrations made by this package",
    }


if __name__ == "__main__":
    main()
