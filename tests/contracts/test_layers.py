"""The import rules of the architecture: data flows one way, and a newcomer can trust the tree."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import svms_gr00t

ROOT = Path(svms_gr00t.__file__).parent
ALLOWED = {
    "core": set(),
    "data": {"core"},
    "groot": {"core"},
    "streams": {"core"},
    "sheaf": {"core"},
    "svms": {"core", "sheaf", "streams"},
    "model": {"core", "groot", "svms"},
    "request": {"core", "data"},
    "policy": {"core", "data", "groot", "model", "request"},
    "train": {"core", "data", "groot", "streams", "sheaf", "svms", "model"},
    "evaluate": {"core", "data", "groot", "streams", "sheaf", "model", "policy"},
    "sim": {"core", "data"},
    "serve": {"core", "policy", "evaluate"},
    "__main__": {"cli"},
    "recipes": {"core", "data", "groot", "streams", "sheaf", "svms", "model", "policy", "train", "evaluate", "sim"},
}


def imported_packages(source: str) -> set[str]:
    """Our own top-level packages that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "svms_gr00t":
            names = [f"svms_gr00t.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("svms_gr00t.")}
    return found - {"__version__"}


def violations(package: str, source: str) -> set[str]:
    return imported_packages(source) - ALLOWED.get(package, set()) - {package}


def files() -> list[Path]:
    return [p for p in sorted(ROOT.rglob("*.py")) if p.relative_to(ROOT).parts[0] not in ("cli", "__init__.py")]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_the_layers_below_it(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert package in ALLOWED, f"{package} has no rule; add it to the table on purpose"
    assert not violations(package, path.read_text(encoding="utf-8"))


def test_the_rule_notices_an_import_hidden_in_a_function() -> None:
    assert violations("sheaf", "def f():\n    from svms_gr00t.train import loop\n") == {"train"}
    assert violations("data", "import svms_gr00t.groot.dit") == {"groot"}


def test_no_file_is_longer_than_a_reader_wants() -> None:
    long = {str(p.relative_to(ROOT)): n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 350}
    assert not long


def test_importing_the_package_loads_neither_torch_nor_a_simulator() -> None:
    code = "import sys, svms_gr00t, svms_gr00t.groot.config; print(sorted({'torch', 'robosuite'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
