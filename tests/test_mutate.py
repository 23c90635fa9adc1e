"""The mutation script: every kind of mutant is made, and a weak test is told from a strong one."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture(scope="module")
def mutants_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", TOOLS / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("return a < b", {"return a <= b", "return a >= b"}),
        ("return a is None", {"return a is not None"}),
        ("return a - b", {"return a + b"}),
        ("return a and not b", {"return a or not b", "return a and b"}),
        ("return 3", {"return 4"}),
        ("return 0.5", {"return 1.0"}),
        ("return min(a)", {"return max(a)"}),
        ("return f(a, b)", {"return f(b, a)"}),
        ("return a if b else c", {"return c if b else a", "return a if not b else c"}),
        ("return a.detach()", {"return a"}),
        ("return torch.where(m, a, b)", {"return a", "return torch.where(a, m, b)"}),
        ("return a.sum().clamp(min=1)", {"return a.sum()", "return a.sum().clamp(min=2)"}),
        ("f(a)", {""}),
        ("a += b", {"", "a -= b"}),
        ("a = a * b", {"", "a = a / b"}),
        ("if a:\n  return 'x'", {"if not a:"}),
        ("raise ValueError(f'{a + 1}')", {""}),
        ("assert a < 3", set()),
        ("'text'", set()),
        ("b: Int[T, 'B 2'] = a", set()),
    ],
)
def test_the_mutants_of_a_statement(mutants_module, code, expected):
    body = "\n ".join(code.splitlines())
    found = list(mutants_module.mutants(f"def f(a, b, c, m):\n '''Text.'''\n {body}\n"))
    assert {mutant.after for mutant in found} == expected
    assert {mutant.where for mutant in found} <= {"f"}
    assert len({mutant.source for mutant in found}) == len(found)
    for mutant in found:
        ast.parse(mutant.source)


def test_constants_of_modules_classes_and_defaults_are_mutated_too(mutants_module):
    source = "N = 1\nclass C:\n  width: int = 3\n  @pin(9)\n  def g(self, n=5):\n    return n\n"
    found = {(m.where, m.after, m.in_function) for m in mutants_module.mutants(source)}
    assert found == {
        ("module", "N = 2", False),
        ("C", "width: int = 4", False),
        ("C.g", "def g(self, n=6):", True),
    }


STRONG = """
import pytest
from toy.area import area
def test_area(): assert area(2, 3) == 6
def test_edge(): assert area(0, 3) == 0
def test_refused():
    with pytest.raises(ValueError):
        area(-1, 3)
"""
WEAK = "from toy.area import area\ndef test_area(): assert area(1, 1) == 1\n"


@pytest.mark.whole
@pytest.mark.parametrize(
    ("tests", "share", "survivor"), [(STRONG, "5 of 5", None), (WEAK, "1 of 5", "area: return w / h")]
)
def test_a_weak_test_leaves_survivors(tmp_path, tests, share, survivor):
    (tmp_path / "src" / "toy").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "src" / "toy" / "__init__.py").touch()
    code = "def area(w, h):\n    if w < 0:\n        raise ValueError\n    return w * h\n"
    (tmp_path / "src" / "toy" / "area.py").write_text(code)
    (tmp_path / "tests" / "test_area.py").write_text(tests)
    command = [sys.executable, str(TOOLS / "mutate.py"), "toy.area", "--root", str(tmp_path), "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert f"| {share} |" in done.stdout, done.stdout + done.stderr
    assert done.returncode == (survivor is not None)
    assert survivor is None or survivor in done.stdout
    assert (tmp_path / "src" / "toy" / "area.py").read_text() == code
