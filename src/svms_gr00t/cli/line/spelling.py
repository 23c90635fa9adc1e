"""One spelling everywhere: a word that is almost a command gets a suggestion, and a flag has the same name in all.

svms-gr00t trian                      did you mean train
svms-gr00t evaluate open-loop         --checkpoint is the older name of --model-path, --base of --base-model-path
svms-gr00t data doctor --dataset-path D      what stands without a flag may be named all the same
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_type_hints

import tyro

from svms_gr00t.core.errors import ConfigError

PresetName = Literal["tiny", "n1d6"]
"""Model sizes that complete in a shell; the same as `recipes.training.presets.PRESETS`."""
OLDER = {
    "checkpoint": "model_path",
    "path": "model_path",
    "model": "model_path",
    "base": "base_model_path",
    "dataset": "dataset_path",
    "batch_size": "global_batch_size",
    "steps": "max_steps",
    "output": "output_dir",
}
"""Names that mean another, where a command has the other and not this one."""
HELP = "svms-gr00t --help"


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The subcommand that a command line asks for."""

    words: tuple[str, ...]
    """What chooses it: ("evaluate", "open-loop")."""
    kind: type
    """Its dataclass."""

    @property
    def flags(self) -> dict[str, bool]:
        """Field -> whether it stands without a flag."""
        hints = get_type_hints(self.kind, include_extras=True)
        bare = tyro.conf.Positional
        return {f.name: bare in getattr(hints[f.name], "__metadata__", ()) for f in fields(self.kind) if f.init}


def members(commands: Any) -> dict[str, type]:
    """What a union of subcommands offers, by name."""
    found: dict[str, type] = {}
    for member in get_args(commands):
        kind, *how = get_args(member)
        found |= {one.name: kind for one in how if getattr(one, "name", None)}
    return found


def chosen(args: Sequence[str], commands: Any) -> Chosen | None:
    """The subcommand; None where a flag (--help) or nothing stands in its place.

    Raises ConfigError, with a suggestion, for a word that is no command.
    """
    words: tuple[str, ...] = ()
    while True:
        known, word = members(commands), args[len(words)] if len(words) < len(args) else "--help"
        if word.startswith("-"):
            return None
        if word not in known:
            close = get_close_matches(word, known, n=1, cutoff=0.5)
            line = " ".join(("svms-gr00t", *words, *close))
            hint = f"Did you mean: {line}" if close else f"See {HELP}"
            raise ConfigError(" ".join(("svms-gr00t", *words)), got=word, want=f"one of {', '.join(known)}", hint=hint)
        kind, words = known[word], (*words, word)
        hints = get_type_hints(kind, include_extras=True)
        if "command" not in hints:
            return Chosen(words=words, kind=kind)
        commands = hints["command"]


def spelled(args: Sequence[str], found: Chosen) -> list[str]:
    """`args` in the spelling of the command: older names replaced, and named positionals put in their place."""
    flags, rest, named = found.flags, list[str](), dict[str, str]()
    words = iter(args[len(found.words) :])
    for word in words:
        flag, equals, value = word.partition("=") if is_flag(word) else ("", "", "")
        name = key(flag)
        if flag and name not in flags and OLDER.get(name) in flags:
            name = OLDER[name]
            word = f"--{name.replace('_', '-')}{equals}{value}"
        if flag and flags.get(name):
            named[name] = value if equals else next(words, "")
        else:
            rest.append(word)
    return [*found.words, *_placed(rest, named, [name for name, bare in flags.items() if bare])]


def _placed(rest: list[str], named: dict[str, str], bare: list[str]) -> list[str]:
    """The words of a command, each named positional after those that come before it."""
    head, at = list[str](), 0
    for name in bare:
        if name in named:
            head.append(named[name])
        elif at < len(rest) and not is_flag(rest[at]):
            head.append(rest[at])
            at += 1
    return head + rest[at:]


def is_flag(word: str) -> bool:
    """Whether a word is a flag and no value: -0.5 is a number."""
    return word.startswith("-") and not re.fullmatch(r"-[\d.].*", word)


def key(flag: str) -> str:
    """Field name of a flag in either spelling."""
    return flag.lstrip("-").replace("-", "_")
