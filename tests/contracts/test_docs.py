"""What the pages say of the tree is true: every path they name is there, and the map leaves no room out."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "svms_gr00t"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = {p.name for p in SOURCE.iterdir() if p.is_dir()}
NAMED = re.compile(r"`((?:\w+/)*\w+\.(?:py|toml|sh|yaml|sbatch)|(?:\w+/)+)`")


def missing(text: str) -> list[str]:
    """Paths in backticks that are ours by their first folder, and are nowhere."""
    ours = (name for name in NAMED.findall(text) if "/" in name)
    ours = (n for n in ours if n.split("/")[0] in PACKAGES | {"tests", "benchmarks", "examples", "scripts", "tools"})
    return [name for name in ours if not (SOURCE / name).exists() and not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    assert not missing(page.read_text(encoding="utf-8"))


def test_a_path_that_moved_away_is_noticed() -> None:
    assert missing("see `data/labels.py`, `data/labels/` and `data/labels/rules.py`") == ["data/labels.py"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_map_shows_every_room() -> None:
    tree = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## The tree")[1].split("```")[1]
    rooms = {p.parent.name for p in SOURCE.rglob("__init__.py") if p.parent != SOURCE}
    assert not {room for room in rooms if f"{room}/" not in tree}
