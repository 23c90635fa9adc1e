"""Make the base of the memory demo: the memory study's, which has the skill and sees one frame.

    svms-gr00t sim record --output-dir memory --suite memory --episodes 350 --seed 0 --workers 2
    python tools/train_memory_base.py memory src/svms_gr00t/assets/memory_base --steps 3000

All of the plain model trains on all seven tasks. The demonstrations are not those that ship. The folder's `origin.json`
records both commands, the data's fingerprint and the commit.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch

from svms_gr00t.core.provenance import commit
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.memory_study.config import StudyConfig
from svms_gr00t.recipes.memory_study.run import Place, train_base


def main() -> None:
    """Train, or take what a study has trained, save in bfloat16, and say how."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=StudyConfig().steps_before)
    parser.add_argument("--study", type=Path, help="folder of a study of the same data and steps, whose base it takes")
    args = parser.parse_args()
    config = StudyConfig(dataset_path=str(args.dataset), steps_before=args.steps)
    with tempfile.TemporaryDirectory() as room:
        base = train_base(config, Place(root=args.study or Path(room), dataset=args.dataset))
        policy = Policy.from_pretrained(base)
    Policy(policy.model.to(torch.bfloat16), policy.processor).save_pretrained(args.output)
    text = json.dumps(origin(args.dataset, args.steps), indent=2)
    (args.output / "origin.json").write_text(text + "\n", encoding="utf-8")


def origin(dataset_path: Path, steps: int) -> dict[str, str | None]:
    """How the folder came to be, as commands."""
    dataset = LeRobotDataset.open(dataset_path)
    recorded = json.loads((dataset_path / "meta" / "provenance.json").read_text(encoding="utf-8"))
    asked = f"--suite memory --episodes {len(dataset.episodes)} --seed {recorded['seed']}"
    return {
        "record": f"svms-gr00t sim record --output-dir DATA {asked}",
        "fingerprint": dataset.fingerprint(),
        "train": f"python tools/train_memory_base.py DATA OUTPUT --steps {steps}",
        "commit": commit(),
        "licence": "Apache-2.0; trained from the tiny base on demonstrations made by this package",
    }


if __name__ == "__main__":
    main()
