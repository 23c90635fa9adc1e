"""Lines of Isaac-GR00T N1.6, pasted behind our commands, do what they say there or name what to write instead."""

import json
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from svms_gr00t.cli.line.nvidia import SCRIPTS
from svms_gr00t.cli.line.spelling import OLDER, PresetName, members
from svms_gr00t.cli.main import Commands, main, parse
from svms_gr00t.core.errors import ConfigError
from svms_gr00t.data.processor.embodiment import EMBODIMENT_IDS, known_tag
from svms_gr00t.recipes.modality_config import as_yaml, read_modality_config
from svms_gr00t.recipes.shipped import shipped
from svms_gr00t.recipes.training.experiment import Experiment
from svms_gr00t.recipes.training.presets import PRESETS

FINETUNE = """train --base-model-path nvidia/GR00T-N1.6-3B --dataset-path D --embodiment-tag NEW_EMBODIMENT
    --num-gpus 1 --output-dir /tmp/so100 --save-total-limit 5 --save-steps 2000 --max-steps 2000 --use-wandb
    --global-batch-size 32 --color-jitter-params brightness 0.3 contrast 0.4 saturation 0.5 hue 0.08
    --dataloader-num-workers 4 --modality-config-path examples/SO100/so100_config.py --tune-projector
    --tune-diffusion-model --no-tune-visual --weight-decay 1e-5 --warmup_ratio 0.05 --random-rotation-angle 5
    --state_dropout_prob 0 --shard-size 1024 --episode-sampling-rate 0.1"""
REGISTRY = """
from gr00t.configs.data.embodiment_configs import register_modality_config
from gr00t.data.types import ActionConfig, ActionFormat, ActionRepresentation, ActionType, ModalityConfig

ARM = ["arm", "gripper"]
config = {
    "video": ModalityConfig(delta_indices=[0], modality_keys=["front"]),
    "state": ModalityConfig(delta_indices=[0], modality_keys=ARM),
    "action": ModalityConfig(
        delta_indices=list(range(0, 8)),
        modality_keys=["arm"] + ["gripper"],
        action_configs=[
            ActionConfig(rep=ActionRepresentation.RELATIVE, type=ActionType.NON_EEF, format=ActionFormat.DEFAULT),
            ActionConfig(rep=ActionRepresentation.ABSOLUTE, type=ActionType.NON_EEF, format=ActionFormat.DEFAULT),
        ],
    ),
    "language": ModalityConfig(delta_indices=[0], modality_keys=["annotation.human.task_description"]),
}
register_modality_config(config, embodiment_tag=EmbodimentTag.NEW_EMBODIMENT)
"""


def parsed(line: str) -> Any:
    command: Any = parse(shlex.split(line))
    while hasattr(command, "command"):
        command = command.command
    return command


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(shlex.split(line))
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_their_training_line_says_the_same_here(capsys: pytest.CaptureFixture[str]) -> None:
    settings = parsed(FINETUNE).settings()
    assert settings.base_model_path == "nvidia/GR00T-N1.6-3B"
    assert settings.color_jitter_params == {"brightness": 0.3, "contrast": 0.4, "saturation": 0.5, "hue": 0.08}
    assert (settings.random_rotation_angle, settings.max_steps, settings.global_batch_size) == (5.0, (2000,), (32,))
    assert parsed(FINETUNE).tracker == ("wandb",)
    said = capsys.readouterr().err
    assert "--shard-size changes nothing here: batches are drawn evenly" in said
    assert "--no-tune-visual changes nothing here: no phase trains the vision tower" in said


@pytest.mark.parametrize(
    ("flag", "instead"),
    [
        ("--num-gpus 4", "accelerate launch --multi-gpu --num-processes 4 -m svms_gr00t train"),
        ("--tune-llm", "--phase"),
        ("--tune-visual", "--tune-vision-projector"),
        ("--no-tune-diffusion-model", "--phase 1"),
        ("--tune-diffusion-model --phase 1 2", "phase 3 too"),
        ("--weight-decay 0.01", "1e-5"),
        ("--state-dropout-prob 0.2", "config.json"),
        ("--color-jitter-params blur 0.3", "brightness, contrast, saturation, hue"),
    ],
)
def test_what_training_cannot_honour_names_the_local_way(
    flag: str, instead: str, small_kitchen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(f"train --dataset-path {small_kitchen} {flag}", capsys)
    assert flag.split()[0] in error
    assert instead in error
    assert len(error.strip().splitlines()) == 1


def test_as_many_gpus_as_processes_were_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert parsed("train --dataset-path D --num-gpus 4").dataset_path == ("D",)


def test_their_evaluation_and_server_lines(capsys: pytest.CaptureFixture[str]) -> None:
    judged = parsed(
        "evaluate open-loop --dataset-path D --embodiment-tag GR1 --model-path M --action-horizon 16 --steps 400 "
        "--save_plot_path /tmp/plots/a.jpeg"
    )
    assert (judged.model_path, judged.plots, judged.plot_dir) == (Path("M"), 1, Path("/tmp/plots"))
    driven = parsed(
        "evaluate rollout --n_episodes 10 --model_path M --max_episode_steps 720 --n_action_steps 8 --n_envs 5 "
        "--env_name robocasa_panda_omron/OpenDrawer_PandaOmron_Env"
    )
    assert (driven.episodes, driven.horizon, driven.workers, driven.n_action_steps) == (10, 720, 5, 8)
    assert (driven.benchmark, driven.tasks) == ("n1d6", ("OpenDrawer",))
    served = parsed("serve --model-path M --embodiment-tag ROBOCASA_PANDA_OMRON --use-sim-policy-wrapper --port 5555")
    assert (served.model_path, served.port) == ("M", 5555)
    assert "flat and nested" in capsys.readouterr().err
    assert "--plots N" in refused("evaluate open-loop --model-path M --dataset-path D --traj-ids 0 1", capsys)
    assert "--model-path" in refused("evaluate rollout --model-path M --policy-client-port 5555", capsys)
    assert "libero" in refused("evaluate rollout --model-path M --env-name libero_sim/x", capsys)


def test_one_spelling_for_every_command() -> None:
    """--model-path, --base-model-path and --dataset-path are the flags; older names and bare places mean them too."""
    for line in ("evaluate open-loop --checkpoint M --dataset-path D", "evaluate open-loop --model-path=M --dataset D"):
        assert (parsed(line).model_path, parsed(line).dataset_path) == (Path("M"), Path("D"))
    assert parsed("serve --checkpoint M").model_path == "M"
    for line in (
        "M --base B --output-dir O",
        "--model-path M --base-model-path=B --output O",
        "--output-dir O --path=M --base B",
    ):
        delta = parsed(f"checkpoint delta {line}")
        assert (delta.model_path, delta.base_model_path, delta.output_dir) == ("M", "B", Path("O"))
    for line in (
        "M D",
        "M --dataset-path D",
        "--dataset-path D --model-path M",
        "--alpha 0.1 --checkpoint M --dataset D",
    ):
        trained = parsed(f"monitor train {line}")
        assert (trained.model_path, trained.dataset_path) == ("M", "D")
    assert parsed("data doctor --dataset-path D --json").json is True
    every = {f for kind in kinds(Commands) for f in kind.__dataclass_fields__}
    assert not every & (OLDER.keys() - {"output", "batch_size"}), "an older name is a flag of its own somewhere"


def kinds(commands: Any) -> list[type]:
    found = []
    for kind in members(commands).values():
        deeper = getattr(kind, "__annotations__", {}).get("command")
        found += kinds(deeper) if deeper is not None else [kind]
    return found


def test_their_own_flags_are_never_taken_from_ours() -> None:
    """A flag that a command has itself is not translated away."""
    for words, script in SCRIPTS.items():
        kind: Any = Commands
        for word in words:
            kind = members(kind)[word] if kind is Commands else members(kind.__annotations__["command"])[word]
        known = {f.name for f in fields(kind)}
        assert not known & {*script.renamed, *script.idle, *script.refused, *script.fixed, *script.special}
        assert set(script.renamed.values()) <= known


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("trian --dataset-path D", "Did you mean: svms-gr00t train"),
        ("evaluate openloop", "Did you mean: svms-gr00t evaluate open-loop"),
        ("data convert hdf", "Did you mean: svms-gr00t data convert hdf5"),
        ("fly", "one of demo, train"),
    ],
)
def test_a_word_that_is_almost_a_command(line: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert meant in refused(line, capsys)


def test_the_version_and_the_presets_that_complete(capsys: pytest.CaptureFixture[str]) -> None:
    from svms_gr00t import __version__

    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert not stopped.value.code
    assert capsys.readouterr().out.strip() == f"svms-gr00t {__version__}"
    assert set(PresetName.__args__) == set(PRESETS)
    with pytest.raises(SystemExit):
        main(["--tyro-print-completion", "bash"])
    script = capsys.readouterr().out
    assert "complete" in script
    assert all(word in script for word in ("open-loop", "--base-model-path", "n1d6"))


def test_tags_in_capitals_are_the_same_robots(small_kitchen: Path) -> None:
    assert known_tag("ROBOCASA_PANDA_OMRON", EMBODIMENT_IDS) == "robocasa_panda_omron"
    assert known_tag("GR2", EMBODIMENT_IDS) == "GR2"
    assert known_tag("Mine", {"mine", "Mine"}) == "Mine"
    from svms_gr00t.data.processor.processor import Processor

    loaded = Processor.load(shipped("tiny_base"), embodiment_tag="ROBOCASA_PANDA_OMRON")
    assert loaded.config.embodiment_tag == "robocasa_panda_omron"
    new = Experiment.prepare(small_kitchen, embodiment_tag="NEW_EMBODIMENT")
    assert new.processor.config.embodiment_tag == "new_embodiment"


def test_their_python_registry_is_read_as_data_and_answered_with_yaml(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "robot.py").write_text(REGISTRY)
    robot = read_modality_config(tmp_path / "robot.py", "new_embodiment")
    assert robot.action.delta_indices == tuple(range(8))
    assert robot.action.modality_keys == ("arm", "gripper")
    assert [one.rep for one in robot.action.action_configs] == ["relative", "absolute"]
    told = caplog.text.split("as YAML:\n")[1]
    (tmp_path / "robot.yaml").write_text(told)
    assert read_modality_config(tmp_path / "robot.yaml", "gr1") == robot
    short = {kind: {"modality_keys": getattr(robot, kind).modality_keys} for kind in ("video", "state", "action")}
    (tmp_path / "short.yaml").write_text(json.dumps(short | {"language": {"modality_keys": ["annotation.text"]}}))
    found = read_modality_config(tmp_path / "short.yaml", "gr1")
    assert (found.action.horizon, found.state.delta_indices) == (16, (0,))
    (tmp_path / "tagged.yaml").write_text(yaml.safe_dump({"NEW_EMBODIMENT": yaml.safe_load(as_yaml(robot))}))
    assert read_modality_config(tmp_path / "tagged.yaml", "new_embodiment") == robot


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (REGISTRY.replace("list(range(0, 8))", "open('/etc/passwd').read()"), "read, not run"),
        (REGISTRY.replace("list(range(0, 8))", "list(range(10**9))"), "read, not run"),
        (REGISTRY.replace("register_modality_config(", "print("), "no register_modality_config"),
        (REGISTRY.replace("EmbodimentTag.NEW_EMBODIMENT", "EmbodimentTag.GR1"), "--embodiment-tag gr1"),
        ("x = (", "broken Python"),
    ],
)
def test_a_registry_that_would_have_to_run_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "robot.py").write_text(text)
    with pytest.raises(ConfigError) as refusal:
        read_modality_config(tmp_path / "robot.py", "new_embodiment")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_robot_that_cannot_be_read_leaves_no_run_behind(
    tmp_path: Path, small_kitchen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"train --dataset-path {small_kitchen} --modality-config-path no.yaml --output-dir {tmp_path / 'run'}"
    assert "no.yaml" in refused(line, capsys)
    assert not (tmp_path / "run").exists()


def test_a_modality_config_decides_what_the_policy_sees_and_does(tmp_path: Path, small_kitchen: Path) -> None:
    plain = Experiment.prepare(small_kitchen)
    robot = plain.processor.config.embodiment
    asked = yaml.safe_load(as_yaml(robot))
    asked["state"]["modality_keys"] = asked["state"]["modality_keys"][:2]
    asked["action"]["delta_indices"] = [0, 1, 2, 3]
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(asked))
    for base in (None, shipped("tiny_base")):
        made = Experiment.prepare(small_kitchen, base=base, modality_config=tmp_path / "robot.yaml")
        assert made.processor.codec.horizon == 4
        assert made.processor.config.embodiment.state.modality_keys == robot.state.modality_keys[:2]
        assert made.samples(train=True)[0].action_mask.sum(0).max() == 4
    asked["state"]["modality_keys"] = ["tail"]
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(asked))
    with pytest.raises(ValueError, match=r"found tail, but need state keys among .*gripper_qpos"):
        Experiment.prepare(small_kitchen, modality_config=tmp_path / "robot.yaml")


def test_jitter_and_rotation_reach_the_pictures(small_kitchen: Path) -> None:
    still = {"brightness": 0.0}
    images = Experiment.prepare(small_kitchen, color_jitter_params=still).processor.config.images
    drawn = [images.draw(np.random.default_rng(n)) for n in range(5)]
    assert {(d.brightness, d.contrast, d.saturation, d.hue, d.angle) for d in drawn} == {(1.0, 1.0, 1.0, 0.0, 0.0)}
    images = Experiment.prepare(small_kitchen, random_rotation_angle=7.0).processor.config.images
    assert max(abs(images.draw(np.random.default_rng(n)).angle) for n in range(50)) > 5
    assert images.jitter == PRESETS["tiny"].images.jitter
