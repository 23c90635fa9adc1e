"""The report says exactly how much a base's statistics would cut off, and names what it never saw move."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omron_dataset import write_omron

from svms_gr00t.cli.main import parse
from svms_gr00t.core.errors import DataError
from svms_gr00t.data.doctor.compatibility import compare_with_base
from svms_gr00t.data.lerobot.dataset import LeRobotDataset
from svms_gr00t.data.processor.config import ProcessorConfig
from svms_gr00t.data.processor.embodiment import EMBODIMENT_IDS, EmbodimentConfig, from_modality
from svms_gr00t.data.processor.processor import Processor
from svms_gr00t.data.processor.relative import with_relative
from svms_gr00t.data.processor.statistics import compute_statistics
from svms_gr00t.data.processor.tokenizer import load_tokenizer


@pytest.fixture
def dataset(tmp_path: Path) -> LeRobotDataset:
    return LeRobotDataset.open(write_omron(tmp_path / "set", episodes=3))


def parts(dataset: LeRobotDataset) -> tuple[EmbodimentConfig, dict[str, Any]]:
    embodiment = with_relative(from_modality(dataset.modality, horizon=4), ["base_motion=base_rotation"])
    return embodiment, copy.deepcopy(dict(compute_statistics(dataset, embodiment=embodiment)))


def test_its_own_statistics_fit(dataset: LeRobotDataset) -> None:
    report = compare_with_base(dataset, *parts(dataset))
    assert report.fits
    assert report.findings == ()
    assert max(element.clipped for element in report.elements) == 0
    moving = [element for element in report.elements if not element.constant]
    assert all(element.used == pytest.approx(1) for element in moving)


def test_the_clip_share_is_counted_over_all_values(dataset: LeRobotDataset) -> None:
    embodiment, base = parts(dataset)
    rows = np.concatenate([dataset.lowdim(e.index)["action.end_effector_position"] for e in dataset.episodes])
    base["action"]["end_effector_position"] |= {"min": [-0.5] * 3, "max": [0.25] * 3}
    expected = ((rows < -0.5) | (rows > 0.25)).mean(axis=0)
    report = compare_with_base(dataset, embodiment, base)
    got = [element.clipped for element in report.elements if element.key == "action.end_effector_position"]
    np.testing.assert_allclose(got, expected)
    assert [finding.check for finding in report.findings] == ["clipped"]
    assert f"{expected.max():.1%} of element {expected.argmax()}" in report.findings[0].found
    assert report.fits


def test_relative_actions_are_judged_at_their_own_horizon_step(dataset: LeRobotDataset) -> None:
    embodiment, base = parts(dataset)
    own = base["relative_action"]["base_motion"]
    own["max"][3][1] = own["min"][3][1] = own["mean"][3][1]  # only the last step, only one element
    report = compare_with_base(dataset, embodiment, base)
    clipped = {e.element: e.clipped for e in report.elements if e.key == "relative_action.base_motion"}
    steps = [sum(e.length - h for e in dataset.episodes) for h in range(4)]
    assert clipped[1] == pytest.approx(steps[3] / sum(steps), rel=0.05)
    assert clipped[0] == clipped[2] == 0


@pytest.mark.parametrize(
    ("edit", "check", "severity", "text"),
    [
        (
            lambda base: base["action"]["control_mode"].update(min=[0.0], max=[1.0]),
            "coding",
            "error",
            "coded -1/1 in the data, 0/1 in the base",
        ),
        (
            lambda base: base["action"]["end_effector_rotation"].update(min=[0.0] * 3, max=[0.0] * 3),
            "constant",
            "error",
            "elements 0, 1, 2 move in the data",
        ),
        (
            lambda base: base["state"]["base_position"].update(min=[-9e3] * 3, max=[9e3] * 3),
            "unused",
            "warning",
            "0.0% of the base's range",
        ),
        (lambda base: base["state"].pop("gripper_qpos"), "keys", "error", "the base has no statistics"),
        (
            lambda base: base["state"]["gripper_qpos"].update(min=[0.0], max=[1.0]),
            "keys",
            "error",
            "2 numbers in the data, 1 in the base",
        ),
    ],
)
def test_what_does_not_fit_is_named(dataset: LeRobotDataset, edit: Any, check: str, severity: str, text: str) -> None:
    embodiment, base = parts(dataset)
    edit(base)
    report = compare_with_base(dataset, embodiment, base)
    assert [(finding.check, finding.severity) for finding in report.findings] == [(check, severity)]
    assert text in report.findings[0].found
    assert report.findings[0].todo
    assert report.fits == (severity != "error")


def test_the_command_reads_a_checkpoints_own_statistics(
    dataset: LeRobotDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embodiment, base = parts(dataset)
    config = ProcessorConfig(embodiment_tag="new_embodiment", embodiments={"new_embodiment": embodiment})
    base["action"]["end_effector_position"] |= {"max": [0.5, 1.0, 1.0]}
    Processor(config, load_tokenizer("tiny"), base).save(tmp_path / "base")
    command = ["data", "statistics", str(dataset.root), "--base", str(tmp_path / "base")]
    assert parse([*command, "--output", str(tmp_path / "report.json")]).run() == 0
    shown = capsys.readouterr().out
    assert "fits" in shown
    assert "of element 0 lie outside the base's range" in shown
    assert json.loads((tmp_path / "report.json").read_text())["findings"][0]["check"] == "clipped"
    base["action"]["control_mode"] |= {"min": [0.0]}
    Processor(config, load_tokenizer("tiny"), base).save(tmp_path / "base")
    assert parse(command).run() == 1
    with pytest.raises(DataError, match="no such file"):
        parse(["data", "statistics", str(dataset.root), "--base", str(tmp_path)]).run()


def test_a_base_of_several_robots_is_read_for_the_one_whose_keys_the_dataset_has(
    dataset: LeRobotDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The released checkpoint knows three; the tutorial's third step names none."""
    embodiment, base = parts(dataset)
    arm = {"modality_keys": ["left_arm"], "delta_indices": [0]}
    other = EmbodimentConfig.from_dict({"video": arm, "state": arm, "action": arm, "language": arm}, "gr1")
    robots = {"gr1": other, "robocasa_panda_omron": embodiment, "new_embodiment": other}
    config = ProcessorConfig(embodiment_tag="robocasa_panda_omron", embodiments=robots)
    Processor(config, load_tokenizer("tiny"), base).save(tmp_path / "base")
    file = tmp_path / "base" / "processor_config.json"
    released = json.loads(file.read_text()) | {"svms": {}}  # N1.6 names no robot at work
    file.write_text(json.dumps(released))
    command = ["data", "statistics", str(dataset.root), "--base", str(tmp_path / "base")]
    assert parse(command).run() == 0
    assert "(robocasa_panda_omron): fits" in capsys.readouterr().out
    with pytest.raises(DataError, match="statistics of gr1"):
        parse([*command, "--embodiment-tag", "gr1"]).run()
    twins = released["processor_kwargs"]["modality_configs"]
    twins["new_embodiment"] = twins["robocasa_panda_omron"]
    file.write_text(json.dumps(released))
    with pytest.raises(DataError, match=r"several embodiments.*robocasa_panda_omron"):
        parse(command).run()
    del twins["new_embodiment"], twins["robocasa_panda_omron"]
    twins["behavior_r1_pro"] = twins["gr1"]
    file.write_text(json.dumps(released))
    with pytest.raises(DataError, match="several embodiments"):
        parse(command).run()


def test_the_rows_of_the_released_checkpoint() -> None:
    assert EMBODIMENT_IDS["oxe_droid"] == 16
    assert len(set(EMBODIMENT_IDS.values())) == len(EMBODIMENT_IDS)
    assert {tag: EMBODIMENT_IDS[tag] for tag in ("oxe_google", "oxe_widowx", "libero_panda", "unitree_g1")} == {
        "oxe_google": 0,
        "oxe_widowx": 1,
        "libero_panda": 2,
        "unitree_g1": 8,
    }
    assert (EMBODIMENT_IDS["gr1"], EMBODIMENT_IDS["behavior_r1_pro"], EMBODIMENT_IDS["new_embodiment"]) == (20, 24, 10)


def test_percentiles_of_its_own_data_fit_but_for_what_they_remove(dataset: LeRobotDataset, tmp_path: Path) -> None:
    report = compare_with_base(dataset, *parts(dataset), use_percentiles=True)
    assert max(element.clipped for element in report.elements) > 0.01  # that is what percentiles are for
    assert max(element.foreign for element in report.elements) == 0
    assert report.findings == ()

    def once(index: int, columns: dict[str, np.ndarray], _videos: Any) -> None:
        columns["action"][:, 0:4] = 0
        columns["action"][3, 1] = 0.5 if index == 0 else 0

    rare = LeRobotDataset.open(write_omron(tmp_path / "rare", episodes=8, change=once))
    robot = from_modality(rare.modality, horizon=4)
    statistics = compute_statistics(rare)
    (lost,) = compare_with_base(rare, robot, statistics, use_percentiles=True).findings
    assert (lost.severity, lost.check, lost.where) == ("error", "percentiles", "action.base_motion")
    assert "motion of element 1 in 0.42% of the steps" in lost.found
    assert compare_with_base(rare, robot, statistics).findings == ()
