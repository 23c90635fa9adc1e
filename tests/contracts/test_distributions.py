"""What pip installs holds every file of the package; the source distribution also what one reads, runs and tests."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("benchmarks", "docs", "examples", "notebooks", "plugins", "scripts", "tests", "tools")
BUILD = "import sys\nfrom setuptools import build_meta\nprint(getattr(build_meta, sys.argv[1])(sys.argv[2]))\n"


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    """Files of the checkout."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def tree(tracked: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of those files, with links in place of bytes, for a build writes beside what it reads."""
    root = tmp_path_factory.mktemp("tree")
    for name in tracked:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(ROOT / name)
    return root


def built(tree: Path, what: str, out: Path) -> Path:
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools 77")
    command = [sys.executable, "-c", BUILD, what, str(out)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package_and_the_command(
    tracked: set[str], tree: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(built(tree, "build_wheel", tmp_path)) as wheel:
        names = set(wheel.namelist())
        points = next(name for name in names if name.endswith("/entry_points.txt"))
        assert "svms-gr00t = svms_gr00t.cli.main:main" in wheel.read(points).decode()
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == {name.removeprefix("src/") for name in tracked if name.startswith("src/")}
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_source_distribution_holds_pages_examples_scripts_and_tests(
    tracked: set[str], tree: Path, tmp_path: Path
) -> None:
    with tarfile.open(built(tree, "build_sdist", tmp_path)) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {name for name in tracked if name.split("/")[0] in (*FOLDERS, "src") or "/" not in name}
    assert sorted(wanted - inside - {".gitignore"}) == []


def test_every_folder_of_the_checkout_is_in_the_source_distribution_or_left_out_on_purpose(tracked: set[str]) -> None:
    assert {name.split("/")[0] for name in tracked if "/" in name} - {*FOLDERS, "src"} <= {".ci", ".github"}
