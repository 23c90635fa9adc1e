"""`~` and repeated flags: no path stands for a folder named "~", and no value that was typed is dropped."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import tyro
import yaml
from toy_dataset import write_toy

from svms_gr00t.cli.flags import joined
from svms_gr00t.cli.main import Commands, main, parse
from svms_gr00t.cli.train import Train
from svms_gr00t.recipes.training.config import TrainConfig


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def leaves(kind: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type]]:
    """Every subcommand with the words that choose it."""
    for member in get_args(kind):
        chosen, how = get_args(member)[:2]
        hints = get_type_hints(chosen, include_extras=True)
        deeper = leaves(hints["command"], (*words, how.name)) if "command" in hints else [((*words, how.name), chosen)]
        yield from deeper


def filled(words: tuple[str, ...], kind: type) -> tuple[list[str], list[str]]:
    """A command line that gives every path flag `~/x`, and what those fields are called."""
    args, named = list(words), []
    for field in fields(kind):
        hint = get_type_hints(kind, include_extras=True)[field.name]
        positional = tyro.conf.Positional in getattr(hint, "__metadata__", ())
        plain = get_type_hints(kind)[field.name]
        is_path = plain in (Path, Path | None)
        named += [field.name] if is_path else []
        if is_path or field.default is MISSING is field.default_factory:
            value = "~/x" if is_path else "1"
            args += [value] if positional else [f"--{field.name.replace('_', '-')}={value}"]
    return args, named


@pytest.mark.parametrize(
    ("words", "kind"), list(leaves(Commands)), ids=lambda v: " ".join(v) if type(v) is tuple else ""
)
def test_every_path_flag_of_every_command_knows_the_home_folder(words: tuple[str, ...], kind: type, home: Path) -> None:
    (home / "x").write_text(yaml.safe_dump({"dataset_path": ["data"]}))  # what train --config reads
    args, named = filled(words, kind)
    command: Any = parse(args)
    while hasattr(command, "command"):
        command = command.command
    assert type(command) is kind
    assert [getattr(command, name) for name in named] == [home / "x"] * len(named)


def test_paths_that_are_texts_are_expanded_and_other_texts_are_not(home: Path) -> None:
    given = ["--dataset-path", "~/a*2", "~/b@5_demos", "--base-model-path=~/base", "--feature-cache", "~/c"]
    command: Any = parse(["train", *given, "--resume", "~", "--embodiment-tag", "~not/a/path"])
    assert command.dataset_path == (f"{home}/a*2", f"{home}/b@5_demos")
    assert (command.base_model_path, command.feature_cache) == (f"{home}/base", f"{home}/c")
    assert (command.resume, command.embodiment_tag) == (str(home), "~not/a/path")
    told: Any = parse(["labels", "turn ~ 30 degrees"])
    assert told.text == "turn ~ 30 degrees"


def test_a_configuration_file_may_say_home_and_lie_there(home: Path) -> None:
    (home / "run.yaml").write_text(yaml.safe_dump({"dataset_path": ["~/data"], "base_model_path": "~/base"}))
    for flag in (["--config", "~/run.yaml"], ["--config=~/run.yaml"]):
        command = parse(["train", *flag])
        assert isinstance(command, Train)
        settings = command.settings()
        assert isinstance(settings, TrainConfig)
        assert settings.dataset_path == (f"{home}/data",)
        assert settings.base_model_path == f"{home}/base"


def test_a_repeated_list_flag_keeps_all_its_values_in_order(home: Path) -> None:
    spellings = (
        ["data", "statistics", "D", "--relative", "a", "--relative", "b=c"],
        ["data", "statistics", "D", "--relative", "a", "b=c"],
        ["data", "statistics", "--relative=a", "D", "--relative=b=c"],
        ["data", "statistics", "--relative", "a", "--horizon", "8", "--relative=b=c", "D"],
    )
    for args in spellings:
        command: Any = parse(args).command  # type: ignore[attr-defined]
        assert (command.relative, command.dataset_path) == (("a", "b=c"), Path("D")), args
    train: Any = parse(
        ["train", "--views", "a", "--seed", "3", "--views", "b", "--learning_rate", "1", "--learning-rate", "2"]
    )
    assert (train.views, train.seed, train.learning_rate) == (("a", "b"), 3, (1.0, 2.0))
    show: Any = parse(["data", "show", "D", "--episodes", "1", "2", "--episodes", "0"]).command  # type: ignore[attr-defined]
    assert show.episodes == (1, 2, 0)
    assert joined(["train", "--seed", "1", "--seed", "2"], Commands) == ["train", "--seed", "1", "--seed", "2"]
    assert joined(["data", "statistics", "D", "--relative=a", "b"], Commands)[3:] == ["--relative=a", "b"]


def test_statistics_of_two_relative_keys_have_ranges_for_both(tmp_path: Path) -> None:
    root, output = write_toy(tmp_path / "toy"), tmp_path / "statistics.json"
    args = ["data", "statistics", str(root), "--relative", "arm", "--relative", "gripper=gripper"]
    with pytest.raises(SystemExit) as stopped:
        main([*args, "--horizon", "2", "--output", str(output)])
    assert not stopped.value.code
    assert set(yaml.safe_load(output.read_text())["relative_action"]) == {"arm", "gripper"}
