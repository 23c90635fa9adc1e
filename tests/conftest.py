"""Shared fixtures: the reference data beside a developer's checkout, absent for users."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from skips import pytest_addoption, pytest_configure

__all__ = ["pytest_addoption", "pytest_configure"]
settings.register_profile("ours", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("ours")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference data (golden outputs, a real dataset, annotated labels), or skip."""
    root = Path(os.environ.get("SVMS_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
    if not root.is_dir():
        pytest.skip("reference data is not here; point SVMS_SHARED at the folder that holds data/")
    return root


KITCHEN = Path(__file__).parents[1] / "src" / "svms_gr00t" / "assets" / "kitchen"


@pytest.fixture(scope="session")
def small_kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first episode of each of the nine tasks among the shipped demonstrations, as a dataset of its own."""
    root, kept = tmp_path_factory.mktemp("data") / "kitchen", 9

    def later(_folder: str, names: list[str]) -> list[str]:
        numbers = {name: re.match(r"episode_(\d{6})", name) for name in names}
        return [name for name, found in numbers.items() if found and int(found[1]) >= kept]

    shutil.copytree(KITCHEN, root, ignore=later)
    for file in ("episodes.jsonl", "episodes_stats.jsonl"):
        lines = (root / "meta" / file).read_text(encoding="utf-8").splitlines(keepends=True)
        (root / "meta" / file).write_text("".join(lines[:kept]), encoding="utf-8")
    rows = [json.loads(line) for line in (root / "meta" / "episodes.jsonl").read_text(encoding="utf-8").splitlines()]
    info = json.loads((root / "meta" / "info.json").read_text(encoding="utf-8"))
    info |= {
        "total_episodes": kept,
        "total_frames": sum(row["length"] for row in rows),
        "splits": {"train": f"0:{kept}"},
    }
    (root / "meta" / "info.json").write_text(json.dumps(info), encoding="utf-8")
    return root
