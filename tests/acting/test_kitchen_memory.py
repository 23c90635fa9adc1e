"""A saved policy with memory drives the kitchen: as itself, remembering nothing, or remembering another's past."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from svms_gr00t.cli.main import main
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.groot.checkpoint.loading import read_config
from svms_gr00t.model import Gr00tN1d6
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.shipped import shipped

OFFSETS = (-16, -8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base, size = shipped("tiny_base"), {"d_stream": 32, "d_overlap": 16, "adapter_rank": 4}
    config = replace(read_config(base), use_sheaf_streams=True, memory_offsets=OFFSETS, **size)
    torch.manual_seed(0)
    model = Gr00tN1d6.from_pretrained(base, config=config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.svms.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Policy(model, Processor.load(base)).save_pretrained(tmp_path_factory.mktemp("memory") / "policy")


@pytest.mark.slow
def test_controls_drive_the_same_scenes_and_remember_something_else(checkpoint: Path) -> None:
    pytest.importorskip("robosuite")
    from svms_gr00t.core.protocols import Factory
    from svms_gr00t.evaluate.closed_loop.rollout import rollout
    from svms_gr00t.recipes.benchmarks.closed_loop import HERE, kitchen_rules, saved_policy

    rules = replace(kitchen_rules(("OpenDrawer",), episodes=1, seed=3), horizon=20, horizons={})
    env = Factory(path=f"{HERE}:build_kitchen", kwargs={"image_size": 64})
    lent = {"dataset": str(shipped("kitchen")), "episodes": [0, 9]}
    ways = {"own": {}, "wiped": {"memory": "wiped"}, "swapped": {"memory": "swapped"} | lent}
    found = {
        # In a process of its own: no OpenGL context of this one stands beside those of other tests.
        name: rollout(saved_policy(checkpoint, **way), env, rules, workers=2).rollouts[0]
        for name, way in ways.items()
    }
    assert [one.error for one in found.values()] == [None] * 3
    said = {name: [replan.rho for replan in one.replans] for name, one in found.items()}
    assert [step.step for step in found["own"].replans] == [0, 8, 16]
    for name in ("wiped", "swapped"):
        assert said[name][0] == said["own"][0], "nothing came before the first step"
        assert said[name][1] != said["own"][1]
    assert said["wiped"][1] != said["swapped"][1]


@pytest.mark.parametrize(
    "command",
    [["evaluate", "rollout", "--checkpoint"], ["serve", "--port", "0", "--model-path"]],
    ids=["rollout", "serve"],
)
def test_steps_that_do_not_fit_the_stride_are_one_sentence(
    checkpoint: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("robosuite")
    with pytest.raises(SystemExit, match="2"):
        main([*command, str(checkpoint), "--n-action-steps", "5"])
    error = " ".join(capsys.readouterr().err.split())
    assert "= 5, but need a divisor of the memory's stride, 8 steps" in error
    assert "demonstrations" not in error, "before anything runs"
