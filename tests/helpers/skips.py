"""Pytest plugin: what an extra promises may not be missing silently.

    pytest --no-skips-of sim,tokenizer,dev      fails when a test was skipped for want of a package of these extras

A skip of another kind (no LIBERO, no browser, no reference data) is only listed, as `-rs` does.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def promised(extras: set[str], project: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Extras that are installed when `extras` are, and the names of all their packages.

    Raises KeyError for an extra that the project does not have.
    """
    every = {
        extra: {re.split(r"[\[<>=!~ ;]", p)[0] for p in ps} for extra, ps in project["optional-dependencies"].items()
    }
    packages = set().union(*(every[extra] for extra in extras))
    return {extra for extra, names in every.items() if names <= packages}, packages


def broken_promise(reason: str, extras: set[str], packages: set[str]) -> bool:
    """Whether a skip's reason names one of the packages, or one of the extras as such ("the sim extra")."""
    text = reason.lower().replace("_", "-")
    names = [re.escape(name.lower().replace("_", "-")) for name in packages]
    names += [rf"{re.escape(extra)} extra" for extra in extras]
    return re.search(rf"(?<![\w-])({'|'.join(names)})(?![\w-])", text) is not None


class NoSkipsOf:
    """Fails a run in which a test was skipped for want of what `extras` promise."""

    def __init__(self, extras: set[str]) -> None:
        project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
        self.extras, self.packages = promised(extras, project)
        self.broken: list[str] = []

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            path, line, reason = report.longrepr
            if broken_promise(reason, self.extras, self.packages):
                self.broken.append(f"{path}:{line}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.broken and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for line in self.broken:
            terminalreporter.line(f"skipped, though its package is promised: {line}", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips-of", default="", help="extras whose packages may not be missing, separated by commas")


def pytest_configure(config: pytest.Config) -> None:
    if extras := config.getoption("--no-skips-of"):
        config.pluginmanager.register(NoSkipsOf(set(extras.split(","))))
