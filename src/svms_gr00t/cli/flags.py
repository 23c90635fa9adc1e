"""What every command honours, in one place: `~` is the home folder, a list flag may repeat, and two flags of trust.

--base-model-path=~/gr00t      no shell expands it there, nor in a YAML file
--relative a --relative b=c    the same as --relative a b=c
--follow-links                 datasets may link to files outside their folder
--limit picture_pixels=1e9     files may declare more of something (`core/sizes.py`)
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from svms_gr00t.core.sizes import raise_limits
from svms_gr00t.data.paths import FOLLOW_LINKS

Command = TypeVar("Command")
_NUMBER = re.compile(r"-[\d.].*")
_LINKS, _LIMIT = "--follow-links", "--limit"


def set_aside(args: Sequence[str]) -> list[str]:
    """`args` without the flags of trust, put into the environment for the processes that a command starts.

    Raises ConfigError for a limit that does not exist.
    """
    rest, raised = [], []
    words = iter(args)
    for word in words:
        if word == _LINKS:
            os.environ[FOLLOW_LINKS] = "1"
        elif word == _LIMIT or word.startswith(_LIMIT + "="):
            raised.append(next(words, "") if word == _LIMIT else word.removeprefix(_LIMIT + "="))
        else:
            rest.append(word)
    if raised:
        raise_limits(raised)
    return rest


def at_home(command: Command) -> Command:
    """The filled-in command (or a path) with `~` expanded in every path, and in every text that begins like one."""
    return _expanded(command)


def _expanded(value: Any) -> Any:
    if isinstance(value, Path):
        return Path(os.path.expanduser(value))  # unlike Path.expanduser, no error for a user that does not exist
    if isinstance(value, str):
        return os.path.expanduser(value) if value == "~" or value.startswith("~/") else value
    if type(value) in (tuple, list):
        return type(value)(_expanded(one) for one in value)
    if isinstance(value, Mapping):
        return {key: _expanded(one) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _expanded(getattr(value, f.name)) for f in fields(value) if f.init})
    return value


def joined(args: Sequence[str], commands: Any) -> list[str]:
    """`args` with all values of a repeated list flag behind one mention of it, where argparse would keep the last only.

    `commands` is the union of subcommands that `args` choose from.
    """
    flags = [_split(arg)[0] for arg in args]
    lists = {f"--{name.replace('_', '-')}" for name in _list_fields(args, commands)}
    repeated = {flag: [flag] for flag in flags if flag in lists and flags.count(flag) > 1}
    rest: list[str] = []
    current = rest
    for arg, flag in zip(args, flags, strict=True):
        if flag in repeated:
            value = _split(arg)[1]
            current = repeated[flag] if value is None else rest  # nothing else belongs to `--flag=value`
            repeated[flag] += [] if value is None else [value]
        else:
            current = rest if flag is not None else current
            current.append(arg)
    return rest + [part for parts in repeated.values() for part in parts]


def _split(arg: str) -> tuple[str | None, str | None]:
    """(flag, value) of `--flag` and `--flag=value`; (None, None) for what is a value."""
    if not arg.startswith("-") or _NUMBER.fullmatch(arg):
        return None, None
    flag, equals, value = arg.partition("=")
    return f"--{flag.lstrip('-').replace('_', '-')}", value if equals else None


def _list_fields(args: Sequence[str], commands: Any) -> list[str]:
    """Names of the fields of the chosen subcommand that take any number of values."""
    for name in args:
        chosen = [get_args(member)[0] for member in get_args(commands) if _name(member) == name]
        if not chosen:
            return []
        hints = get_type_hints(chosen[0])
        if "command" not in hints:
            return [key for key, hint in hints.items() if get_origin(hint) is tuple]
        commands = get_type_hints(chosen[0], include_extras=True)["command"]
    return []


def _name(member: Any) -> str | None:
    """How the command line calls a member of a union of subcommands."""
    return next((one.name for one in get_args(member)[1:] if hasattr(one, "name")), None)
