"""The kitchen as gymnasium knows environments: by name, with spaces, one form, several at a time."""

import subprocess
import sys
import warnings
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import svms_gr00t.sim  # noqa: F401 - names the kitchen
from svms_gr00t.core.protocols import INSTRUCTION
from svms_gr00t.sim.env import KitchenEnv
from svms_gr00t.sim.tasks.suites import SUITES, TASKS

NAME = "svms_gr00t/Kitchen-v0"


@pytest.fixture(scope="module")
def made() -> Iterator[gymnasium.Env]:
    env = gymnasium.make(NAME, image_size=32, render_mode="rgb_array")
    yield env
    env.close()


def test_gymnasiums_own_checker_has_nothing_to_say(made: gymnasium.Env, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(made.unwrapped)
    made.reset(seed=0)
    assert made.render().shape == (32, 96, 3)

    env = made.unwrapped
    assert isinstance(env, KitchenEnv)
    honest = env._observation
    monkeypatch.setattr(env, "_observation", lambda: honest() | {"state.gripper_qpos": np.zeros(2)})
    with pytest.raises(AssertionError, match="reset"):  # float64 where the space says float32
        check_env(env, skip_render_check=True)


def test_the_limit_of_steps_is_that_of_the_longest_task(made: gymnasium.Env) -> None:
    assert made.spec is not None
    assert made.spec.max_episode_steps == max(task.horizon for task in TASKS.values())
    memory = gymnasium.spec("svms_gr00t/KitchenMemory-v0")
    assert memory.max_episode_steps == max(task.horizon for task in SUITES["memory"].values())
    short = gymnasium.wrappers.TimeLimit(made.unwrapped, max_episode_steps=2)
    short.reset(seed=0)
    still = np.zeros(12, np.float32)
    assert [short.step(still)[2:4] for _ in range(2)] == [(False, False), (False, True)]


def test_without_a_task_the_seed_draws_one_and_a_default_wins_over_it(made: gymnasium.Env) -> None:
    env = made.unwrapped
    assert isinstance(env, KitchenEnv)
    env.drawing = False
    names = [env.reset(seed=seed)[1]["task"] for seed in range(8)]
    assert [env.reset(seed=seed)[1]["task"] for seed in range(8)] == names
    assert len(set(names)) > 3
    env.reset(seed=5)
    first = [env.reset()[1] for _ in range(4)]
    env.reset(seed=5)
    assert [env.reset()[1] for _ in range(4)] == first, "without seeds the first one leads on"
    env._default = {"task": "PickFood", "split": "paraphrase"}
    assert {env.reset(seed=seed)[1]["task"] for seed in range(4)} == {"PickFood"}
    assert not any(p.format(target=env.target) == env.instruction for p in TASKS["PickFood"].phrasings)
    assert env.reset(seed=0, options={"task": "OpenDrawer"})[1]["task"] == "OpenDrawer"
    env._default, env.drawing = {"task": None, "split": "train"}, True


def test_a_suite_draws_its_own_tasks() -> None:
    env = gymnasium.make("svms_gr00t/KitchenMemory-v0", image_size=32).unwrapped
    assert isinstance(env, KitchenEnv)
    env.drawing = False
    names = {env.reset(seed=seed)[1]["task"] for seed in range(12)}
    env.close()
    assert names <= set(SUITES["memory"])
    assert len(names) > 3


def test_success_is_rewarded_and_ends_the_episode(made: gymnasium.Env) -> None:
    from svms_gr00t.sim.experts.expert import Expert

    env = made.unwrapped
    assert isinstance(env, KitchenEnv)
    env.drawing = False
    env.reset(seed=1000, options={"task": "CloseDrawer"})
    expert, steps = Expert(env, 1000), []
    while not steps or not steps[-1][1]:
        steps.append(env.step(expert.act().astype(np.float32))[1:])
        assert len(steps) < 120
    env.drawing = True
    assert steps[-1] == (1.0, True, False, {"success": True, "stage": "done"})
    assert set(map(str, steps[:-1])) == {str((0.0, False, False, {"success": False, "stage": "under way"}))}


@pytest.mark.slow
@pytest.mark.parametrize("context", ["spawn", "fork"])
def test_several_at_a_time_are_those_one_by_one(context: str, made: gymnasium.Env) -> None:
    """Pictures, states and words, which gymnasium's shared memory alone would leave as they were at the start."""
    code = f"""
import gymnasium, numpy as np, svms_gr00t.sim
if __name__ == "__main__":
    vector = {{"context": {context!r}}}
    envs = gymnasium.make_vec({NAME!r}, num_envs=2, vectorization_mode="async", vector_kwargs=vector, image_size=32)
    first, info = envs.reset(seed=[3, 4], options={{"task": "CloseDrawer"}})
    for _ in range(3):
        seen, *_ = envs.step(np.full((2, 12), 0.3, np.float32))
    assert type(seen[{INSTRUCTION!r}]) is tuple
    words = seen[{INSTRUCTION!r}]
    other, _ = envs.reset(seed=[5, 6], options={{"task": "PickFood"}})
    assert seen[{INSTRUCTION!r}] == words, "a copy stays what it was"
    print(*words, *other[{INSTRUCTION!r}], sep="|")
    print(int(seen["video.res256_image_side_0"].astype(int).sum()), seen["state.gripper_qpos"].tobytes().hex())
    envs.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if context == "spawn" and "can't find" in done.stderr.lower():
        pytest.skip("this interpreter cannot spawn from -c")
    assert done.returncode == 0, done.stderr
    env, words, states, pixels = made.unwrapped, [], b"", 0
    for task, seeds in (("CloseDrawer", (3, 4)), ("PickFood", (5, 6))):
        for seed in seeds:
            seen, _ = env.reset(seed=seed, options={"task": task})
            words.append(seen[INSTRUCTION])
            if task == "CloseDrawer":
                for _ in range(3):
                    seen, *_ = env.step(np.full(12, 0.3, np.float32))
                states += seen["state.gripper_qpos"].tobytes()
                pixels += int(seen["video.res256_image_side_0"].astype(int).sum())
    assert done.stdout.split("\n")[0] == "|".join(words)
    assert done.stdout.split("\n")[1].split()[1] == states.hex()
    assert abs(int(done.stdout.split("\n")[1].split()[0]) - pixels) < 1e-3 * pixels  # renderers may round otherwise


@pytest.mark.whole
def test_importing_the_package_does_not_import_gymnasium() -> None:
    code = "import sys, svms_gr00t, svms_gr00t.policy; assert 'gymnasium' not in sys.modules; import svms_gr00t.sim; "
    code += "import gymnasium; assert 'svms_gr00t/Kitchen-v0' in gymnasium.registry; assert 'mujoco' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_gymnasium_one_sentence_says_so() -> None:
    code = """
import sys
sys.modules["gymnasium"] = None
import svms_gr00t.sim, svms_gr00t.sim.tasks
try:
    import svms_gr00t.sim.robocasa
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ConfigError simulator = 'no module gymnasium'" in done.stdout
    assert "svms-gr00t[sim]" in done.stdout
