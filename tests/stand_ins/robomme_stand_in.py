"""A Python that finds the stand-in for RoboMME, and a checkpoint of the robot that it drives."""

import json
import shutil
import sys
from pathlib import Path

import torch

from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.recipes.shipped import shipped

OFFSETS = (-24, -16, -8)
RUN = "import runpy, sys; sys.path.insert(0, {folder!r}); runpy.run_path(sys.argv[2], run_name='__main__')"


def python(folder: Path) -> Path:
    """An executable that takes `-I FILE`, as the one of RoboMME's own environment does."""
    file = folder / "python"
    code = RUN.format(folder=str(Path(__file__).parent))
    file.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    file.chmod(0o755)
    return file


def robomme_checkpoint(folder: Path, *, memory: bool = True) -> Path:
    """The tiny base with RoboMME's cameras, states and actions, and a memory whose weights have moved."""
    shutil.copytree(shipped("tiny_base"), folder)
    file = folder / "processor_config.json"
    config = json.loads(file.read_text())
    (robot,) = config["processor_kwargs"]["modality_configs"].values()
    robot["video"]["modality_keys"] = ["image", "wrist_image"]
    robot["state"]["modality_keys"] = ["joints", "gripper"]
    actions = robot["action"]["action_configs"][:1] * 2
    robot["action"] |= {"modality_keys": ["joints", "gripper"], "action_configs": actions}
    config["processor_kwargs"]["modality_configs"] = {"new_embodiment": robot}
    config["svms"]["embodiment_tag"] = "new_embodiment"
    file.write_text(json.dumps(config))
    numbers = {"state": {"joints": _range(4.0, 7), "gripper": _range(0.05, 1)}}
    numbers["action"] = {"joints": _range(1.0, 7), "gripper": _range(1.0, 1)}
    (folder / "statistics.json").write_text(json.dumps({"new_embodiment": numbers}))
    (folder / "embodiment_id.json").write_text(json.dumps({"new_embodiment": 2}))
    if memory:
        _remember(folder)
    return folder


def _remember(folder: Path) -> None:
    file = folder / "config.json"
    svms = {"use_sheaf_streams": True, "d_stream": 16, "d_overlap": 8, "adapter_rank": 4}
    memory = {"memory_offsets": list(OFFSETS), "memory_moments": 2, "memory_layers": 1}
    file.write_text(json.dumps(json.loads(file.read_text()) | svms | memory))
    torch.manual_seed(0)
    model = Gr00tN1d6.from_pretrained(folder)
    assert model.svms is not None
    with torch.no_grad():
        for parameter in model.svms.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.write(folder)


def _range(most: float, width: int) -> dict[str, list[float]]:
    values = {"min": -most, "max": most, "mean": 0.0, "std": most / 2, "q01": -most, "q99": most}
    return {name: [value] * width for name, value in values.items()}
