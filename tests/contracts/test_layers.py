"""The import rules of the architecture: data flows one way, and a newcomer can trust the tree."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import svms_gr00t

ROOT = Path(svms_gr00t.__file__).parent
PACKAGES = {
    "core": set(),
    "data": {"core"},
    "groot": {"core"},
    "streams": {"core"},
    "sheaf": {"core"},
    "svms": {"core", "sheaf", "streams"},
    "model": {"core", "groot", "streams", "svms"},
    "request": {"core", "data"},
    "pairing": {"core", "data", "groot"},
    "fast": {"core", "model"},
    "memories": {"core"},
    "policy": {"core", "data", "fast", "groot", "memories", "model", "pairing", "request"},
    "monitor": {"core"},
    "consistency": {"core", "data", "policy", "request", "monitor"},
    "train": {"core", "data", "groot", "streams", "sheaf", "svms", "model"},
    "evaluate": {"core", "data", "groot", "streams", "sheaf", "memories", "model", "policy", "monitor", "consistency"},
    "sim": {"core", "data"},
    "serve": {"core", "policy", "monitor"},
    "__main__": {"cli"},
    "recipes": {
        "core",
        "data",
        "groot",
        "streams",
        "sheaf",
        "svms",
        "model",
        "policy",
        "train",
        "evaluate",
        "sim",
        "consistency",
    },
}
"""What a package, or a file beside the packages, may import of ours."""
N1D6 = {"bounds", "parts", "config", "initial", "embodiment", "attention", "vision", "dit", "backbone", "action_head"}
ROOMS = {
    "data": {
        "mp4": set(),
        "footer": set(),
        "parquet": {"footer"},
        "paths": set(),
        "pictures": set(),
        "lerobot": {"footer", "mp4", "parquet", "paths", "pictures"},
        "show": {"pictures", "lerobot"},
        "processor": {"pictures", "lerobot"},
        "labels": {"lerobot", "processor"},
        "loading": {"paths", "pictures", "lerobot", "processor", "labels"},
        "doctor": {"pictures", "lerobot", "processor", "labels"},
        "convert": {"parquet", "pictures", "lerobot", "processor"},
    },
    "groot": {
        **{module: N1D6 - {module} for module in N1D6},
        "checkpoint": N1D6,
    },
    "train": {
        "losses": set(),
        "schedules": set(),
        "gates": set(),
        "optimizers": set(),
        "towers": set(),
        "phases": {"schedules"},
        "trainable": {"phases", "optimizers"},
        "cache_features": {"phases"},
        "processes": {"towers"},
        "loop": {"losses", "schedules", "phases", "trainable", "optimizers", "processes"},
        "memory": {"losses", "phases", "trainable", "optimizers", "towers", "loop"},
    },
    "evaluate": {
        "statistics": set(),
        "open_loop": {"statistics"},
        "closed_loop": {"statistics"},
        "streams": {"statistics", "open_loop"},
        "comparison": {"statistics", "open_loop", "closed_loop"},
        "report": {"statistics", "open_loop", "closed_loop", "streams", "comparison"},
        "viewer": {"open_loop", "closed_loop", "streams", "report"},
    },
    "sim": {
        "scene": set(),
        "camera": set(),
        "spaces": set(),
        "layout": {"scene"},
        "world": {"scene", "camera"},
        "tasks": {"scene", "layout", "world"},
        "env": {"scene", "camera", "spaces", "layout", "tasks", "world"},
        "experts": {"scene", "tasks", "world", "env"},
        "record": {"camera", "tasks", "env", "experts"},
        "replay": {"env", "record"},
        "robocasa": {"spaces"},
        "libero": {"spaces", "camera"},
        "robomme_worker": set(),
        "robomme": {"spaces", "robomme_worker"},
    },
    "recipes": {
        "shipped": set(),
        "processes": set(),
        "settings": set(),
        "modality_config": set(),
        "training": {"shipped", "modality_config"},
        "setup": {"shipped", "training"},
        "dataflow": {"training"},
        "pretrain": {"training"},
        "benchmarks": {"shipped", "training"},
        "demo": {"shipped", "settings", "training", "benchmarks"},
        "ablation": {"shipped", "processes", "settings", "training", "benchmarks"},
        "memory_study": {"shipped", "processes", "settings", "training", "benchmarks"},
    },
}
"""What a room of a package may import of that package."""
MOST_FILES, MOST_LINES = 14, 350


def imported(source: str) -> set[str]:
    """Our own modules that a file imports, also inside functions, as "package.room.file" (or a name in one)."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("svms_gr00t.") for name in found if name.startswith("svms_gr00t.")} - {"__version__"}


def violations(module: str, source: str) -> set[str]:
    """What `module` ("data.loading.samples") imports and may not: packages, and rooms of its own package."""
    package, _, inside = module.partition(".")
    names = imported(source)
    wrong = {name.split(".")[0] for name in names} - PACKAGES.get(package, set()) - {package}
    if rooms := ROOMS.get(package):
        room = inside.split(".")[0]
        others = {name.split(".")[1] for name in names if name.startswith(f"{package}.")}
        wrong |= {f"{package}.{other}" for other in others - rooms.get(room, set()) - {room}}
    return wrong


def modules() -> dict[str, Path]:
    """Every module by its dotted name; `__init__` files hold a sentence and import nothing."""
    paths = [p for p in sorted(ROOT.rglob("*.py")) if p.name != "__init__.py"]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in paths}


def graph() -> dict[str, set[str]]:
    """Module -> modules that it imports."""
    known = modules()

    def home(name: str) -> str:
        return name if name in known else name.rpartition(".")[0]

    return {m: {home(n) for n in imported(p.read_text(encoding="utf-8"))} & known.keys() for m, p in known.items()}


@pytest.mark.parametrize("module", [m for m in modules() if not m.startswith("cli.")])
def test_a_file_imports_only_the_layers_and_rooms_below_it(module: str) -> None:
    package, _, inside = module.partition(".")
    assert package in PACKAGES, f"{package} has no rule; add it to the table on purpose"
    assert package not in ROOMS or inside.split(".")[0] in ROOMS[package], f"{module} has no rule"
    assert not violations(module, modules()[module].read_text(encoding="utf-8"))


def test_the_rules_notice_an_import_hidden_in_a_function() -> None:
    assert violations("sheaf.graph", "def f():\n    from svms_gr00t.train import loop\n") == {"train"}
    assert violations("data.paths", "import svms_gr00t.groot.dit") == {"groot"}
    assert violations("data.processor.images", "from svms_gr00t.data.loading.samples import At") == {"data.loading"}


def test_no_modules_import_one_another() -> None:
    tuple(TopologicalSorter(graph()).static_order())
    two = {"a": {"b"}, "b": {"a"}}
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(two).static_order())


def test_files_and_folders_are_no_longer_than_a_reader_wants() -> None:
    long = {m: n for m, p in modules().items() if (n := len(p.read_text().splitlines())) > MOST_LINES}
    roots = (ROOT, Path(__file__).parents[1])
    folders = [d for root in roots for d in root.rglob("*") if d.is_dir()]
    full = {str(d): n for d in folders if (n := len(list(d.glob("*.py")))) > MOST_FILES}
    assert not long | full


def test_no_two_test_files_share_a_name() -> None:
    """pytest imports them by their name alone."""
    names = [p.name for p in Path(__file__).parents[1].rglob("test_*.py")]
    assert not {name for name in names if names.count(name) > 1}


def test_importing_the_package_loads_neither_torch_nor_a_simulator() -> None:
    code = "import sys, svms_gr00t, svms_gr00t.groot.config; print(sorted({'torch', 'robosuite'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
