"""LeRobot's half of loader.py, run by LeRobot's own interpreter: no module of ours is imported.

    python benchmarks/speed/loader_lerobot.py DATASET --batch 16 --horizon 16 --seconds 2 --rounds 5

Batches of random steps through `LeRobotDataset` and torch's collation in this process: every camera's frame decoded and
made float, states, and a chunk of actions. No picture is resized, changed in colour or made a prompt's. Prints JSON:
LeRobot's version and samples per second of processor time, one number a round.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from torch.utils.data import default_collate


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--horizon", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default=None, help="pyav or torchcodec; by default LeRobot's own choice")
    args = parser.parse_args()
    torch.set_num_threads(1)
    fps = json.loads((args.dataset / "meta" / "info.json").read_text(encoding="utf-8"))["fps"]
    chunk = {"action": [i / fps for i in range(args.horizon)]}
    steps = LeRobotDataset(
        f"local/{args.dataset.name}", root=args.dataset, delta_timestamps=chunk, video_backend=args.backend
    )
    rng, rates = np.random.default_rng(0), []
    for _ in range(args.rounds):
        began, count = time.process_time(), 0
        while (passed := time.process_time() - began) < args.seconds:
            batch = default_collate([steps[int(i)] for i in rng.integers(0, len(steps), args.batch)])
            count += len(batch["action"])
        rates.append(count / passed)
    cameras = [key for key in steps[0] if key.startswith("observation.images.")]
    told = {"version": version("lerobot"), "cameras": len(cameras), "backend": args.backend or "its default decoder"}
    print(json.dumps(told | {"rates": rates}))


if __name__ == "__main__":
    main()
