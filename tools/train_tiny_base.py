"""Make the tiny base that ships with the package.

    svms-gr00t sim record --output-dir kitchen --episodes 360 --seed 1000
    python tools/train_tiny_base.py kitchen src/svms_gr00t/assets/tiny_base --steps N --seed 0

The folder's `origin.json` records the command, the data's fingerprint and the seed.
"""

import argparse
import json
from pathlib import Path

from svms_gr00t.cli.console import Bars
from svms_gr00t.data.lerobot import LeRobotDataset
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
    origin = {
        "record": json.loads((args.dataset / "meta" / "provenance.json").read_text(encoding="utf-8")),
        "fingerprint": LeRobotDataset.open(args.dataset).fingerprint(),
        "train": f"tools/train_tiny_base.py --steps {done} --learning-rate {args.learning_rate} --seed {args.seed}",
        "licence": "Apache-2.0; trained from random weights on demonstrations made by this package",
    }
    (args.output / "origin.json").write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
