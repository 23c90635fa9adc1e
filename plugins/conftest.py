"""LeRobot's own commands in this process; the tests beside it run in an environment that has LeRobot."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's library is imported

import importlib
import sys
from collections.abc import Callable

import pytest
from skips import pytest_addoption, pytest_configure

__all__ = ["pytest_addoption", "pytest_configure"]
pytest.importorskip("lerobot", reason="LeRobot is not installed: tools/against_lerobot.sh makes its environment")


@pytest.fixture(scope="session")
def command() -> Callable[..., None]:
    """Run one of LeRobot's commands: its own main function on a command line, in this process."""
    from lerobot.configs import parser

    def run(name: str, *flags: str) -> None:
        main = importlib.import_module(f"lerobot.scripts.{name.replace('-', '_')}").main
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [name, *flags])
            parser._config_path_args.clear()  # what an earlier command line named
            main()

    return run
