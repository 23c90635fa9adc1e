"""The suites of the embedded kitchen by name, and their tasks by theirs."""

from typing import Literal, get_args

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.sim.tasks.memory import MEMORY
from svms_gr00t.sim.tasks.single import SINGLE
from svms_gr00t.sim.tasks.task import Task

SuiteName = Literal["single", "memory"]
SUITES: dict[SuiteName, dict[str, Task]] = {
    "single": {task.name: task for task in SINGLE},
    "memory": {task.name: task for task in MEMORY},
}
"""single: one frame decides. memory: the past does."""
TASKS = SUITES["single"]
"""The suite that is meant where none is named."""
EVERY = SUITES["single"] | SUITES["memory"]
"""Tasks of all suites; no two share a name."""


def suite_named(name: str) -> dict[str, Task]:
    """The tasks of a suite. Raises ConfigError for an unknown name."""
    for known in get_args(SuiteName):
        if name == known:
            return SUITES[known]
    raise ConfigError("suite", got=name, want=f"one of {', '.join(SUITES)}", hint="single is the usual one")


def task_named(name: str) -> Task:
    """Look a task up in every suite. Raises ConfigError for an unknown name."""
    if name not in EVERY:
        raise ConfigError("task", got=name, want=f"one of {', '.join(EVERY)}", hint="Run with a name from the list")
    return EVERY[name]


def tasks_named(names: tuple[str, ...], suite: str = "single") -> tuple[str, ...]:
    """The named tasks, or all of a suite where none is named. Raises ConfigError for unknown names."""
    if unknown := sorted(set(names) - set(EVERY)):
        raise ConfigError("--tasks", got=unknown, want=f"names among {', '.join(EVERY)}", hint="Leave it out for all")
    return names or tuple(suite_named(suite))
