"""Does a test fail when the code is wrong? Changes a module in one place at a time and runs the tests that pass there.

    python tools/mutate.py svms_gr00t.sheaf.diffusion svms_gr00t.streams.merge     survivors, and one Markdown row each
    python tools/mutate.py MODULE --tests tests/train/test_parts.py --only refresh  other tests; part of a module

One traced run finds which tests touch which lines, and how long they take. Then each mutant is a copy of `src` with one
changed file and a forked process that runs only those tests, same-named files first, the quick ones before the slow;
20 seconds of processor time at most. Mutants that no test can tell from the code stand, with the reason, in
`equivalent_mutants.toml` beside this file.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from mutants import Mutant, mutants

KNOWN_SAME = Path(__file__).with_name("equivalent_mutants.toml")
HEAVY = (
    "pytest hypothesis beartype jaxtyping numpy torch einops transformers safetensors.torch huggingface_hub "
    "scipy.stats scipy.spatial sklearn.linear_model PIL.Image pyarrow.parquet av pydantic tyro rich jinja2 matplotlib"
)
"""Imported once, before the forks."""
CPU_SECONDS, WALL_SECONDS, TEST_SECONDS = 20, 180, 6.0
"""Of one mutant; the last bounds the tests chosen for it, by their own time."""


@dataclass
class Traced:
    """What one test did in the traced run."""

    seconds: float = 0.0
    lines: list[int] = field(default_factory=list)
    passed: bool = True


@dataclass
class Result:
    """What became of the mutants of one module."""

    module: str
    killed: int = 0
    timed_out: int = 0
    survivors: list[Mutant] = field(default_factory=list)
    same: list[Mutant] = field(default_factory=list)

    @property
    def counted(self) -> int:
        """Mutants that a test could notice."""
        return self.killed + len(self.survivors)

    def row(self) -> str:
        """One Markdown row: module, mutants, equivalent, killed, share."""
        share = f"{self.killed / self.counted:.0%}" if self.counted else "-"
        name, every = self.module.partition(".")[2] or self.module, self.counted + len(self.same)
        return f"| {name} | {every} | {len(self.same)} | {self.killed} of {self.counted} | {share} |"


class Tracer:
    """pytest plugin: the lines of one file that each test runs, and its time."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)
        self.tests: dict[str, Traced] = {}
        self._lines: set[int] = set()
        self._begin = 0.0

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.tests[nodeid], self._lines = Traced(), set()
        self._begin = time.process_time()
        threading.settrace(self._trace)
        sys.settrace(self._trace)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.tests[report.nodeid].passed &= report.outcome == "passed"

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        self.tests[nodeid].seconds = time.process_time() - self._begin
        self.tests[nodeid].lines = sorted(self._lines)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != self.file:
            return None
        self._lines.add(frame.f_lineno)
        return self._trace


class Bench:
    """A copy of the sources, and processes that run tests against it."""

    def __init__(self, root: Path, module: str, copy: Path) -> None:
        self.root, self.copy = root, copy
        self.file = copy / Path(*module.split(".")).with_suffix(".py")
        self.original, self._writes = self.file.read_text(encoding="utf-8"), 0

    def write(self, source: str) -> None:
        """Another version of the module; no compiled copy of an older one is ever taken for it."""
        self.file.write_text(source, encoding="utf-8")
        self._writes += 1
        os.utime(self.file, (self._writes, self._writes))
        for compiled in (self.file.parent / "__pycache__").glob(f"{self.file.stem}.*"):
            compiled.unlink()

    def start(self, tests: list[str], traced: Path | None = None) -> int:
        """Fork; the child runs the tests and leaves with pytest's exit code."""
        if (child := os.fork()) != 0:
            return child
        code = 70
        with contextlib.suppress(BaseException):
            code = self._child(tests, traced)
        os._exit(code)

    def _child(self, tests: list[str], traced: Path | None) -> int:
        os.setsid()
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        os.chdir(self.root)
        os.environ |= {"PYTHONPATH": str(self.copy), "HYPOTHESIS_STORAGE_DIRECTORY": str(self.copy / ".hypothesis")}
        sys.path.insert(0, str(self.copy))
        import pytest

        more = ["-p", "no:cacheprovider", "--no-header", *([] if traced else ["-x"])]
        if "hypothesis" in sys.modules:
            more.append("--hypothesis-seed=0")
        if traced is None:
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
            return int(pytest.main([*more, *tests]))
        tracer = Tracer(self.file)
        code = int(pytest.main([*more, *tests], plugins=[tracer]))
        traced.write_text(json.dumps({name: asdict(test) for name, test in tracer.tests.items()}), encoding="utf-8")
        return code


def candidates(root: Path, module: str) -> list[str]:
    """Test files of a module: the same name first, then the folder's and those that mention it."""
    stem, folder = module.rpartition(".")[2], module.split(".")[1:-1]
    files = sorted((root / "tests").rglob("test_*.py"))
    named = [file for file in files if stem in file.stem.removeprefix("test_")]
    beside = [file for file in files if folder and set(folder) <= set(file.relative_to(root / "tests").parts[:-1])]
    says = [f for f in files if module in (text := f.read_text(encoding="utf-8")) or f"import {stem}\n" in text]
    return [str(file.relative_to(root)) for file in dict.fromkeys([*named, *beside, *says])]


def chosen(mutant: Mutant, tests: dict[str, Traced], order: list[str]) -> list[str]:
    """The tests that reach a mutant: same-named files first, within a file the quick ones, `TEST_SECONDS` in all."""
    lines = range(mutant.line, mutant.last + 1)
    rank = {file: place for place, file in enumerate(order)}
    reach = [n for n, t in tests.items() if t.passed and (not mutant.in_function or not set(lines).isdisjoint(t.lines))]
    reach.sort(key=lambda name: (rank.get(name.partition("::")[0], len(rank)) > 0, tests[name].seconds))
    picked, room = [], TEST_SECONDS
    for name in reach:
        if tests[name].seconds <= room:
            picked.append(name)
            room -= tests[name].seconds
    return picked[:150]


def run_module(root: Path, module: str, args: argparse.Namespace) -> Result:
    """Trace, then try every mutant, `args.jobs` at a time."""
    with tempfile.TemporaryDirectory(prefix="mutate-") as place:
        benches = []
        for job in range(args.jobs):
            shutil.copytree(root / "src", Path(place) / str(job), symlinks=True)
            benches.append(Bench(root, module, Path(place) / str(job)))
        order = args.tests or candidates(root, module)
        traced = Path(place) / "traced.json"
        child, deadline = benches[0].start(order, traced), time.monotonic() + args.trace_seconds
        while _ended(child, deadline) is None:
            time.sleep(0.1)
        if not traced.is_file():
            sys.exit(f"{module}: its tests did not finish in {args.trace_seconds:.0f} s; pass --tests")
        tests = {name: Traced(**test) for name, test in json.loads(traced.read_text(encoding="utf-8")).items()}
        _say(f"{module}: {len(tests)} tests, {sum(not test.passed for test in tests.values())} of them not passing")
        known = _known_same(module)
        result, queue = Result(module), []
        for mutant in _sample(mutants(benches[0].original), args):
            if key(mutant) in known:
                result.same.append(mutant)
            elif picked := chosen(mutant, tests, order):
                queue.append((mutant, picked))
            else:
                _judge(result, mutant, None)
        _run_all(queue, benches, result)
        return result


def _sample(found: Iterator[Mutant], args: argparse.Namespace) -> list[Mutant]:
    kept = [m for m in found if args.only in m.where and (not args.lines or m.line in args.lines)]
    if args.at_most and len(kept) > args.at_most:
        kept = [kept[i] for i in sorted(random.Random(0).sample(range(len(kept)), args.at_most))]
    return kept


def _run_all(queue: list[tuple[Mutant, list[str]]], benches: list[Bench], result: Result) -> None:
    free = list(benches)
    running: dict[int, tuple[Mutant, Bench, float]] = {}
    waiting = queue[::-1]
    while waiting or running:
        while free and waiting:
            (mutant, tests), bench = waiting.pop(), free.pop()
            bench.write(mutant.source)
            running[bench.start(tests)] = (mutant, bench, time.monotonic() + WALL_SECONDS)
        time.sleep(0.02)
        for child, (mutant, bench, end) in list(running.items()):
            if (code := _ended(child, end)) is not None:
                del running[child]
                free.append(bench)
                _judge(result, mutant, code)


def _ended(child: int, deadline: float) -> int | None:
    """Exit code, or minus the signal, of a child that has ended; 0 for one that never would. None while it runs."""
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        return os.waitstatus_to_exitcode(status)
    if time.monotonic() < deadline:
        return None
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 0


def _judge(result: Result, mutant: Mutant, code: int | None) -> None:
    """Count a mutant by pytest's exit code: 0 all passed, 5 no tests; None when no test reaches it."""
    if code in (None, 0, 5):
        result.survivors.append(mutant)
        word = "survived" if code is not None else "no test reaches it"
        _say(f"  line {mutant.line}: {word}\n    {mutant.before}\n    {key(mutant)}")
        return
    result.killed += 1
    result.timed_out += code < 0


def key(mutant: Mutant) -> str:
    """How `equivalent_mutants.toml` names a mutant, whatever its line."""
    return f"{mutant.where}: {mutant.after or 'without ' + mutant.before}"


def _known_same(module: str) -> set[str]:
    known = tomllib.loads(KNOWN_SAME.read_text(encoding="utf-8")) if KNOWN_SAME.is_file() else {}
    return set(known.get(module, {}))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """0 when no mutant survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", help="dotted names, such as svms_gr00t.sheaf.diffusion")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="holds src and tests")
    parser.add_argument("--tests", nargs="*", default=[], help="test files instead of those found by name")
    parser.add_argument("--only", default="", help="mutants of functions whose name holds this")
    parser.add_argument("--lines", type=int, nargs="*", default=[], help="mutants of statements that begin there")
    parser.add_argument("--at-most", type=int, default=0, help="a fixed sample of this many mutants of each module")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--trace-seconds", type=float, default=900, help="limit of the first, traced run")
    args = parser.parse_args()
    for name in HEAVY.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    results = []
    for module in args.modules:
        begin = time.monotonic()
        results.append(found := run_module(args.root.resolve(), module, args))
        late = f", {found.timed_out} by the time limit" if found.timed_out else ""
        _say(f"{module}: {found.killed} of {found.counted} killed{late} in {time.monotonic() - begin:.0f} s")
    _say("\n| module | mutants | equivalent | killed | share |\n| --- | --- | --- | --- | --- |")
    _say("\n".join(result.row() for result in results))
    return int(any(result.survivors for result in results))


if __name__ == "__main__":
    sys.exit(main())
