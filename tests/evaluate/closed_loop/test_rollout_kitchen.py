"""The real simulator behind the loop: the expert succeeds through it, doing nothing fails, and both are repeatable.

Everything is driven in worker processes, so that this one opens no OpenGL context beside those of other tests.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("robosuite") is None:
    pytest.skip("closed loop in the kitchen needs the sim extra", allow_module_level=True)

from svms_gr00t.cli.main import main
from svms_gr00t.core.protocols import Environment, Factory
from svms_gr00t.evaluate.closed_loop.result import RolloutConfig, RolloutResult
from svms_gr00t.evaluate.closed_loop.rollout import rollout
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.tasks.suites import TASKS

KITCHEN = Factory(path="kitchen_policies:kitchen")
EXPERT, NOTHING = Factory(path="kitchen_policies:Scripted"), Factory(path="kitchen_policies:NoOp")


def test_the_kitchen_satisfies_the_protocol():
    methods = {name for name in vars(Environment) if not name.startswith("_")}
    assert methods == {"reset", "step", "close"}
    assert all(callable(getattr(KitchenEnv, name)) for name in methods)


@pytest.mark.slow
def test_doing_nothing_never_succeeds_is_noticed_and_repeats():
    config = RolloutConfig(tasks=tuple(TASKS)[:4], episodes=1, horizon=48, max_errors=0)
    result = rollout(NOTHING, KITCHEN, config, workers=2)
    assert result.overall.successes == 0
    assert {r.ending for r in result.rollouts} == {"horizon"}
    assert result.overall.stuck == 4, "an arm at rest is stuck"
    assert len({r.seed for r in result.rollouts}) == 4
    assert rollout(NOTHING, KITCHEN, config, workers=1) == result


@pytest.mark.slow
def test_the_expert_succeeds_through_the_loop():
    """Its actions go through keys, assembly and thresholds: one element out of place and it would fail."""
    horizons = {name: task.horizon for name, task in TASKS.items()}
    config = RolloutConfig(
        tasks=tuple(TASKS), episodes=2, n_action_steps=1, horizons=horizons, videos=1, video_stride=8, max_errors=0
    )
    result = rollout(EXPERT, KITCHEN, config, name="expert", workers=2)
    assert result.overall.rate.low > 0.7, [(r.task, r.ending) for r in result.rollouts]
    assert all(len(r.video) > 1000 for r in result.rollouts if r.index == 0)


@pytest.mark.slow
@pytest.mark.parametrize(("given", "steps"), [(("--horizon", "3"), {3}), ((), {TASKS["CloseDrawer"].horizon})])
def test_the_horizon_is_the_tasks_own_unless_given(given: tuple[str, ...], steps: set[int], tmp_path: Path) -> None:
    out, page = tmp_path / "result.json", tmp_path / "page.html"
    words = ["evaluate", "rollout", "--checkpoint", str(shipped("tiny_base")), "--tasks", "CloseDrawer"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--episodes", "1", "--workers", "2", "--output", str(out), "--html", str(page), *given])
    assert stopped.value.code == 0
    assert '<th scope="row">CloseDrawer</th>' in page.read_text()
    result = RolloutResult.load(out)
    assert {result.config.horizon_of(task) for task in result.config.tasks} == steps
    assert {r.steps for r in result.rollouts} <= set(range(max(steps) + 1))
    assert given == () or {r.ending for r in result.rollouts} == {"horizon"}
