"""What `accelerate launch` says about processes is followed; what it says about training is not, and is named."""

import json
import os
import subprocess
import sys
from argparse import Namespace

import pytest
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from svms_gr00t.core.errors import ConfigError
from svms_gr00t.train.processes.start import cluster, not_used

PROBE = """
import json, sys, torch
from torch import nn
from svms_gr00t.train.processes.cluster import Accelerated
here = Accelerated()
torch.manual_seed(0)
plain, x = nn.Linear(64, 64), torch.randn(8, 64)
said = plain(x)
said.square().mean().backward()
wanted = plain.weight.grad.clone()
plain.weight.grad = None
wrapped = here.wrap(plain)
casts = []
plain.register_forward_hook(lambda *_: casts.append(torch.is_autocast_enabled("cpu")))
out = wrapped(x)
here.backward(out.square().mean())
print(json.dumps({"cast": casts, "same": torch.equal(out, said), "gradient": torch.equal(plain.weight.grad, wanted),
    "compiled": type(wrapped).__name__ == "OptimizedModule"}))
"""


def launched(*flags: str) -> dict[str, str]:
    """The environment that this very `accelerate launch` would set."""
    args: Namespace = launch_command_parser().parse_args(["--multi_gpu", "--num_processes", "2", *flags, "train.py"])
    args.mixed_precision, args.dynamo_backend = args.mixed_precision or "no", args.dynamo_backend or "no"
    args.num_machines, args.same_network = args.num_machines or 1, True
    before = dict(os.environ)
    env: dict[str, str] = prepare_multi_gpu_env(args)
    return {name: value for name, value in env.items() if before.get(name) != value}


@pytest.mark.parametrize(
    "env",
    [
        {"ACCELERATE_MIXED_PRECISION": "bf16"},
        pytest.param({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, marks=pytest.mark.whole),
        pytest.param({"ACCELERATE_DYNAMO_BACKEND": "EAGER"}, marks=pytest.mark.whole),
        pytest.param({}, marks=pytest.mark.whole),
    ],
    ids=["precision", "accumulation", "compiling", "nothing"],
)
def test_the_launcher_changes_neither_numbers_nor_precision(env: dict[str, str]) -> None:
    env = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"} | env
    done = subprocess.run([sys.executable, "-c", PROBE], env=env, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said == {"cast": [False], "same": True, "gradient": True, "compiled": False}


def test_settings_that_are_not_followed_are_named_and_nothing_else() -> None:
    assert not_used(launched()) == []
    assert not_used(launched("--use_fsdp", "--fsdp_version", "2")) == []
    assert not_used(launched("--mixed_precision", "bf16")) == ["ACCELERATE_MIXED_PRECISION=bf16 (--precision decides)"]
    fsdp = ["--use_fsdp", "--fsdp_version", "2"]
    for flags, named in {
        ("--fsdp_offload_params", "true"): "FSDP_OFFLOAD_PARAMS=true",
        ("--fsdp_reshard_after_forward", "false"): "FSDP_RESHARD_AFTER_FORWARD=false",
        ("--fsdp_activation_checkpointing", "true"): "FSDP_ACTIVATION_CHECKPOINTING=true (--gradient-checkpointing",
        ("--fsdp_auto_wrap_policy", "SIZE_BASED_WRAP"): "FSDP_AUTO_WRAP_POLICY=SIZE_BASED_WRAP",
        ("--fsdp_transformer_layer_cls_to_wrap", "Block"): "FSDP_TRANSFORMER_CLS_TO_WRAP=Block",
        ("--fsdp_state_dict_type", "SHARDED_STATE_DICT"): "FSDP_STATE_DICT_TYPE=SHARDED_STATE_DICT",
    }.items():
        (line,) = not_used(launched(*fsdp, *flags))
        assert line.startswith(named)
    assert not_used({"FSDP_OFFLOAD_PARAMS": "true"}) == [], "nobody asked for FSDP"


def test_they_are_said_when_training_starts(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    cluster()
    assert [r.message for r in caplog.records] == [
        "accelerate launch: not used here: ACCELERATE_MIXED_PRECISION=fp16 (--precision decides)"
    ]
    caplog.clear()
    monkeypatch.setenv("RANK", "1")
    cluster()
    assert not caplog.records, "once, not by every process"


@pytest.mark.parametrize("name", ["ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_PARALLELISM_CONFIG"])
def test_other_kinds_of_parallelism_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, "true")
    with pytest.raises(ConfigError, match=name):
        cluster()
