"""The demo, interrupted in every stage and run again, ends with the numbers of a run that was left alone."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from report_sample import sample
from safetensors.torch import load_file

from svms_gr00t.cli.demo import Demo as Command
from svms_gr00t.cli.main import main, parse
from svms_gr00t.consistency.file import check, load
from svms_gr00t.core.provenance import commit
from svms_gr00t.groot.checkpoint.loading import read_config
from svms_gr00t.policy import Policy
from svms_gr00t.recipes.demo.config import POLICIES, DemoConfig, DemoSuite
from svms_gr00t.recipes.demo.report import summary_lines
from svms_gr00t.recipes.demo.run import Demo
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.budget import TINY

STAGES = ("checking episodes", "plain: specialise", "svms: couple", "open loop: svms")


class CtrlC:
    """Progress that presses Ctrl-C after the first step of one job."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.pressed = False

    @contextmanager
    def task(self, title: str, total: int) -> Iterator["CtrlC"]:
        self.current = title
        yield self

    def advance(self, steps: int = 1) -> None:
        if steps and self.current == self.title:
            self.pressed = True
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        pass


@pytest.fixture(scope="module")
def config(small_kitchen: Path) -> DemoConfig:
    """A demo of seconds, with memory."""
    short = {"steps": (2, 2, 2), "rollouts": 0, "batch_size": 8, "memory_frames": 2}
    return DemoConfig(dataset_path=str(small_kitchen), **short)


@pytest.fixture(scope="module")
def alone(config: DemoConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo nobody interrupted."""
    folder = tmp_path_factory.mktemp("demo") / "alone"
    Demo(config, folder).run()
    return folder


@pytest.mark.whole
def test_interrupted_in_every_stage_equals_left_alone(config: DemoConfig, alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    for stage in STAGES:
        progress = CtrlC(stage)
        with pytest.raises(KeyboardInterrupt):
            Demo(config, folder, progress).run()
        assert progress.pressed, stage
    Demo(config, folder).run()
    for name in POLICIES:
        file = f"open_loop_{name}.json"
        assert (folder / file).read_text() == (alone / file).read_text()
        ours, theirs = (load_file(root / name / "policy" / "model.safetensors") for root in (folder, alone))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.whole
def test_another_seed_gives_other_numbers(config: DemoConfig, alone: Path, tmp_path: Path) -> None:
    """Else the equality above would say nothing."""
    Demo(replace(config, seed=1), tmp_path / "demo").run()
    for name in POLICIES:
        file = f"open_loop_{name}.json"
        assert (tmp_path / "demo" / file).read_text() != (alone / file).read_text()


def test_too_few_episodes_for_a_monitor_are_named_and_stop_nothing(
    config: DemoConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    demo = Demo(replace(config, monitor_alpha=0.02), tmp_path / "demo")
    assert demo._monitor(demo._experiment(None)) is None
    assert "51 held-out episodes or more" in caplog.text
    assert Demo(replace(config, monitor_steps=0), tmp_path / "demo")._monitor(demo._experiment(None)) is None


@pytest.mark.slow
def test_one_monitor_watches_both_policies(tmp_path: Path) -> None:
    short = {"steps": (1, 1, 1), "rollouts": 1, "batch_size": 4, "memory_frames": 2, "monitor_steps": 20}
    data = Demo(DemoConfig(**short), tmp_path / "demo").run()
    for result in data.closed_loop:
        for driven in result.rollouts:
            assert [look.step for look in driven.sensors] == list(range(0, driven.steps, 8))
    thresholds = {look.threshold for r in data.closed_loop for one in r.rollouts for look in one.sensors}
    assert len(thresholds) == 1
    monitor = load(tmp_path / "demo" / "monitor.safetensors")
    for policy in policies(tmp_path / "demo"):
        check(monitor.facts, Policy.from_pretrained(policy))  # raises for another backbone


@pytest.mark.parametrize("suite", ["memory", "single"])
def test_the_recorded_command_gives_the_same_settings_again(suite: DemoSuite) -> None:
    for changes in ({"dataset_path": "my/data", "base": "none", "seed": 4, "rollouts": 0}, {}):
        config = DemoConfig.of(suite, **changes)
        command = parse(config.command().split()[1:])
        assert isinstance(command, Command)
        assert command.config() == config
        assert config != DemoConfig.of("single" if suite == "memory" else "memory", **changes)
    assert DemoConfig().command() == "svms-gr00t demo"
    assert DemoConfig.of("single").command() == "svms-gr00t demo --suite single"
    assert "batch_size = 8" in DemoConfig(batch_size=8).command()


def test_svms_alone_remembers_and_both_read_one_cache_of_the_same_backbone(alone: Path, config: DemoConfig) -> None:
    plain, svms = (read_config(alone / name / "policy") for name in ("plain", "svms"))
    assert (plain.remembered, svms.remembered) == ((), config.offsets)
    assert config.offsets == (-16, -8)
    assert len(list((alone / "features").glob("**/key.json"))) == 1
    base, *trained = (load_file(f / "model.safetensors") for f in (shipped("memory_base"), *policies(alone)))
    frozen = [name for name in base if name.startswith("backbone.")]
    assert all(one[name].equal(base[name].to(one[name].dtype)) for one in trained for name in frozen)
    assert not any(all(one[name].equal(base[name].to(one[name].dtype)) for name in base) for one in trained)


def policies(root: Path) -> list[Path]:
    return [root / name / "policy" for name in POLICIES]


def test_without_memory_the_top_of_the_language_model_trains_as_before() -> None:
    assert [phase.llm_share for phase in DemoConfig().phases()] == [0.0, 0.0, 0.0]
    single = DemoConfig.of("single")
    assert [phase.llm_share for phase in single.phases()] == [0.0, 0.0, 0.25]
    assert single.budget() == TINY
    assert "memory_offsets" not in single.svms()


@pytest.mark.whole
def test_the_single_demo_runs(small_kitchen: Path, tmp_path: Path) -> None:
    short = {"steps": (1, 1, 1), "rollouts": 0, "batch_size": 4}
    data = Demo(DemoConfig.of("single", dataset_path=str(small_kitchen), **short), tmp_path / "demo").run()
    assert data.summary[0] == "Closed loop, episodes won: not measured."
    assert not (tmp_path / "demo" / "features").exists()
    assert read_config(tmp_path / "demo" / "svms" / "policy").remembered == ()


def test_the_passport_names_the_commit_that_ran() -> None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout
    found = commit()
    assert found is not None
    assert head.startswith(found.removesuffix("+changes"))


def test_without_the_simulator_the_demo_says_so_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "robosuite", None)  # what the import system says of a package that is not there
    with pytest.raises(SystemExit) as done:
        main(["demo", "--output-dir", str(tmp_path / "demo")])
    assert done.value.code == 2
    assert "--rollouts 0 does without" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_the_first_line_says_who_won_how_often() -> None:
    data = sample(episodes=2)
    open_loop, closed_loop = ({r.policy: r for r in results} for results in (data.open_loop, data.closed_loop))
    lines = summary_lines(SimpleNamespace(gates=data.gates), open_loop, closed_loop, True)  # type: ignore[arg-type]
    for name, result in closed_loop.items():
        assert f"{name} {result.overall.successes} of {result.overall.episodes} (" in lines[0]
    assert summary_lines(SimpleNamespace(gates=()), open_loop, {}, None)[0].endswith("not measured.")  # type: ignore[arg-type]
