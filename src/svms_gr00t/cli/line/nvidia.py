"""NVIDIA's lines for GR00T N1.6, pasted behind the local command: `launch_finetune.py`, `open_loop_eval.py`,
`rollout_policy.py` and `run_gr00t_server.py`.

Most of their flags are ours. A flag that means the same by another name is renamed; one that changes nothing here is
said to and left out; one that would have to change the result is refused, with what to write instead.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from svms_gr00t.cli.line.spelling import Chosen, is_flag, key
from svms_gr00t.core.errors import ConfigError

Told = tuple[str, str]
"""(what is needed, what to write instead)."""
PHASES = "Phases say what trains: 1 SVMS, 2 also DiT blocks, 3 the DiT, projectors and the top 4 language layers"
HELD = "The episodes that the run did not train on are judged; --plots N draws the first N of them"
_LOADS = ("a checkpoint that this command loads", "--model-path CHECKPOINT; svms-gr00t serve is for clients elsewhere")
_TASK, _ENV = "robocasa_panda_omron/", "_PandaOmron_Env"


@dataclass(frozen=True, kw_only=True)
class _Given:
    """A flag with its words."""

    flag: str
    words: list[str]
    typed: list[str]
    """All of it as it was typed."""

    @property
    def value(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """What is known of one of their scripts."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """Their field -> ours."""
    idle: Mapping[str, str] = field(default_factory=dict)
    """Flags without an effect here, and why."""
    refused: Mapping[str, Told] = field(default_factory=dict)
    """Flags that cannot be honoured."""
    fixed: Mapping[str, tuple[float, Told]] = field(default_factory=dict)
    """Flags of which one value is what happens anyway."""
    special: Mapping[str, Callable[[_Given, Sequence[_Given]], list[str]]] = field(default_factory=dict)
    """Flags that become several of ours, or depend on others: (the flag, the whole line) -> our words."""


def _check_fixed(one: _Given, same: float, told: Told) -> None:
    try:
        fine = float(one.value) == same
    except ValueError:
        fine = False
    if not fine:
        raise ConfigError(one.flag, got=one.value, want=told[0], hint=told[1])


def _tune(one: _Given, given: Sequence[_Given]) -> list[str]:
    """The projectors and the DiT train in phase 3."""
    phases = next((other.words for other in given if key(other.flag) == "phase"), ["3"])
    if "3" not in phases:
        raise ConfigError(one.flag, got=f"--phase {' '.join(phases)}", want="phase 3 too", hint=PHASES)
    return []


def _gpus(one: _Given, _given: Sequence[_Given]) -> list[str]:
    """As many as processes were started."""
    here = os.environ.get("WORLD_SIZE", "1")
    if one.value != here:
        line = f"accelerate launch --multi-gpu --num-processes {one.value} -m svms_gr00t train ..."
        want = f"{here}, the processes that were started"
        raise ConfigError(one.flag, got=one.value, want=want, hint=f"Start more: {line}")
    return []


def _environment(one: _Given, _given: Sequence[_Given]) -> list[str]:
    """`--env-name robocasa_panda_omron/OpenDrawer_PandaOmron_Env` is a task of --benchmark n1d6."""
    name = one.value
    if not (name.startswith(_TASK) and name.endswith(_ENV)):
        hint = "Other simulators: --benchmark kitchen, robocasa365 or libero, and --tasks"
        raise ConfigError(one.flag, got=name, want=f"{_TASK}TASK{_ENV}", hint=hint)
    return ["--benchmark", "n1d6", "--tasks", name.removeprefix(_TASK).removesuffix(_ENV)]


def _plot(one: _Given, _given: Sequence[_Given]) -> list[str]:
    """A picture of the first held-out episode, in the folder of theirs."""
    return ["--plots", "1", "--plot-dir", os.path.dirname(one.value) or "."]


def _groups(args: Sequence[str]) -> list[_Given]:
    found: list[_Given] = []
    for arg in args:
        if is_flag(arg) or not found:
            flag, equals, value = arg.partition("=") if is_flag(arg) else ("", "=", arg)
            found.append(_Given(flag=flag, words=[value] if equals else [], typed=[arg]))
        else:
            found[-1].words.append(arg)
            found[-1].typed.append(arg)
    return found


TRAIN = Lines(
    idle={
        "shard_size": "batches are drawn evenly from all steps, without shards",
        "num_shards_per_epoch": "batches are drawn evenly from all steps, without shards",
        "episode_sampling_rate": "batches are drawn evenly from all steps, without shards",
        "video_backend": "clips are read by PyAV",
        "no_tune_visual": "no phase trains the vision tower",
        "no_use_wandb": "nothing is tracked but metrics.jsonl unless --tracker names something",
    },
    refused={
        "tune_llm": ("--phase", f"{PHASES}: leave it out"),
        "no_tune_llm": ("--phase 1 2", PHASES),
        "tune_visual": ("--tune-vision-projector, which comes nearest", PHASES),
        "no_tune_projector": ("--phase 1 2", PHASES),
        "no_tune_diffusion_model": ("--phase 1", PHASES),
    },
    fixed={
        "weight_decay": (1e-5, ("1e-5, what N1.6 itself takes", "Leave it out")),
        "warmup_ratio": (0.05, ("0.05 of every phase, what N1.6 itself takes", "Leave it out")),
        "state_dropout_prob": (0.0, ("the base's own", "Set state_dropout_prob in the base's config.json")),
    },
    special={
        "use_wandb": lambda _one, _given: ["--tracker", "wandb"],
        "num_gpus": _gpus,
        "tune_projector": _tune,
        "tune_diffusion_model": _tune,
    },
)
OPEN_LOOP = Lines(
    idle={
        "steps": "whole episodes are judged, every --stride steps",
        "action_horizon": "whole chunks are judged, step by step, and their first 8 steps apart",
        "execution_horizon": "whole chunks are judged, step by step, and their first 8 steps apart",
        "modality_keys": "every action key is shown",
    },
    refused={
        "traj_ids": ("held-out episodes", f"{HELD}: leave it out"),
        "host": _LOADS,
        "port": _LOADS,
    },
    fixed={"denoising_steps": (4.0, ("the checkpoint's own", "Set num_inference_timesteps in its config.json"))},
    special={"save_plot_path": _plot},
)
ROLLOUT = Lines(
    renamed={"n_episodes": "episodes", "n_envs": "workers", "max_episode_steps": "horizon"},
    refused={"policy_client_host": _LOADS, "policy_client_port": _LOADS},
    special={"env_name": _environment},
)
SERVE = Lines(
    renamed={"execution_horizon": "n_action_steps"},
    idle={
        "use_sim_policy_wrapper": "flat and nested observations are both understood",
        "strict": "requests are always checked",
        "modality_config_path": "the checkpoint's processor_config.json says what the robot sees",
    },
    refused={
        "no_strict": ("checked requests", "An answer says what is wrong with a request; leave it out"),
        "dataset_path": ("a policy", "To see recorded actions: svms-gr00t evaluate open-loop --plots 1, or data show"),
    },
)
SCRIPTS = {("train",): TRAIN, ("evaluate", "open-loop"): OPEN_LOOP, ("evaluate", "rollout"): ROLLOUT, ("serve",): SERVE}


def ours(args: Sequence[str], found: Chosen) -> tuple[list[str], list[str]]:
    """The line in our words, and what to say of the flags that change nothing.

    Raises ConfigError for flags that cannot be honoured.
    """
    if (script := SCRIPTS.get(found.words)) is None:
        return list(args), []
    line, notes, given = list(found.words), list[str](), _groups(args[len(found.words) :])
    for one in given:
        name = key(one.flag)
        if name in found.flags:
            line += one.typed
        elif name in script.renamed:
            line += [f"--{script.renamed[name].replace('_', '-')}", *one.words]
        elif name in script.idle:
            notes.append(f"{one.flag} changes nothing here: {script.idle[name]}")
        elif name in script.refused:
            want, hint = script.refused[name]
            raise ConfigError(one.flag, got=one.value or True, want=want, hint=hint)
        elif name in script.fixed:
            _check_fixed(one, *script.fixed[name])
        elif name in script.special:
            line += script.special[name](one, given)
        else:
            line += one.typed
    return line, notes
